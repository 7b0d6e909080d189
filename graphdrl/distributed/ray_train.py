"""All the Ray Train wiring, in one short file."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray
import ray.train
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer


def fit(
    worker: Callable[[dict[str, Any]], None],
    arguments: dict[str, Any],
    *,
    storage: Path,
    num_workers: int,
    cpus_per_worker: float,
    use_gpu: bool,
    max_failures: int = 2,
) -> None:
    """Run `worker(arguments)` on every rank to its end; a rank that dies is restarted from the last checkpoint.

    storage: folder for Ray Train's own bookkeeping.
    Raises RuntimeError with the worker's own sentence when it fails for good.
    """
    resources = {"CPU": cpus_per_worker} | ({"GPU": 1.0} if use_gpu else {})
    trainer = TorchTrainer(
        worker,
        train_loop_config=arguments,
        scaling_config=ScalingConfig(num_workers=num_workers, use_gpu=use_gpu, resources_per_worker=resources),
        torch_config=TorchConfig(backend="nccl" if use_gpu else "gloo"),
        run_config=RunConfig(
            name="ray_train", storage_path=str(storage), failure_config=FailureConfig(max_failures=max_failures)
        ),
    )
    try:
        trainer.fit()
    except ray.train.TrainingFailedError as error:
        raise RuntimeError(last_sentence(error)) from error


def last_sentence(error: BaseException) -> str:
    """The last line of a remote traceback: the sentence that a worker ended with."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
