"""Searches around the quickstart: what they ask of the oracle, and what ending bad trials early saves and costs."""

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import yaml

from graphdrl.bench.registry import Say
from graphdrl.bench.runs import QUICKSTART, fresh_folder

_COMMAND = (sys.executable, "-c", "from graphdrl.cli import main; main()", "tune")
_NUM_SCORED, _STEPS, _RUNG, _AT_ONCE = 600, 300, 60, 2
_OVERRIDES = {
    "data.num_images": 6_000,
    "data.num_test": 2_000,
    "oracle.num_scored": _NUM_SCORED,
    "relations.update_at": [300],
    "training.num_workers": 1,
    "training.steps": _STEPS,
    "training.checkpoint_every": _RUNG,
    "training.keep_checkpoints": 1,
}
_SPACE = {
    "training.learning_rate": {"grid": [3.0e-4, 1.0e-3, 2.0e-3, 4.0e-3]},
    "parameters.rank_weight": {"grid": [10, 50]},
}
_ONE = {"training.learning_rate": {"grid": [2.0e-3]}, "parameters.rank_weight": {"grid": [50]}}


@dataclass(frozen=True)
class _Done:
    """What a search left; trials: its leaderboard's rows."""

    trials: list[dict[str, Any]]
    questions: int
    stored: int
    seconds: float

    @property
    def steps(self) -> int:
        return sum(row["step"] for row in self.trials)

    @property
    def best(self) -> float:
        return max(row["objective"] for row in self.trials if row["status"] == "finished")


def run(say: Say) -> dict[str, Any]:
    """Questions are grades that the multimodal model computed, by the oracle's own count; `stored` those in its store.

    Every search has a score store of its own. `asha_cost_ratio`: steps trained in all with ASHA, of those of full runs
    of the same configurations. `asha_best_gap`: DCI-D of the best of the full runs less that of the best with ASHA, on
    the images that the trials are compared on.
    """
    with fresh_folder() as folder:
        one = _search(Path(folder), "one", say, _ONE, "none")
        full = _search(Path(folder), "full", say, _SPACE, "none")
        asha = _search(Path(folder), "asha", say, _SPACE, "asha")
    return {
        "questions_1_trial": one.questions,
        "questions_8_trials": full.questions,
        "questions_8_trials_asha": asha.questions,
        "stored_1_trial": one.stored,
        "stored_8_trials": full.stored,
        "asha_cost_ratio": round(asha.steps / full.steps, 4),
        "asha_best_gap": round(full.best - asha.best, 5),
        "best_full": round(full.best, 5),
        "best_asha": round(asha.best, 5),
        "worst_full": round(min(row["objective"] for row in full.trials), 5),
        "steps_full": full.steps,
        "steps_asha": asha.steps,
        "finished_asha": sum(row["status"] == "finished" for row in asha.trials),
        "trials": len(full.trials),
        "trials_at_once": _AT_ONCE,
        "images_scored": _NUM_SCORED,
        "seconds_1_trial": one.seconds,
        "seconds_full": full.seconds,
        "seconds_asha": asha.seconds,
    }


def _search(folder: Path, name: str, say: Say, space: dict[str, Any], scheduler: str) -> _Done:
    """One search as `graphdrl tune` runs it; raises RuntimeError with its last words when it, or a trial, fails."""
    store = folder / f"{name}-scores"
    tree = {
        "name": name,
        "config": str(QUICKSTART.resolve()),
        "overrides": _OVERRIDES | {"runs": str(folder), "oracle.score_store": str(store)},
        "space": space,
        "objective": "dci_d",
        "algorithm": "grid",
        "scheduler": scheduler,
        "concurrency": _AT_ONCE,
    }
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(tree))
    started = time.monotonic()
    with subprocess.Popen([*_COMMAND, str(path)], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as job:
        assert job.stderr is not None
        said = [_passed_on(line, name, say) for line in job.stderr]
    trials = _trials(folder / name) if job.returncode == 0 else []
    if not trials or any(row["status"] == "failed" for row in trials):
        raise RuntimeError(f"the search {name} failed: {' '.join(' '.join(said).split())[-600:]}")
    return _Done(
        trials,
        json.loads((folder / name / "state.json").read_text())["questions_asked"],
        sum(pq.read_metadata(part).num_rows for part in store.glob("*.parquet")),
        round(time.monotonic() - started, 1),
    )


def _passed_on(line: str, name: str, say: Say) -> str:
    if line.strip():
        say(f"{name}: {line.rstrip()}")
    return line


def _trials(search: Path) -> list[dict[str, Any]]:
    return pq.read_table(search / "leaderboard.parquet").to_pylist()
