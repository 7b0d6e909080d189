"""A DeepSpeed engine behind the trainer's `Engine`: ZeRO 0-3, on CPU or GPU."""

import copy
import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from graphdrl.training import OptimizerSettings, frozen_weights

_TAG = "engine"
_UNIVERSAL = "universal"
_LARGEST_BUCKET = 500_000_000
"""Gradients that ZeRO sends at once; DeepSpeed's default."""


def deepspeed_config(
    *, zero_stage: int, batch_size: int, clip_norm: float, num_weights: int, universal: bool = False
) -> dict[str, Any]:
    """DeepSpeed's configuration as a function of ours; imports nothing.

    batch_size: images of one rank's step, which DeepSpeed wants to know for its own throughput figures.
    num_weights: of the module. ZeRO makes its buffer of gradients anew at every step: a small model needs no large one.
    universal: load from a checkpoint that was converted for another number of workers.
    """
    return {
        "train_micro_batch_size_per_gpu": batch_size,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": clip_norm,
        "zero_optimization": {"stage": zero_stage, "reduce_bucket_size": min(num_weights, _LARGEST_BUCKET)},
        "zero_allow_untested_optimizer": True,
        "checkpoint": {"load_universal": universal},
    }


def _import_deepspeed() -> Any:
    if not torch.cuda.is_available():
        os.environ["DS_ACCELERATOR"] = "cpu"
    import deepspeed

    # Compiling the shared-memory collective takes over a minute of C++; gloo does the same work here.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    return deepspeed


class DeepSpeedEngine:
    """One optimised module; the process group exists already (Ray Train made it)."""

    def __init__(self, module: nn.Module, settings: OptimizerSettings, *, zero_stage: int, batch_size: int) -> None:
        self._settings, self._zero_stage, self._batch_size = settings, zero_stage, batch_size
        # ZeRO flattens the weights as bytes, which channels-last strides do not allow; images may stay channels last.
        self._module = module.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        # Under ZeRO-3 the module itself lets go of its weights after every pass, also of those gathered for it: what is
        # evaluated and saved is a copy that shares its buffers, and has weights while `gathered` lasts.
        self._whole = copy.deepcopy(self._module) if zero_stage == 3 else None
        self._num_weights = sum(weight.numel() for weight in self._module.parameters())  # ZeRO-3 will empty them
        self._engine = self._initialize(universal=False)

    def _initialize(self, universal: bool) -> Any:
        deepspeed = _import_deepspeed()
        settings = self._settings
        engine, *_ = deepspeed.initialize(
            model=self._module,
            optimizer=settings.optimizer(self._module),
            lr_scheduler=settings.scheduler,
            config=deepspeed_config(
                zero_stage=self._zero_stage,
                batch_size=self._batch_size,
                clip_norm=settings.clip_norm,
                num_weights=self._num_weights,
                universal=universal,
            ),
            dist_init_required=False,
        )
        return engine

    @property
    def module(self) -> nn.Module:
        return self._engine.module

    def __call__(self, *args: Any) -> Any:
        return self._engine(*args)

    def frozen(self) -> AbstractContextManager[nn.Module]:
        # The plain module: the engine itself would count the generator's pass as one of its own.
        return frozen_weights(self._engine.module)

    @contextmanager
    def gathered(self) -> Iterator[nn.Module]:
        module = self._engine.module
        if self._whole is None:
            yield module
            return
        with _import_deepspeed().zero.GatheredParameters(list(module.parameters())):
            for mine, gathered in zip(self._whole.parameters(), module.parameters(), strict=True):
                mine.data = gathered.data.clone()
        for mine, theirs in zip(self._whole.modules(), module.modules(), strict=True):
            mine._buffers.update(theirs._buffers)
        try:
            yield self._whole
        finally:
            for parameter in self._whole.parameters():
                parameter.data = torch.empty(0)

    def backward(self, loss: torch.Tensor) -> None:
        self._engine.backward(loss)

    def step(self) -> None:
        self._engine.step()

    def save(self, folder: Path) -> None:
        self._engine.save_checkpoint(str(folder), tag=_TAG, save_latest=False)

    def load(self, folder: Path) -> None:
        """Take over what any number of workers saved at the same ZeRO stage; 1 and 2 read each other's.

        Raises ValueError when `folder` was not written by this engine, or at another stage.
        """
        if not (folder / _TAG).exists():
            raise ValueError(f"{folder} holds no DeepSpeed checkpoint; resume it with the backend that wrote it")
        stages = _stages(folder / _TAG)
        if self._zero_stage not in stages:
            # The universal form has one file a weight, and yet DeepSpeed reads it only where it splits them alike.
            raise ValueError(
                f"the checkpoint {folder} was written at ZeRO stage {' or '.join(map(str, stages))}, which stage "
                f"{self._zero_stage} cannot read: go on with training.zero_stage={stages[0]}"
            )
        saved = list((folder / _TAG).glob("*_optim_states.pt"))
        if self._zero_stage == 0 or len(saved) == torch.distributed.get_world_size():
            self._engine.load_checkpoint(str(folder), tag=_TAG)
            return
        # ZeRO's shards of another number of workers.
        _convert_once(folder)
        self._engine.destroy()  # or its hooks would go on taking the gradients away
        self._engine = self._initialize(universal=True)
        self._engine.load_checkpoint(str(folder), tag=_UNIVERSAL)


def _stages(saved: Path) -> tuple[int, ...]:
    """The ZeRO stages that write such files: 0 keeps no optimiser apart, 3 has shards of the weights too."""
    if not any(saved.glob("*_optim_states.pt")):
        return (0,)
    return (3,) if any(saved.glob("zero_pp_rank_*_model_states.pt")) else (1, 2)


def _convert_once(folder: Path) -> None:
    """Let one of the ranks that see this folder convert it, and the others wait for that."""
    with open(folder / f".{_UNIVERSAL}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / _UNIVERSAL).exists():
            _convert(folder)


def _convert(folder: Path) -> None:
    """Write the universal form of a checkpoint beside it, all of it or nothing."""
    partial = folder / f".{_UNIVERSAL}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    command = [
        *(sys.executable, "-m", "deepspeed.checkpoint.ds_to_universal", "--inject_missing_state"),
        *("--input_folder", str(folder / _TAG), "--output_folder", str(partial)),
    ]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        cause = (done.stderr.strip().splitlines() or ["it gave no reason"])[-1]
        raise ValueError(
            f"the checkpoint {folder} cannot be converted for another number of workers ({cause}); "
            "resume it with as many workers as wrote it"
        )
    partial.rename(folder / _UNIVERSAL)
