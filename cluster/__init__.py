"""Where graphdrl runs: a Ray cluster that is there already, a private one, or one of several nodes at home."""

import os
import sys

# Ray reads this once, when it is imported; whoever imported it before us has chosen already.
if "ray" not in sys.modules:
    os.environ.setdefault("RAY_AUTH_MODE", "token")

from cluster.home import HomeCluster, Node
from cluster.local import address, joined, nodes, num_gpus

__all__ = ["HomeCluster", "Node", "address", "joined", "nodes", "num_gpus"]
