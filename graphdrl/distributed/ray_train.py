"""All the Ray Train wiring, in one short file."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ray.train
from ray.train import FailureConfig, RunConfig, ScalingConfig, UserCallback
from ray.train.torch import TorchConfig, TorchTrainer

from graphdrl.distributed.placement import Placement
from graphdrl.oracle import OracleError

_CHECKPOINTS_OF_RAY = "checkpoint_manager_snapshot.json"


def fit(
    worker: Callable[[dict[str, Any]], None],
    arguments: dict[str, Any],
    *,
    folder: Path,
    placement: Placement,
    cpus_per_worker: float,
    min_workers: int | None = None,
    max_failures: int = 3,
    callbacks: Sequence[UserCallback] = (),
) -> None:
    """Run `worker(arguments)` on every rank to its end; when a rank dies, all begin again from the last checkpoint.

    folder: the run's, absolute; checkpoints that the workers report lie below it, and Ray Train's own books too.
    min_workers: begin again with so few where there is no room for more, and with more when there is; None: with all.
    max_failures: how often.
    callbacks: told of every report, in the process that manages the workers.
    Raises RuntimeError with the worker's own sentence when it fails for good.
    """
    use_gpu, most = placement.use_gpu, placement.num_workers
    resources = {"CPU": cpus_per_worker} | ({"GPU": placement.gpus_per_worker} if use_gpu else {})
    trainer = TorchTrainer(
        worker,
        train_loop_config=arguments,
        scaling_config=ScalingConfig(
            num_workers=(min(min_workers, most), most) if min_workers is not None else most,
            use_gpu=use_gpu,
            resources_per_worker=resources,
        ),
        torch_config=TorchConfig(backend="nccl" if use_gpu else "gloo"),
        # Restarts are ours (below): Ray would also repeat, three times, an error that can only come again.
        run_config=RunConfig(
            name=folder.name,
            storage_path=str(folder.parent),
            failure_config=FailureConfig(max_failures=0),
            callbacks=list(callbacks),
        ),
    )
    for attempt in range(max_failures + 1):
        # Ray refuses to start when a checkpoint on its list is gone; we keep the newest alone, and find them on disk.
        (folder / _CHECKPOINTS_OF_RAY).unlink(missing_ok=True)
        try:
            trainer.fit()
            return
        except ray.train.TrainingFailedError as error:
            if attempt == max_failures or _is_final(error):
                raise RuntimeError(last_sentence(error)) from error


def _is_final(error: ray.train.TrainingFailedError) -> bool:
    """Whether a worker ended by an error that a restart would only repeat: bad input, an oracle that cannot answer."""
    failures = getattr(error, "worker_failures", {}).values()
    causes = [getattr(failure, "cause", failure) for failure in failures]
    return any(isinstance(cause, (ValueError, TypeError, ImportError, OracleError)) for cause in causes)


def last_sentence(error: BaseException) -> str:
    """The sentence that a worker ended with: the last line of its traceback, without the name of the exception."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    return re.sub(r"^[\w.]+(Error|Busy|DiskFull): ", "", lines[-1])
