"""Benchmarks, one file each: `run(say) -> figures`. Nothing here is a test: nothing fails for being slow."""

from graphdrl.bench.registry import load_bench, save_figures

__all__ = ["load_bench", "save_figures"]
