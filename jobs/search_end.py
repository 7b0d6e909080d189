"""What a search leaves: its leaderboard and page, and the best model as a run of its own."""

import json
import math
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from graphdrl.config import Config, SearchConfig, dump_config, load_config
from graphdrl.metrics.udr import udr
from graphdrl.report import SearchReport, TrialRow, write_search_report
from graphdrl.training import Run, write_atomically
from jobs.assemble import training_images
from jobs.finish import Finished, finish
from jobs.trial_record import TrialRecord

_OF_THE_TRIAL = (
    "trial.json",
    "rungs.jsonl",
    "codes.npz",
    "checkpoint_manager_snapshot.json",
    ".validate_storage_marker",
)


@dataclass
class SearchState:
    """`state.json`: what a search that goes on after a kill would otherwise forget."""

    folder: Path
    questions_asked: int = 0
    seconds: float = 0.0

    @classmethod
    def read(cls, folder: Path) -> "SearchState":
        path = folder / "state.json"
        return cls(folder, **json.loads(path.read_text())) if path.exists() else cls(folder)

    def write(self) -> None:
        values = {name: value for name, value in asdict(self).items() if name != "folder"}
        write_atomically(self.folder / "state.json", json.dumps(values))


@dataclass(frozen=True)
class Searched:
    """What a search came to; best: None when no trial finished."""

    folder: Path
    report: SearchReport
    page: Path
    best: Finished | None


def end_search(
    search: SearchConfig, base: Config, folder: Path, state: SearchState, started: float, say: Callable[[str], None]
) -> Searched:
    """Write the leaderboard and the page, and keep the best trial's run as `best`."""
    rows = trial_rows(search, folder)
    winner = best_of(rows)
    best = None
    if winner is not None:
        say(f"the best is {winner.name}: measuring it and writing its report")
        best = _keep(winner, base, folder)
    state.seconds += time.time() - started
    state.write()
    report = SearchReport(
        name=search.name,
        objective=search.objective,
        maximise=True,
        algorithm=search.algorithm,
        scheduler=search.scheduler,
        rows=rows,
        questions_asked=state.questions_asked,
        seconds=round(state.seconds, 1),
        notes=_notes(search, winner),
    )
    page = write_search_report(report, folder)
    return Searched(folder, report, page, best)


def trial_rows(search: SearchConfig, folder: Path) -> tuple[TrialRow, ...]:
    """Every trial that was begun, from what lies in its folder."""
    records = [TrialRecord.read(path) for path in sorted((folder / "trials").glob("*/"))]
    rows = tuple(_row(record, search.objective) for record in records if record is not None)
    return _ranked_among_themselves(rows) if search.objective == "udr" else rows


def best_of(rows: tuple[TrialRow, ...]) -> TrialRow | None:
    """The finished trial with the highest objective."""
    finished = [row for row in rows if row.status == "finished" and row.objective is not None]
    measured = [row for row in finished if math.isfinite(row.objective or 0.0)]
    return max(measured, key=lambda row: row.objective or 0.0, default=None)


def _row(record: TrialRecord, objective: str) -> TrialRow:
    rungs = record.rungs()
    last = rungs[-1] if rungs else {}
    status = record.status if record.status != "running" else "stopped"
    return TrialRow(
        name=record.folder.name,
        status=status,  # type: ignore[arg-type]
        values=record.values,
        objective=last.get(objective),
        step=int(last.get("step", 0)),
        seconds=record.seconds,
        metrics={name: value for name, value in last.items() if name not in (objective, "step", "images")},
        error=record.error,
        folder=str(record.folder),
        curve=tuple((int(row["step"]), row[objective]) for row in rungs if objective in row),
    )


def _ranked_among_themselves(rows: tuple[TrialRow, ...]) -> tuple[TrialRow, ...]:
    """With the agreement of each trial's codes with the others' as its objective."""
    known = [row for row in rows if row.status == "finished" and (Path(row.folder) / "codes.npz").exists()]
    found = {}
    for row in known:
        with np.load(Path(row.folder) / "codes.npz") as file:
            codes, kl = file["codes"], file["kl"]
        if np.isfinite(codes).all() and np.isfinite(kl).all():  # a model that diverged is like no other
            found[row.name] = (codes, kl)
    if len(found) < 2:
        return rows
    scores = dict(zip(found, udr(*zip(*found.values(), strict=True)), strict=True))
    return tuple(
        replace(row, objective=float(scores[row.name]), curve=((row.step, float(scores[row.name])),))
        if row.name in scores
        else row
        for row in rows
    )


def _keep(winner: TrialRow, base: Config, folder: Path) -> Finished:
    """The trial's run again, as `best`, with what every run has at its end."""
    run = Run(folder / "best")
    shutil.rmtree(run.folder, ignore_errors=True)
    shutil.copytree(winner.folder, run.folder, ignore=shutil.ignore_patterns(*_OF_THE_TRIAL))
    trained = load_config(run.config)
    config = trained.model_copy(update={"name": "best", "runs": folder})
    run.config.write_text(dump_config(config))
    images = training_images(trained.model_copy(update={"runs": base.runs}))
    return finish(config, time.time() - winner.seconds, images)


def _notes(search: SearchConfig, winner: TrialRow | None) -> tuple[str, ...]:
    notes = [
        f"Trials were compared on {search.num_validation:,} images that neither trained a model nor test the best one. "
        "All trained on the same scores and on relations that were estimated before the first trial began."
    ]
    if search.scheduler == "pbt":
        notes.append(
            "The scheduler gave trials other values, and models of better trials, on their way: a row shows its last."
        )
    if winner is None:
        notes.append("No trial finished: there is no best model.")
    return tuple(notes)
