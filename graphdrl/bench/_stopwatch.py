"""Where a step's time goes: functions of the real training, watched from outside and only in a benchmark's process."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import wraps
from typing import Any

import torch
import torch.distributed as dist
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

import graphdrl.training.loop as loop
from graphdrl.training import Batches, LiveSchedule, RecordedSchedule, Training

COLLECTIVES = ("all_reduce", "reduce", "all_gather_into_tensor", "all_gather", "reduce_scatter_tensor", "broadcast")


@dataclass
class Stopwatch:
    """Seconds by part, each without the parts inside it; bytes and number of the collectives; seconds of each step."""

    seconds: dict[str, float] = field(default_factory=dict)
    moved: dict[str, int] = field(default_factory=dict)
    num_collectives: int = 0
    steps: list[float] = field(default_factory=list)
    _open: list[str] = field(default_factory=list)
    _since: float = 0.0

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        self._charge()
        self._open.append(name)
        try:
            yield
        finally:
            self._charge()
            self._open.pop()

    def read(self) -> dict[str, Any]:
        """What was measured since it was read last."""
        figures = {
            "seconds": dict(self.seconds),
            "moved": dict(self.moved),
            "num_collectives": self.num_collectives,
            "steps": list(self.steps),
        }
        self.seconds.clear()
        self.moved.clear()
        self.steps.clear()
        self.num_collectives = 0
        return figures

    def _charge(self) -> None:
        now = time.perf_counter()
        if self._open:
            self.seconds[self._open[-1]] = self.seconds.get(self._open[-1], 0.0) + now - self._since
        self._since = now

    # What is watched ------------------------------------------------------------------------------------------------

    def watch_steps(self) -> None:
        """Each step's passes and updates, not the log that ends a turn by waiting; costs two looks at the clock."""

        def around(step: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
            began = time.perf_counter()
            made = step(*arguments, **named)
            self.steps.append(time.perf_counter() - began)
            return made

        _wrap(loop, "train_step", around)

    def watch_parts(self, engine: type) -> None:
        """data, edges, compute, and the optimiser's step; `engine`: the class of the engines."""
        for owner, name, part in (
            (Batches, "at", "data"),
            (LiveSchedule, "version_at", "edges"),
            (RecordedSchedule, "version_at", "edges"),
            (Training, "_take_version", "edges"),
            (loop, "train_step", "compute"),
            (engine, "step", "optimizer"),
        ):
            _wrap(owner, name, self._around(part))

    def watch_collectives(self) -> None:
        """all_reduce: what DeepSpeed sends; waiting: before it, until every rank has come."""
        import deepspeed.comm.comm as comm

        for name in COLLECTIVES:
            _wrap(comm.cdb, name, self._around_collective(name))

    def _around(self, part: str) -> Callable[..., Any]:
        def around(function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
            with self.part(part):
                return function(*arguments, **named)

        return around

    def _around_collective(self, kind: str) -> Callable[..., Any]:
        def around(function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
            with self.part("waiting"):
                dist.barrier()
            with self.part("all_reduce"):
                handle = function(*arguments, **named)
                if handle is not None:  # an asynchronous one
                    handle.wait()
            tensor = next(value for value in (*arguments, *named.values()) if isinstance(value, torch.Tensor))
            self.moved[kind] = self.moved.get(kind, 0) + tensor.numel() * tensor.element_size()
            self.num_collectives += 1
            return handle

        return around


class Work:
    """Floating-point operations and kernels of the training steps, counted in the forward and the backward pass."""

    def __init__(self) -> None:
        self.flops = self.operations = self.steps = 0

    def watch(self) -> None:
        def around(step: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
            with _Operations() as operations, FlopCounterMode(display=False) as flops:
                made = step(*arguments, **named)
            self.flops += flops.get_total_flops()
            self.operations += operations.number
            self.steps += 1
            return made

        _wrap(loop, "train_step", around)

    def read(self) -> dict[str, float]:
        """Of a step."""
        return {"flops": self.flops / self.steps, "operations": self.operations / self.steps}


class _Operations(TorchDispatchMode):
    """Counts what would be a kernel: every operation but views."""

    number = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.number += not function.is_view
        return function(*args, **(kwargs or {}))


def _wrap(owner: Any, name: str, around: Callable[..., Any]) -> None:
    function = getattr(owner, name)
    setattr(owner, name, wraps(function)(lambda *arguments, **named: around(function, *arguments, **named)))
