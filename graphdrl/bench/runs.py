"""Trainings that benchmarks compare: fresh runs in a folder of their own."""

import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from graphdrl.config import load_config
from jobs import begin, train

QUICKSTART = Path("configs/quickstart.yaml")


def fresh_folder() -> TemporaryDirectory[str]:
    """A folder for runs, with a score store of its own: nothing that was paid for earlier helps."""
    return TemporaryDirectory(prefix="graphdrl-bench-")


def run_config(
    folder: str | Path, name: str, *overrides: str, replay: Path | None = None
) -> tuple[dict[str, Any], Path]:
    """Train the quickstart's configuration under overrides; its summary and its run's folder.

    replay: folder of a run whose schedule of relations versions is taken again.
    """
    where = [f"name={name}", f"runs={folder}", f"oracle.score_store={folder}/score_store"]
    start = begin(load_config(QUICKSTART, [*where, *overrides]), replay)
    finished = train(start, time.time(), lambda text: None)
    return finished.summary, finished.run.folder
