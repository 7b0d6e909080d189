"""Who computes where: a decision made from plain numbers, so that it can be checked without a cluster."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

TRAINER_POOL = "trainer"
ORACLE_POOL = "oracle"
"""A node is in a pool when it was started with a custom resource of that name: `--resources='{"oracle": 1}'`.

Not by its labels: when Ray Train counts how many workers a cluster has room for, it looks at resources alone.
"""

_SEAT = 0.001
"""Of a pool's resource, for each that computes there: as good as nothing, but only nodes of the pool have it."""

_TRAINER_SHARE = 0.6
_ORACLE_SHARE = 0.4

_ROUNDING = 1e-6

Node = Mapping[str, float]
"""What one node has, as Ray names it: CPU, GPU, and custom resources."""


@dataclass(frozen=True)
class Wanted:
    """What a job asks for.

    num_workers: ranks; min_workers: with how few it also begins, None: with all. use_gpu: None uses GPUs if there are
    any. num_engines: of the oracle; 0: it asks none. split: trainers and oracle each on the nodes of their own pool.
    """

    num_workers: int
    cpus_per_worker: float
    min_workers: int | None = None
    use_gpu: bool | None = None
    num_engines: int = 0
    cpus_per_engine: float = 0.0
    split: bool = False


@dataclass(frozen=True)
class Placement:
    """num_workers: ranks, each with `gpus_per_worker` GPUs; oracle_gpus: of each oracle engine; 0 is the CPU.

    worker_resources: custom resources that each rank asks for besides, so that it lands in its pool.
    """

    num_workers: int
    gpus_per_worker: float
    oracle_gpus: float
    worker_resources: Mapping[str, float] = field(default_factory=dict)

    @property
    def use_gpu(self) -> bool:
        return self.gpus_per_worker > 0


@dataclass(frozen=True)
class _Crowd:
    """So many processes of one kind, with so many CPUs each; lever: the settings that make it smaller."""

    name: str
    lever: str
    count: int
    cpus: float

    def __str__(self) -> str:
        return f"{_plural(self.count, self.name)} with {_plural(self.cpus, 'CPU')}{' each' if self.count > 1 else ''}"


def seat(pool: str) -> dict[str, float]:
    """What a process asks for beside CPUs and GPUs to be put on a node of the pool."""
    return {pool: _SEAT}


def place(num_workers: int, num_gpus: int, use_gpu: bool | None, oracle_engines: int) -> Placement:
    """Workers and oracle engines on the GPUs that there are, shared.

    Enough GPUs: one for each worker and each engine. Fewer: one worker a GPU at the most, since NCCL refuses two ranks
    on one, and the engines share the workers' GPUs. use_gpu: None uses GPUs when there are any.
    Raises ValueError when GPUs are asked for and there are none.
    """
    if not _gpus_used(use_gpu, num_gpus):
        return Placement(num_workers, 0.0, 0.0)
    if num_gpus >= num_workers + oracle_engines:
        return Placement(num_workers, 1.0, 1.0)
    share = _ORACLE_SHARE / max(1, -(-oracle_engines // num_gpus))
    return Placement(min(num_workers, num_gpus), _TRAINER_SHARE, share)


def place_on(nodes: Sequence[Node], wanted: Wanted) -> Placement:
    """Workers and oracle engines on the nodes that there are; on shared ones, GPUs are dealt out as `place` does.

    Raises ValueError, which says what is missing, for what can never fit on these nodes: nodes that are still to come
    are not waited for. What other jobs take now is not counted, since it will be free again.
    """
    trainers, oracles = _pools(wanted, nodes)
    num_gpus = _gpus(trainers)
    if wanted.split:
        use_gpu = _gpus_used(wanted.use_gpu, num_gpus, f" in pool {TRAINER_POOL!r}")
        workers = min(wanted.num_workers, num_gpus) if use_gpu else wanted.num_workers
        placement = Placement(workers, float(use_gpu), _split_oracle_gpus(wanted, oracles), seat(TRAINER_POOL))
    else:
        placement = place(wanted.num_workers, num_gpus, wanted.use_gpu, wanted.num_engines)
    _check_room(wanted, placement.num_workers, trainers, oracles)
    return placement


def _pools(wanted: Wanted, nodes: Sequence[Node]) -> tuple[list[Node], list[Node]]:
    """Nodes for the trainers, and nodes for the oracle."""
    if not wanted.split:
        return list(nodes), list(nodes)
    trainers, oracles = ([node for node in nodes if node.get(pool, 0) > 0] for pool in (TRAINER_POOL, ORACLE_POOL))
    for pool, count, found in (
        (TRAINER_POOL, wanted.num_workers, trainers),
        (ORACLE_POOL, wanted.num_engines, oracles),
    ):
        if count and not found:
            raise ValueError(
                f"placement=split, but none of the {len(nodes)} nodes is in pool {pool!r}: start some with "
                f"`ray start --resources='{{\"{pool}\": 1}}'`, or set placement=shared"
            )
    return trainers, oracles


def _gpus_used(use_gpu: bool | None, num_gpus: int, where: str = "") -> bool:
    if use_gpu and not num_gpus:
        raise ValueError(
            f"training.use_gpu=true, but Ray sees no GPU{where}; leave it out, or start Ray where GPUs are"
        )
    return bool(num_gpus) and use_gpu is not False


def _split_oracle_gpus(wanted: Wanted, oracles: Sequence[Node]) -> float:
    gpus = _gpus(oracles)
    if not gpus or wanted.use_gpu is False:
        return 0.0
    return 1.0 / max(1, -(-wanted.num_engines // gpus))


def _check_room(wanted: Wanted, workers: int, trainers: Sequence[Node], oracles: Sequence[Node]) -> None:
    """Only what can never fit is refused: with several kinds of processes, that it fits is for Ray to find out."""
    fewest = workers if wanted.min_workers is None else min(workers, wanted.min_workers)
    training = _Crowd("worker", "training.num_workers or training.cpus_per_worker", fewest, wanted.cpus_per_worker)
    asking = _Crowd("oracle engine", "oracle.num_replicas", wanted.num_engines, wanted.cpus_per_engine)
    if wanted.split:
        _check(f"pool {TRAINER_POOL!r}", trainers, [training])
        _check(f"pool {ORACLE_POOL!r}", oracles, [asking])
    else:
        _check("the cluster", trainers, [training, asking])


def _check(where: str, nodes: Sequence[Node], crowds: Sequence[_Crowd]) -> None:
    crowds = [crowd for crowd in crowds if crowd.count and crowd.cpus]
    sizes = [node.get("CPU", 0.0) for node in nodes]
    needed = sum(crowd.count * crowd.cpus for crowd in crowds)
    seats_suffice = all(
        sum(math.floor(size / crowd.cpus + _ROUNDING) for size in sizes) >= crowd.count for crowd in crowds
    )
    if seats_suffice and needed <= sum(sizes) + _ROUNDING:
        return
    there = f"{_plural(sum(sizes), 'CPU')} on {_plural(len(sizes), 'node')}"
    there += f", {max(sizes):g} at most on one" if len(sizes) > 1 else ""
    lower = " or ".join(crowd.lever for crowd in crowds)
    begin = ", or set training.min_workers to begin with fewer" if crowds[0].name == "worker" else ""
    raise ValueError(
        f"this job needs {_plural(needed, 'CPU')} for {' and '.join(map(str, crowds))}, and {where} has {there}: start "
        f"more nodes first, lower {lower}{begin}"
    )


def _gpus(nodes: Sequence[Node]) -> int:
    return int(sum(node.get("GPU", 0) for node in nodes))


def _plural(count: float, what: str) -> str:
    return f"{count:g} {what}{'' if count == 1 else 's'}"
