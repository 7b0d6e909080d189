"""A search as a leaderboard (Parquet, Markdown), pictures (SVG), and one self-contained page of HTML."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from graphdrl.report import search_figures
from graphdrl.report.figures import svg_uri
from graphdrl.report.glossary import SEARCH_NOTES, term
from graphdrl.report.importance import Importance, importance
from graphdrl.report.leaderboard import leaderboard_markdown, leaderboard_parquet, metric_keys, summary
from graphdrl.report.page import write_page, write_whole
from graphdrl.report.trials import Place, SearchReport, TrialRow, places, searched_keys, shown, varied_keys
from graphdrl.report.wording import duration, written

__all__ = ["SearchReport", "TrialRow", "ranked", "write_search_report"]

_PICTURES = ("curves", "parallel", "importance")


def ranked(report: SearchReport) -> tuple[TrialRow, ...]:
    """The trials, best first: finished ones by objective, then the stopped, the unmeasured, and the failed."""
    return tuple(place.row for place in places(report))


def write_search_report(report: SearchReport, folder: Path) -> Path:
    """Write the search's leaderboard, pictures and page into `folder` (made if need be); returns `search.html`.

    Files: leaderboard.parquet, leaderboard.md, search.html, and of curves.svg, parallel.svg and importance.svg those
    that there is enough for; one of an earlier writing that is not drawn any more is removed.
    Raises ValueError for a search without a trial, and for two trials of one name.
    """
    _check(report)
    folder.mkdir(parents=True, exist_ok=True)
    board, explained = places(report), importance(report.rows)
    write_whole(folder / "leaderboard.parquet", leaderboard_parquet(board))
    write_whole(folder / "leaderboard.md", leaderboard_markdown(report, board).encode())
    pictures = _pictures(report, board, explained)
    for name in _PICTURES:
        if name in pictures:
            write_whole(folder / f"{name}.svg", pictures[name].encode())
        else:
            (folder / f"{name}.svg").unlink(missing_ok=True)
    return _write_page(report, board, explained, pictures, folder / "search.html")


def _check(report: SearchReport) -> None:
    if not report.rows:
        raise ValueError(f"search {report.name} has no trial: there is nothing to report")
    names = [row.name for row in report.rows]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"trials of search {report.name} must have distinct names; twice there: {', '.join(twice)}")


def _pictures(report: SearchReport, board: Sequence[Place], explained: Importance) -> dict[str, str]:
    """SVG by name, of those pictures that there is enough for."""
    label = f"{term(f'metrics.{report.objective}').label} ({'higher' if report.maximise else 'lower'} is better)"
    drawn = {
        "curves": search_figures.curves(board, label),
        "parallel": search_figures.parallel(board, report.objective),
        "importance": search_figures.importance_bars(explained.shares) if explained.shares else None,
    }
    return {name: svg for name, svg in drawn.items() if svg is not None}


def _write_page(
    report: SearchReport, board: Sequence[Place], explained: Importance, pictures: Mapping[str, str], path: Path
) -> Path:
    entry = term(f"metrics.{report.objective}")
    varied, metrics = varied_keys(report.rows), metric_keys(board)
    return write_page(
        "search.html.jinja",
        path,
        title=report.name,
        objective=entry,
        maximise=report.maximise,
        summary=summary(report),
        headlines=_headlines(report, board),
        varied=varied,
        fixed=[(key, shown(report.rows[0].values.get(key))) for key in searched_keys(report.rows) if key not in varied],
        rows=[_row(place, entry.style, varied) for place in board],
        metrics=[term(f"metrics.{key}") for key in metrics],
        metric_rows=[(place.row.name, [_metric(place.row, key) for key in metrics]) for place in board],
        pictures={name: svg_uri(pictures[name]) if name in pictures else None for name in _PICTURES},
        explained=explained,
        notes=[*report.notes, *SEARCH_NOTES],
    )


def _headlines(report: SearchReport, board: Sequence[Place]) -> list[tuple[str, str]]:
    best, entry = board[0], term(f"metrics.{report.objective}")
    finished = sum(row.status == "finished" for row in report.rows)
    return [
        (f"Best {entry.label}", written(best.row.measured, entry.style)),
        ("Best trial", best.row.name if best.rank is not None else "none finished"),
        ("Trials finished", f"{finished} of {len(report.rows)}"),
        ("Grades computed", written(report.questions_asked)),
        ("Duration", duration(report.seconds)),
    ]


def _row(place: Place, style: Any, varied: Sequence[str]) -> dict[str, Any]:
    row = place.row
    return {
        "rank": "–" if place.rank is None else str(place.rank),
        "name": row.name,
        "objective": written(row.measured, style),
        "values": [shown(row.values[key]) if key in row.values else "–" for key in varied],
        "step": written(row.step),
        "duration": duration(row.seconds),
        "status": row.status,
        "reason": place.reason,
        "folder": row.folder,
    }


def _metric(row: TrialRow, key: str) -> str:
    return written(row.metrics.get(key), term(f"metrics.{key}").style)
