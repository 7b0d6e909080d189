"""One Ray Train worker as the training loop's context."""

from collections.abc import Callable
from pathlib import Path

import ray.train
import torch
import torch.distributed as dist
from ray.train import Checkpoint, CheckpointUploadMode


class RayContext:
    """Rank, device and agreement from Ray Train's process group; see `graphdrl.training.TrainContext`."""

    def __init__(self, resume_from: Path | None = None) -> None:
        worker = ray.train.get_context()
        self.rank = worker.get_world_rank()
        self.local_rank = worker.get_local_rank()
        self.world_size = worker.get_world_size()
        self.device = ray.train.torch.get_device()
        self.resume_from = resume_from

    def begin_min(self, value: int) -> Callable[[], int]:
        smallest = torch.tensor(value, device=self.device)
        work = dist.all_reduce(smallest, dist.ReduceOp.MIN, async_op=True)

        def agreed() -> int:
            work.wait()
            return int(smallest)

        return agreed

    def agree_any(self, flag: bool) -> bool:
        return bool(self._reduce(torch.tensor(int(flag)), dist.ReduceOp.MAX))

    def mean(self, values: torch.Tensor) -> torch.Tensor:
        return self._reduce(values.detach().clone(), dist.ReduceOp.SUM) / self.world_size

    def report(self, metrics: dict[str, float], checkpoint: Path | None) -> None:
        """A barrier. The checkpoint lies where the run is kept already, so nothing is uploaded."""
        plain = {name: float(value) for name, value in metrics.items()}
        if checkpoint is None:
            ray.train.report(plain)
            return
        ray.train.report(
            plain,
            checkpoint=_as_kept(checkpoint),
            checkpoint_upload_mode=CheckpointUploadMode.NO_UPLOAD,
        )

    def _reduce(self, value: torch.Tensor, operation: dist.ReduceOp.RedOpType) -> torch.Tensor:
        value = value.to(self.device)
        dist.all_reduce(value, operation)
        return value.cpu()


def _as_kept(folder: Path) -> Checkpoint:
    """The checkpoint where other machines see it: Ray Train's storage is the run's."""
    storage = ray.train.get_context().get_storage()
    if not storage.custom_fs_provided:
        return Checkpoint.from_directory(folder)
    path = f"{storage.experiment_fs_path}/{folder.parent.name}/{folder.name}"
    return Checkpoint(path, filesystem=storage.storage_filesystem)
