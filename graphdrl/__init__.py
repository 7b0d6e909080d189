"""Distributed training of disentangled image models that know how their factors hang together."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from graphdrl.models import GEM

__all__ = ["GEM"]


def __getattr__(name: str) -> Any:
    """`graphdrl.GEM`, imported when it is first asked for: torch takes seconds that a command line need not wait."""
    if name != "GEM":
        raise AttributeError(f"module 'graphdrl' has no attribute {name!r}")
    from graphdrl.models import GEM

    return GEM
