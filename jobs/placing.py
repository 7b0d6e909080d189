"""Where the parts of a run compute, from its configuration and what the nodes of the cluster have."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from graphdrl.config import Config

if TYPE_CHECKING:
    from graphdrl.distributed import Placement


def placement_of(config: Config, nodes: Sequence[dict[str, float]], num_engines: int = 0) -> "Placement":
    """Where the run's workers compute, and so many engines of the oracle; raises ValueError when they do not fit."""
    from graphdrl import distributed

    training = config.training
    wanted = distributed.Wanted(
        num_workers=training.num_workers,
        cpus_per_worker=training.cpus_per_worker,
        min_workers=training.min_workers,
        use_gpu=training.use_gpu,
        num_engines=num_engines,
        cpus_per_engine=config.oracle.num_cpus,
        split=config.placement == "split",
    )
    return distributed.place_on(nodes, wanted)
