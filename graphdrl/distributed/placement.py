"""Who computes where: a decision made from plain numbers, so that it can be checked without a cluster."""

from dataclasses import dataclass

_TRAINER_SHARE = 0.6
_ORACLE_SHARE = 0.4


@dataclass(frozen=True)
class Placement:
    """num_workers: ranks, each with `gpus_per_worker` GPUs; oracle_gpus: of each oracle engine; 0 is the CPU."""

    num_workers: int
    gpus_per_worker: float
    oracle_gpus: float

    @property
    def use_gpu(self) -> bool:
        return self.gpus_per_worker > 0


def place(num_workers: int, num_gpus: int, use_gpu: bool | None, oracle_engines: int) -> Placement:
    """Workers and oracle engines on the GPUs that there are.

    Enough GPUs: one for each worker and each engine. Fewer: one worker a GPU at the most, since NCCL refuses two ranks
    on one, and the engines share the workers' GPUs. use_gpu: None uses GPUs when there are any.
    Raises ValueError when GPUs are asked for and there are none.
    """
    if use_gpu and not num_gpus:
        raise ValueError("training.use_gpu=true, but Ray sees no GPU; leave it out, or start Ray where GPUs are")
    if use_gpu is False or not num_gpus:
        return Placement(num_workers, 0.0, 0.0)
    if num_gpus >= num_workers + oracle_engines:
        return Placement(num_workers, 1.0, 1.0)
    share = _ORACLE_SHARE / max(1, -(-oracle_engines // num_gpus))
    return Placement(min(num_workers, num_gpus), _TRAINER_SHARE, share)
