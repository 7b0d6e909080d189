"""Finds a benchmark by name, and keeps its figures with what is needed to believe them."""

import json
import os
import pkgutil
import platform
import shlex
import subprocess
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from difflib import get_close_matches
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

Say = Callable[[str], None]
Bench = Callable[[Say], dict[str, Any]]

RESULTS = Path("docs/results")


def load_bench(name: str, overrides: Sequence[str] = ()) -> Bench:
    """The benchmark called `name` (its file has underscores for dashes), under overrides of its plan.

    Raises ValueError, which lists those that there are, and when a benchmark without a plan is given overrides.
    """
    import graphdrl.bench as room

    modules = {module.name for module in pkgutil.iter_modules(room.__path__) if not module.name.startswith("_")}
    names = sorted(name.replace("_", "-") for name in modules - {"registry", "runs"})
    if name not in names:
        near = get_close_matches(name, names, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"there is no benchmark {name!r}; {hint}there are: {', '.join(names)}")
    found = import_module(f"{room.__name__}.{name.replace('-', '_')}")
    if overrides and not hasattr(found, "PLAN"):
        raise ValueError(f"benchmark {name} has no plan that {overrides[0]!r} could change; run it without")
    return partial(found.run, overrides=overrides) if overrides else found.run


def save_figures(name: str, figures: dict[str, Any], overrides: Sequence[str] = ()) -> Path:
    """Write docs/results/NAME.json: the figures, the command, the commit, the date and the machine."""
    if not Path("pyproject.toml").exists():
        raise ValueError("--save keeps figures in docs/results of the repository; run it from the repository's root")
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"{name}.json"
    record = {
        "figures": figures,
        "command": shlex.join(["graphdrl", "bench", name, *overrides, "--save"]),
        "commit": _git("rev-parse", "HEAD"),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
    }
    path.write_text(json.dumps(record, indent=2) + "\n")
    return path


def machine() -> str:
    """Processor, cores and memory in a few words."""
    import psutil
    import torch

    gpu = f", {torch.cuda.get_device_name(0)}" if torch.cuda.is_available() else ""
    memory = psutil.virtual_memory().total / 2**30
    return f"{_processor()}, {os.cpu_count()} cores, {memory:.0f} GiB{gpu}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"
