"""The trials of a search as plain values, and in what order they stand on a leaderboard."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from graphdrl.report.wording import written

Status = Literal["finished", "stopped", "failed"]


@dataclass(frozen=True)
class TrialRow:
    """One trial of a search.

    status: `finished` ran to its end, `stopped` was ended early by the scheduler, `failed` raised `error`.
    values: the searched keys with the values that this trial had.
    objective: its last value, or None where none was measured; NaN and infinity count as none.
    step: the last step. seconds: how long the trial took. metrics: every other figure that was measured.
    error: one sentence, for a failed trial. folder: the trial's run.
    curve: (step, objective) at every rung, in order.
    """

    name: str
    status: Status
    values: dict[str, Any]
    objective: float | None
    step: int
    seconds: float
    metrics: dict[str, float]
    error: str = ""
    folder: str = ""
    curve: tuple[tuple[int, float], ...] = ()

    @property
    def measured(self) -> float | None:
        """The objective, where it is a number."""
        return self.objective if self.objective is not None and math.isfinite(self.objective) else None


@dataclass(frozen=True)
class SearchReport:
    """All that a search's page shows.

    questions_asked: grades that the multimodal model computed for the whole search. seconds: from the command to the
    end. notes: what a reader must know about this search, beside what holds for every one.
    """

    name: str
    objective: str
    maximise: bool
    algorithm: str
    scheduler: str
    rows: tuple[TrialRow, ...]
    questions_asked: int
    seconds: float
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Place:
    """A trial on the leaderboard: its rank (equal objectives share one), or the reason why it has none."""

    rank: int | None
    row: TrialRow
    reason: str = ""


def places(report: SearchReport) -> tuple[Place, ...]:
    """The leaderboard: finished trials, best first; then those without a rank: stopped, unmeasured, failed.

    A stopped trial has no rank because it had fewer steps than those that finished. Equal ones stand by name.
    """
    ranked: list[Place] = []
    for row in sorted(report.rows, key=lambda row: _order(row, report.maximise)):
        reason = _reason(row, report)
        tied = bool(ranked) and not reason and ranked[-1].row.measured == row.measured
        rank = ranked[-1].rank if tied else len(ranked) + 1
        ranked.append(Place(None if reason else rank, row, reason))
    return tuple(ranked)


def _order(row: TrialRow, maximise: bool) -> tuple[int, float, str]:
    value = row.measured
    if row.status == "failed":
        group = 3
    elif value is None:
        group = 2
    else:
        group = 1 if row.status == "stopped" else 0
    size = 0.0 if value is None else value
    return group, -size if maximise else size, row.name


def _reason(row: TrialRow, report: SearchReport) -> str:
    if row.status == "failed":
        return f"failed: {row.error}" if row.error else f"failed at step {row.step}"
    if row.measured is None:
        return f"no {report.objective} was measured" if row.objective is None else f"{report.objective} was not finite"
    return f"stopped by {report.scheduler} at step {row.step}" if row.status == "stopped" else ""


def searched_keys(rows: Sequence[TrialRow]) -> tuple[str, ...]:
    """All searched keys, in the order in which the trials name them."""
    return tuple(dict.fromkeys(key for row in rows for key in row.values))


def varied_keys(rows: Sequence[TrialRow]) -> tuple[str, ...]:
    """The searched keys that had at least two values."""
    return tuple(key for key in searched_keys(rows) if len({as_text(row.values.get(key)) for row in rows}) > 1)


def plain(value: Any) -> Any:
    """A value without NumPy's types around it."""
    return value.item() if isinstance(value, np.generic) else value


def as_text(value: Any) -> str:
    """A value of any kind as JSON; equal values have equal texts."""
    return json.dumps(plain(value), sort_keys=True, default=str)


def shown(value: Any) -> str:
    """A value of the space for a reader: numbers as a person would type them."""
    value = plain(value)
    if isinstance(value, float) and math.isfinite(value):
        return f"{value:.4g}"
    return written(value) if not isinstance(value, dict) else as_text(value)
