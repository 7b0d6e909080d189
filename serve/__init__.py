"""The oracle as a service: vLLM engines behind one front, on Ray Serve.

The names load when they are asked for: Ray Serve takes seconds to import, vLLM more.
"""

from importlib import import_module
from typing import Any

_ROOMS = {
    "OracleSettings": "serve.settings",
    "Request": "serve.engine",
    "ScoringEngine": "serve.engine",
    "EngineLost": "serve.engine",
    "ClientCounts": "serve.counts",
    "LATENCY_BUCKETS_S": "serve.counts",
    "Snapshot": "serve.counts",
    "quantile_s": "serve.metrics",
    "VllmEngine": "serve.vllm_engine",
    "Front": "serve.front",
    "build": "serve.app",
    "make_vllm_engine": "serve.app",
    "start_oracle": "serve.app",
    "stop_oracle": "serve.app",
    "wait_for_oracle": "serve.app",
}

__all__ = list(_ROOMS)


def __getattr__(name: str) -> Any:
    if name not in _ROOMS:
        raise AttributeError(f"module 'serve' has no attribute {name!r}")
    return getattr(import_module(_ROOMS[name]), name)
