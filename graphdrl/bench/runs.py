"""Trainings that benchmarks compare: the command itself, in fresh processes and a folder of their own."""

import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from graphdrl.training import Run

QUICKSTART = Path("configs/quickstart.yaml")

_COMMAND = (sys.executable, "-c", "from graphdrl.cli import main; main()", "train", str(QUICKSTART))


def fresh_folder() -> TemporaryDirectory[str]:
    """A folder for runs, with a score store of its own: nothing that was paid for earlier helps."""
    return TemporaryDirectory(prefix="graphdrl-bench-")


def run_config(folder: str | Path, name: str, *overrides: str) -> Run:
    """Train the quickstart's configuration under overrides, as `graphdrl train` does.

    Raises RuntimeError with the command's own last words when it fails.
    """
    where = (f"name={name}", f"runs={folder}", f"oracle.score_store={folder}/score_store")
    done = subprocess.run([*_COMMAND, *where, *overrides], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"the run {name} failed: {' '.join(done.stderr.split())[-600:]}")
    return Run(Path(folder) / name)
