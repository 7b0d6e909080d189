"""Where graphdrl runs: for now a Ray cluster that is there already, or a private one on this machine."""

import os
import sys

# Ray reads this once, when it is imported; whoever imported it before us has chosen already.
if "ray" not in sys.modules:
    os.environ.setdefault("RAY_AUTH_MODE", "token")

from cluster.local import address, joined, num_gpus

__all__ = ["address", "joined", "num_gpus"]
