"""Ray and DeepSpeed around the trainer."""

from graphdrl.distributed.deepspeed_engine import DeepSpeedEngine, deepspeed_config
from graphdrl.distributed.edge_store import EdgeStore, RayRelations, close_edge_store, open_edge_store
from graphdrl.distributed.frozen_edges import FrozenRelations, NoRelations, open_frozen_edges
from graphdrl.distributed.placement import ORACLE_POOL, TRAINER_POOL, Placement, Wanted, place, place_on, seat
from graphdrl.distributed.ray_context import RayContext
from graphdrl.distributed.ray_train import fit, last_sentence
from graphdrl.distributed.retuned_engine import RetunedEngine
from graphdrl.distributed.rungs import RungContext, Rungs, TrialStopped

__all__ = [
    "ORACLE_POOL",
    "TRAINER_POOL",
    "DeepSpeedEngine",
    "EdgeStore",
    "FrozenRelations",
    "NoRelations",
    "Placement",
    "RayContext",
    "RayRelations",
    "RetunedEngine",
    "RungContext",
    "Rungs",
    "TrialStopped",
    "Wanted",
    "close_edge_store",
    "deepspeed_config",
    "fit",
    "last_sentence",
    "open_edge_store",
    "open_frozen_edges",
    "place",
    "place_on",
    "seat",
]
