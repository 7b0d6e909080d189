"""The pictures of a search as SVG: curves, parallel coordinates, importance. Same input, same bytes."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from graphdrl.report.figures import BLUE, INK, LOOK, ORANGE, compact, svg_text
from graphdrl.report.importance import is_logarithmic, is_numeric
from graphdrl.report.trials import Place, as_text, plain, shown, varied_keys

_WIDTH = 7.2
_MOST_CHOICES = 12
_COLOURS = LinearSegmentedColormap.from_list("objective", ["#b3b0a6", BLUE])
"""From a grey to the pages' blue: both can be seen on light and on dark paper."""


def curves(places: Sequence[Place], label: str) -> str | None:
    """The objective of every trial over its steps, the best one on top; None when no trial was measured twice."""
    lines = [(place, _finite(place.row.curve)) for place in reversed(places)]
    if all(len(points) < 2 for _, points in lines):
        return None
    with matplotlib.rc_context(LOOK):
        figure = Figure(figsize=(_WIDTH, 3.0))
        axes = figure.add_subplot()
        figure.subplots_adjust(left=0.08, right=0.985, bottom=0.15, top=0.9)
        labelled: set[str] = set()
        for place, points in lines:
            name, style = _style(place, place is places[0] and place.rank is not None)
            steps, values = ([point[axis] for point in points] for axis in (0, 1))
            marker = "o" if len(points) == 1 else None
            axes.plot(steps, values, label=None if name in labelled else name, marker=marker, markersize=3, **style)
            labelled.add(name)
        axes.xaxis.set_major_formatter(FuncFormatter(compact))
        axes.yaxis.set_major_formatter(FuncFormatter(compact))
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.grid(axis="y", color=INK, alpha=0.12, linewidth=0.5)
        axes.set_xlabel("step")
        axes.set_title(label, fontsize=8, loc="left")
        axes.legend(*_best_first(axes), frameon=False, fontsize=7, loc="best")
        return svg_text(figure)


def _style(place: Place, is_best: bool) -> tuple[str, dict[str, Any]]:
    """What a trial's line is called in the legend, and how it is drawn."""
    if is_best:
        return f"best: {place.row.name}", {"color": ORANGE, "linewidth": 2.0, "zorder": 4}
    if place.row.status == "failed":
        return "failed", {"color": INK, "linewidth": 0.9, "linestyle": (0, (1, 2)), "alpha": 0.7}
    if place.row.status == "stopped":
        return "stopped", {"color": BLUE, "linewidth": 0.9, "linestyle": (0, (3, 2)), "alpha": 0.7}
    return "finished", {"color": BLUE, "linewidth": 1.1, "alpha": 0.8}


def _best_first(axes: Axes) -> tuple[list[Any], list[str]]:
    handles, labels = axes.get_legend_handles_labels()
    return handles[::-1], labels[::-1]


def _finite(curve: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    return [(step, value) for step, value in curve if value is not None and math.isfinite(value)]


def parallel(places: Sequence[Place], label: str) -> str | None:
    """One upright axis for every key that varied and one for the objective; a line is a trial.

    The best trial is orange, others have the colour of their objective, those without one are dotted and end before
    it. None when no key varied or no trial was measured.
    """
    rows = [place.row for place in places]
    keys = varied_keys(rows)
    measured = [row.measured for row in rows if row.measured is not None]
    if not keys or not measured:
        return None
    columns = [[plain(row.values.get(key)) for row in rows] for key in keys]
    heights = [_heights(values) for values in columns]
    heights.append(_heights([row.measured for row in rows]))
    with matplotlib.rc_context(LOOK):
        figure = Figure(figsize=(max(_WIDTH, 1.3 * len(heights)), 3.4))
        axes = figure.add_subplot()
        figure.subplots_adjust(left=0.1, right=0.92, bottom=0.06, top=0.84)
        _draw_axes(axes, [*keys, label], [*(_ticks(values) for values in columns), _ticks(measured)])
        _draw_trials(axes, places, np.array(heights).T)
        return svg_text(figure)


def _draw_axes(axes: Axes, labels: Sequence[str], ticks: Sequence[Mapping[float, str]]) -> None:
    axes.set_axis_off()
    axes.set_xlim(-0.15, len(labels) - 0.55)
    axes.set_ylim(-0.05, 1.08)
    for at, (name, marks) in enumerate(zip(labels, ticks, strict=True)):
        axes.axvline(at, color=INK, linewidth=0.7, ymin=0.05 / 1.13, ymax=1.05 / 1.13)
        axes.text(at, 1.1, name.replace(".", ".\n"), ha="center", va="bottom", fontsize=7.5)
        for height, text in marks.items():
            axes.text(at + 0.03, height + 0.012, text, ha="left", va="bottom", fontsize=7, zorder=5)


def _draw_trials(axes: Axes, places: Sequence[Place], heights: np.ndarray) -> None:
    """heights: [trials, axes] in 0..1, NaN where a trial has no value; the best trial is the first."""
    for at in reversed(range(len(places))):
        line, value = heights[at], heights[at, -1]
        style: dict[str, Any] = {"color": _COLOURS(float(value)), "linewidth": 1.2, "alpha": 0.85}
        if places[at].row.measured is None:
            style = {"color": INK, "linewidth": 0.9, "linestyle": (0, (1, 2)), "alpha": 0.7}
        elif at == 0 and places[at].rank is not None:
            style = {"color": ORANGE, "linewidth": 2.2, "zorder": 4}
        axes.plot(range(len(line)), line, **style)


def _heights(values: Sequence[Any]) -> list[float]:
    """Where values stand on an axis from 0 to 1; None has no place unless it is a choice like others."""
    present = [value for value in values if value is not None]
    if not is_numeric(present):
        choices = _choices(values)
        return [_share(choices.index(as_text(value)), 0, len(choices) - 1) for value in values]
    scale = math.log if is_logarithmic(present) else float
    low, high = scale(min(present)), scale(max(present))
    return [math.nan if value is None else _share(scale(value), low, high) for value in values]


def _share(value: float, low: float, high: float) -> float:
    return (value - low) / (high - low) if high > low else 0.5


def _choices(values: Sequence[Any]) -> list[str]:
    return sorted({as_text(value) for value in values})


def _ticks(values: Sequence[Any]) -> dict[float, str]:
    """Texts by height: the ends and the middle of numbers, or every choice (the first and last of many)."""
    present = [value for value in values if value is not None]
    if is_numeric(present):
        low, high = min(present), max(present)
        few = sorted(set(present))
        if len(few) > 5:
            middle = math.sqrt(low * high) if is_logarithmic(present) else (low + high) / 2
            few = [low, middle, high]
        return dict(zip(_heights(few), [shown(value) for value in few], strict=True))
    choices = {as_text(value): shown(value) for value in values}
    texts = [choices[key] for key in sorted(choices)]
    kept = texts if len(texts) <= _MOST_CHOICES else [texts[0], texts[-1]]
    return {_share(texts.index(text), 0, len(texts) - 1): text for text in kept}


def importance_bars(shares: Mapping[str, float]) -> str:
    """A bar for each key, the most important one on top."""
    names, sizes = list(shares)[::-1], [100 * share for share in shares.values()][::-1]
    with matplotlib.rc_context(LOOK):
        figure = Figure(figsize=(_WIDTH, 0.7 + 0.28 * len(names)))
        axes = figure.add_subplot()
        figure.subplots_adjust(left=0.3, right=0.93, bottom=0.42 / (0.7 + 0.28 * len(names)), top=0.98)
        bars = axes.barh(names, sizes, color=BLUE, height=0.62)
        axes.bar_label(bars, [f"{size:.0f} %" for size in sizes], padding=3, fontsize=7.5)
        axes.set_xlim(0, 100)
        axes.set_xlabel("share of the objective's variance, in percent")
        return svg_text(figure)
