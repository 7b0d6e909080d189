"""The leaderboard of a search as Parquet for programs and Markdown for people."""

import io
import re
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from graphdrl.report.glossary import term
from graphdrl.report.trials import Place, SearchReport, as_text, plain, searched_keys, shown, varied_keys
from graphdrl.report.wording import duration, written

_CURVE = pa.list_(pa.struct([("step", pa.int64()), ("objective", pa.float64())]))


def leaderboard_parquet(places: Sequence[Place]) -> bytes:
    """One row a trial, in the order of the leaderboard.

    Columns: rank (null without one), name, status, reason, objective, step, seconds, `values.KEY` and `metrics.KEY`,
    error, folder, curve. A key whose values are of several kinds is a column of JSON texts; what a trial lacks is null.
    """
    rows = [place.row for place in places]
    columns = {
        "rank": pa.array([place.rank for place in places], pa.int64()),
        "name": pa.array([row.name for row in rows], pa.string()),
        "status": pa.array([row.status for row in rows], pa.string()),
        "reason": pa.array([place.reason for place in places], pa.string()),
        "objective": pa.array([row.objective for row in rows], pa.float64(), from_pandas=False),
        "step": pa.array([row.step for row in rows], pa.int64()),
        "seconds": pa.array([row.seconds for row in rows], pa.float64()),
    }
    for key in searched_keys(rows):
        columns[f"values.{key}"] = _column([row.values.get(key) for row in rows])
    for key in metric_keys(places):
        columns[f"metrics.{key}"] = _column([row.metrics.get(key) for row in rows])
    columns["error"] = pa.array([row.error for row in rows], pa.string())
    columns["folder"] = pa.array([row.folder for row in rows], pa.string())
    curves = [[{"step": step, "objective": value} for step, value in row.curve] for row in rows]
    columns["curve"] = pa.array(curves, _CURVE)
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer)
    return buffer.getvalue()


def _column(values: list[Any]) -> pa.Array:
    """Values of one kind as that kind, others as JSON."""
    values = [plain(value) for value in values]
    kinds = {type(value) for value in values if value is not None}
    for kind, column_type in ((bool, pa.bool_()), (int, pa.int64()), (str, pa.string())):
        if kinds == {kind}:
            return pa.array(values, column_type)
    if kinds <= {int, float}:
        return pa.array(values, pa.float64(), from_pandas=False)
    return pa.array([None if value is None else as_text(value) for value in values], pa.string())


def metric_keys(places: Sequence[Place]) -> tuple[str, ...]:
    """All figures that any trial has, in the order in which the trials name them."""
    return tuple(dict.fromkeys(key for place in places for key in place.row.metrics))


def leaderboard_markdown(report: SearchReport, places: Sequence[Place]) -> str:
    """A heading, what was searched, the table, and the notes."""
    entry = term(f"metrics.{report.objective}")
    varied = varied_keys(report.rows)
    header = ["Rank", "Trial", entry.label, *varied, "Step", "Duration", "Reason"]
    kinds = ["---:", "---", "---:", *("---" for _ in varied), "---:", "---:", "---"]
    lines = [
        f"# Search {_escaped(report.name)}",
        "",
        _escaped(summary(report)),
        "",
        _line(header),
        f"|{'|'.join(kinds)}|",
    ]
    for place in places:
        row = place.row
        values = [shown(row.values[key]) if key in row.values else "" for key in varied]
        cells = ["" if place.rank is None else str(place.rank), row.name, written(row.measured, entry.style), *values]
        lines.append(_line([*cells, written(row.step), duration(row.seconds), place.reason]))
    fixed = [
        f"{key} = {shown(report.rows[0].values.get(key))}" for key in searched_keys(report.rows) if key not in varied
    ]
    if fixed:
        lines += ["", _escaped(f"The same in all trials: {', '.join(fixed)}.")]
    lines += ["", *(f"- {_escaped(note)}" for note in report.notes)] if report.notes else []
    return "\n".join(lines) + "\n"


def summary(report: SearchReport) -> str:
    """What was searched, in sentences."""
    counts = [
        (status, sum(row.status == status for row in report.rows)) for status in ("finished", "stopped", "failed")
    ]
    ended = ", ".join(f"{num} {status}" for status, num in counts if num)
    trials = "1 trial" if len(report.rows) == 1 else f"{len(report.rows)} trials"
    return (
        f"Objective: {report.objective}, {'higher' if report.maximise else 'lower'} is better. {trials}: {ended}. "
        f"Search algorithm {report.algorithm}, scheduler {report.scheduler}. "
        f"{written(report.questions_asked)} grades computed by the multimodal model, in {duration(report.seconds)}."
    )


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(_escaped(cell) for cell in cells)} |"


def _escaped(text: str) -> str:
    """Text that Markdown shows as it is: nothing in it ends a cell, a line or begins a tag."""
    return re.sub(r"([\\|`*\[\]])", r"\\\1", " ".join(text.split())).replace("<", "&lt;")
