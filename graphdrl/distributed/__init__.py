"""Ray and DeepSpeed around the trainer."""

from graphdrl.distributed.deepspeed_engine import DeepSpeedEngine, deepspeed_config
from graphdrl.distributed.edge_store import EdgeStore, RayRelations, close_edge_store, open_edge_store
from graphdrl.distributed.placement import Placement, place
from graphdrl.distributed.ray_context import RayContext
from graphdrl.distributed.ray_train import fit, last_sentence

__all__ = [
    "DeepSpeedEngine",
    "EdgeStore",
    "Placement",
    "RayContext",
    "RayRelations",
    "close_edge_store",
    "deepspeed_config",
    "fit",
    "last_sentence",
    "open_edge_store",
    "place",
]
