"""Ray and DeepSpeed around the trainer."""

import os
import sys

# Ray reads this once, when it is imported; whoever imported it before us has chosen already.
if "ray" not in sys.modules:
    os.environ.setdefault("RAY_AUTH_MODE", "token")

from graphdrl.distributed.cluster import connect, disconnect, num_gpus
from graphdrl.distributed.deepspeed_engine import DeepSpeedEngine, deepspeed_config
from graphdrl.distributed.edge_store import EdgeStore, RayRelations, close_edge_store, open_edge_store
from graphdrl.distributed.ray_context import RayContext
from graphdrl.distributed.ray_train import fit, last_sentence

__all__ = [
    "DeepSpeedEngine",
    "EdgeStore",
    "RayContext",
    "RayRelations",
    "close_edge_store",
    "connect",
    "deepspeed_config",
    "disconnect",
    "fit",
    "last_sentence",
    "num_gpus",
    "open_edge_store",
]
