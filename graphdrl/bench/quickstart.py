"""The main job as `make quickstart` runs it: its summary, from a fresh score store."""

from typing import Any

from graphdrl.bench.registry import Say
from graphdrl.bench.runs import fresh_folder, run_config


def run(say: Say) -> dict[str, Any]:
    """The run's summary.json."""
    with fresh_folder() as folder:
        say("training")
        return run_config(folder, "quickstart").read_summary()
