"""All the Ray Train wiring, in one short file."""

import logging
import os
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray.train
from ray.exceptions import ActorUnavailableError, RayActorError
from ray.train import FailureConfig, RunConfig, ScalingConfig, UserCallback
from ray.train.torch import TorchConfig, TorchTrainer

from graphdrl.distributed.placement import Placement
from graphdrl.oracle import OracleError
from graphdrl.storage import Place
from graphdrl.storage.files import RemoteFolder, open_filesystem

logger = logging.getLogger(__name__)

_START_WITHIN_S = 30
_MOST_STARTS = {"fixed": 10, "elastic": 2}
"""Ray Train would try without end to start workers for which there is no room."""

_CHECKPOINTS_OF_RAY = "checkpoint_manager_snapshot.json"


def fit(
    worker: Callable[[dict[str, Any]], None],
    arguments: dict[str, Any],
    *,
    folder: Place,
    placement: Placement,
    cpus_per_worker: float,
    min_workers: int | None = None,
    max_failures: int = 3,
    callbacks: Sequence[UserCallback] = (),
) -> None:
    """Run `worker(arguments)` on every rank to its end; when a rank dies, all begin again from the last checkpoint.

    folder: the run's, absolute or an address; checkpoints that the workers report lie below it, and Ray Train's own
    books too.
    min_workers: begin again with so few where there is no room for more, and with more when there is; None: with all.
    max_failures: how often.
    callbacks: told of every report, in the process that manages the workers.
    Raises RuntimeError with the worker's own sentence when it fails for good.
    """
    # A lost node still counts as room for some seconds: workers meant for it are given up soon, and asked for anew.
    os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", str(_START_WITHIN_S))
    crew, failures = _Crew(placement, cpus_per_worker, min_workers), 0
    while True:
        # Ray refuses to start when a checkpoint on its list is gone; we keep the newest alone, and find them on disk.
        _forget_checkpoints(folder)
        try:
            _trainer(worker, arguments, folder, crew, callbacks).fit()
            return
        except ray.train.TrainingFailedError as error:
            smaller = crew.without_room() if isinstance(error, ray.train.ControllerError) else None
            if smaller is not None:
                logger.warning("there is no room for %d workers now; at most %d go on", crew.most, smaller.most)
                crew = smaller
                continue
            failures += 1
            if failures > max_failures or _is_final(error):
                raise RuntimeError(_sentence(error, crew)) from error
            logger.warning(
                "training was interrupted and begins again from the last checkpoint (%d of at most %d times): %s",
                *(failures, max_failures, _sentence(error, crew)),
            )


@dataclass(frozen=True)
class _Crew:
    """The workers of a training: at most as many as were placed, at least `fewest`; None: exactly as many."""

    placement: Placement
    cpus: float
    fewest: int | None

    @property
    def most(self) -> int:
        return self.placement.num_workers

    @property
    def num_workers(self) -> int | tuple[int, int]:
        """As Ray Train takes it."""
        return self.most if self.fewest is None else (min(self.fewest, self.most), self.most)

    @property
    def resources(self) -> dict[str, float]:
        """Of one worker."""
        gpus = {"GPU": self.placement.gpus_per_worker} if self.placement.use_gpu else {}
        return {"CPU": self.cpus, **self.placement.worker_resources, **gpus}

    @property
    def most_starts(self) -> int:
        return _MOST_STARTS["fixed" if self.fewest is None else "elastic"]

    def without_room(self) -> "_Crew | None":
        """As many as there is room for now; None when they may not be fewer.

        Ray Train counts what nodes have, and not what others than trainings take of it, such as the oracle.
        """
        if self.fewest is None or self.most <= self.fewest:
            return None
        free = ray.available_resources()
        room = min(int(free.get(name, 0.0) // amount) for name, amount in self.resources.items() if amount)
        fewer = max(self.fewest, min(self.most - 1, room))
        return replace(self, placement=replace(self.placement, num_workers=fewer))

    def no_room(self) -> str:
        need = " and ".join(f"{amount:g} {name}" for name, amount in self.resources.items())
        fewer = "set training.min_workers" if self.fewest is None else "lower training.min_workers"
        return (
            f"no room for {self.most} workers with {need} each was found in {self.most_starts * _START_WITHIN_S} s: "
            f"lower training.num_workers or training.cpus_per_worker, {fewer}, or add nodes, and go on with --resume"
        )


def _trainer(
    worker: Callable[[dict[str, Any]], None],
    arguments: dict[str, Any],
    folder: Place,
    crew: _Crew,
    callbacks: Sequence[UserCallback],
) -> TorchTrainer:
    use_gpu = crew.placement.use_gpu
    return TorchTrainer(
        worker,
        train_loop_config=arguments,
        scaling_config=ScalingConfig(
            num_workers=crew.num_workers, use_gpu=use_gpu, resources_per_worker=crew.resources
        ),
        torch_config=TorchConfig(backend="nccl" if use_gpu else "gloo"),
        # Restarts are ours: Ray would also repeat, three times, an error that can only come again.
        run_config=RunConfig(
            name=folder.name,
            **_storage(folder.parent),
            failure_config=FailureConfig(max_failures=0, controller_failure_limit=crew.most_starts),
            callbacks=list(callbacks),
        ),
    )


def _storage(runs: Place) -> dict[str, Any]:
    """Ray Train's books lie beside the run: a node that finds the one finds the other."""
    if isinstance(runs, Path):
        return {"storage_path": str(runs)}
    filesystem, path = open_filesystem(runs)
    return {"storage_path": path, "storage_filesystem": filesystem}


def _forget_checkpoints(folder: Place) -> None:
    if isinstance(folder, Path):
        (folder / _CHECKPOINTS_OF_RAY).unlink(missing_ok=True)
        return
    with suppress(FileNotFoundError):
        RemoteFolder(folder).delete(_CHECKPOINTS_OF_RAY)


def _is_final(error: ray.train.TrainingFailedError) -> bool:
    """Whether a worker ended by an error that a restart would only repeat: bad input, an oracle that cannot answer."""
    failures = getattr(error, "worker_failures", {}).values()
    causes = [getattr(failure, "cause", failure) for failure in failures]
    return any(isinstance(cause, (ValueError, TypeError, ImportError, OracleError)) for cause in causes)


def _sentence(error: ray.train.TrainingFailedError, crew: _Crew) -> str:
    """Why training ended; Ray Train's own words for a lack of room speak of its settings, not of ours."""
    if isinstance(error, ray.train.ControllerError):
        return crew.no_room()
    failures = getattr(error, "worker_failures", {})
    lost = sorted(rank for rank, cause in failures.items() if isinstance(cause, (RayActorError, ActorUnavailableError)))
    if lost:
        return f"worker {', '.join(map(str, lost))} was lost with its process or its node"
    return last_sentence(error)


def last_sentence(error: BaseException) -> str:
    """The sentence that a worker ended with: the last line of its traceback, without the name of the exception."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    return re.sub(r"^[\w.]+(Error|Busy|DiskFull): ", "", lines[-1])
