"""An optimised module behind one small wall: plain torch here, DeepSpeed at the edge."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn
from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR


@dataclass(frozen=True)
class OptimizerSettings:
    """Adam under a one-cycle schedule.

    learning_rate: the peak; total_steps: length of the cycle in optimiser steps; clip_norm: 0 does not clip.
    """

    learning_rate: float
    total_steps: int
    warmup_share: float = 0.1
    clip_norm: float = 0.0

    def optimizer(self, module: nn.Module) -> Adam:
        return Adam(module.parameters(), lr=self.learning_rate)

    def scheduler(self, optimizer: Optimizer) -> LRScheduler:
        # One step more than is taken: the schedule raises when asked past its end.
        return OneCycleLR(
            optimizer, max_lr=self.learning_rate, total_steps=self.total_steps + 1, pct_start=self.warmup_share
        )


class Engine(Protocol):
    """A module with its optimiser."""

    def __call__(self, *args: Any) -> Any: ...

    def frozen(self) -> AbstractContextManager[nn.Module]:
        """The plain module without gradients for its weights: the critic inside the generator's pass."""
        ...

    def gathered(self) -> AbstractContextManager[Any]:
        """The plain module with whole parameters, for evaluation, for saving, and to set its buffers; collective."""
        ...

    def backward(self, loss: torch.Tensor) -> None: ...

    def step(self) -> None: ...

    def save(self, folder: Path) -> None:
        """Write all that `load` needs into `folder`; collective."""
        ...

    def load(self, folder: Path) -> None: ...


@contextmanager
def frozen_weights(module: nn.Module) -> Iterator[nn.Module]:
    """The module with `requires_grad` off for its weights; gradients still flow to its inputs."""
    module.requires_grad_(False)
    try:
        yield module
    finally:
        module.requires_grad_(True)


class LocalEngine:
    """Plain torch: one process, one device."""

    def __init__(self, module: nn.Module, settings: OptimizerSettings) -> None:
        self.module = module
        self._settings = settings
        self._optimizer = settings.optimizer(module)
        self._scheduler = settings.scheduler(self._optimizer)

    def __call__(self, *args: Any) -> Any:
        return self.module(*args)

    def frozen(self) -> AbstractContextManager[nn.Module]:
        return frozen_weights(self.module)

    @contextmanager
    def gathered(self) -> Iterator[nn.Module]:
        yield self.module

    def backward(self, loss: torch.Tensor) -> None:
        loss.backward()

    def step(self) -> None:
        if self._settings.clip_norm:
            nn.utils.clip_grad_norm_(self.module.parameters(), self._settings.clip_norm)
        self._optimizer.step()
        self._scheduler.step()
        self._optimizer.zero_grad(set_to_none=True)

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        state = {
            "module": self.module.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "scheduler": self._scheduler.state_dict(),
        }
        torch.save(state, folder / "engine.pt")

    def load(self, folder: Path) -> None:
        path = folder / "engine.pt"
        if not path.exists():
            raise ValueError(f"{folder} holds no checkpoint of a local run; resume it with the backend that wrote it")
        state = torch.load(path, map_location="cpu", weights_only=True)
        self.module.load_state_dict(state["module"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._scheduler.load_state_dict(state["scheduler"])
