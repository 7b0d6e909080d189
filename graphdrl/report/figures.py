"""From arrays to pictures as data URIs: SVG for charts with axes, PNG for pixels. Same input, same bytes."""

import base64
import io
import math
import re
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from PIL import Image

from graphdrl.relations.edges import RelationsVersion

# Drawn in this colour, replaced by `currentColor`: text and axes follow the light or dark scheme of the reader.
INK = "#010203"
BLUE, ORANGE = "#3b82c4", "#d9701f"
_FONT = "system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif"
LOOK: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "graphdrl",
    "text.parse_math": False,
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.edgecolor": INK,
    "text.color": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "ytick.minor.size": 0,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
}
_SCHEME = "<style>svg{color:#3d3d3a}@media(prefers-color-scheme:dark){svg{color:#cfcdc6}}</style>"
_SMALL = (3.1, 1.75)
_MOST_POINTS = 200
_LARGEST_TILE = 112
_GAP = 2


def _data_uri(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"


def svg_text(figure: Figure) -> str:
    """The figure as SVG without metadata (dates, addresses), its ink given over to the reader's colour scheme."""
    buffer = io.StringIO()
    FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :].replace(INK, "currentColor").replace("'DejaVu Sans'", _FONT)
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    return re.sub(r"(<svg[^>]*>)", rf"\1{_SCHEME}", svg, count=1)


def svg_uri(svg: str) -> str:
    return _data_uri("svg+xml", svg.encode())


def compact(value: float, _position: int | None = None) -> str:
    """1.2k, 35M, 0.004: short tick labels without mathematics in them."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{unit}".replace("-", "−")
    return f"{value:g}".replace("-", "−")


def _small_axes() -> tuple[Figure, Axes]:
    figure = Figure(figsize=_SMALL)
    axes = figure.add_subplot()
    # Fixed margins: all charts of a page line up, and drawing takes half the time of a layout that measures text.
    figure.subplots_adjust(left=0.15, right=0.985, bottom=0.25, top=0.9)
    axes.xaxis.set_major_formatter(FuncFormatter(compact))
    axes.yaxis.set_major_formatter(FuncFormatter(compact))
    axes.grid(axis="y", color=INK, alpha=0.12, linewidth=0.5)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    return figure, axes


def _binned(steps: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Mean step, mean, smallest and largest value of at most _MOST_POINTS bins of equal count."""
    bins = np.array_split(np.arange(len(steps)), min(len(steps), _MOST_POINTS))
    means = np.array([(steps[index].mean(), values[index].mean()) for index in bins])
    lows, highs = (np.array([pick(values[index]) for index in bins]) for pick in (np.min, np.max))
    return means[:, 0], means[:, 1], lows, highs


def curve(steps: Sequence[float], values: Sequence[float], switches: Sequence[tuple[int, int]] = ()) -> str:
    """One quantity over the training steps, as an SVG data URI.

    Long runs are drawn as means with the range of the values behind them, so that no spike is lost. A quantity that
    spans more than a factor of 30 gets a logarithmic axis. Values that are not finite are left out.

    switches: (step, version) of every change of the relations; each is marked.
    """
    x, y = np.asarray(steps, np.float64), np.asarray(values, np.float64)
    x, y = x[np.isfinite(y)], y[np.isfinite(y)]
    with matplotlib.rc_context(LOOK):
        figure, axes = _small_axes()
        if len(x):
            step, mean, low, high = _binned(x, y)
            axes.fill_between(step, low, high, color=BLUE, alpha=0.22, linewidth=0)
            axes.plot(step, mean, color=BLUE, linewidth=1.4, marker="o" if len(step) == 1 else None, markersize=3)
            _set_scale(axes, y)
        _mark_switches(axes, switches)
        axes.set_xlabel("step")
        return svg_uri(svg_text(figure))


def _set_scale(axes: Axes, values: np.ndarray) -> None:
    low, high = np.quantile(values, [0.01, 0.99])
    if low > 0 and high / low > 30 and values.min() > 0:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(FuncFormatter(compact))
        axes.yaxis.set_minor_formatter(FuncFormatter(lambda *_: ""))
    else:
        axes.yaxis.set_major_locator(MaxNLocator(4))


def _mark_switches(axes: Axes, switches: Sequence[tuple[int, int]]) -> None:
    labelled_every = math.ceil(len(switches) / 6) if switches else 1
    for place, (step, version) in enumerate(switches):
        axes.axvline(step, color=ORANGE, linewidth=0.9, linestyle=(0, (2, 2)))
        if place % labelled_every == 0:
            at = axes.get_xaxis_transform()
            axes.text(step, 1.0, f"v{version}", transform=at, fontsize=7, color=ORANGE, ha="left", va="bottom")


def edge_history(versions: Sequence[RelationsVersion], source: int, target: int, truth: float | None) -> str:
    """One edge's weight and 95 % interval against the number of scored images, version by version, as SVG."""
    num_scored = np.array([version.edges.num_scored for version in versions])
    picked = [[getattr(v.edges, name)[source, target] for v in versions] for name in ("weights", "low", "high")]
    weight, low, high = np.nan_to_num(np.array(picked, np.float64))
    resolved = np.array([bool(version.edges.resolved[source, target]) for version in versions])
    with matplotlib.rc_context(LOOK):
        figure, axes = _small_axes()
        axes.axhline(0, color=INK, linewidth=0.6, alpha=0.6)
        if truth is not None and math.isfinite(truth):
            axes.axhline(truth, color=ORANGE, linewidth=1.1, linestyle=(0, (4, 2)))
        axes.vlines(num_scored, low, high, color=BLUE, linewidth=1.4)
        axes.plot(num_scored, weight, color=BLUE, linewidth=0.8, alpha=0.6)
        faces = [BLUE if is_resolved else "#ffffff" for is_resolved in resolved]
        axes.scatter(num_scored, weight, s=22, c=faces, edgecolors=BLUE, linewidths=1.2, zorder=3)
        axes.yaxis.set_major_locator(MaxNLocator(5))
        axes.set_xlim(0, num_scored.max() * 1.08)
        axes.set_xlabel("images scored")
        return svg_uri(svg_text(figure))


def _tile(image: np.ndarray) -> np.ndarray:
    """An image [H, W, 3] uint8, made smaller where it is larger than a page needs."""
    height, width = image.shape[:2]
    scale = _LARGEST_TILE / max(height, width)
    if scale >= 1:
        return image
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS))


def tiles(images: Sequence[np.ndarray], down: bool = False) -> str:
    """Images uint8 [H, W, 3] of one size side by side (or one below the other), as a PNG data URI.

    The gaps are transparent, so that they have the colour of the page.
    """
    parts: list[np.ndarray] = []
    for image in images:
        small = _tile(np.asarray(image))
        opaque = np.concatenate([small, np.full((*small.shape[:2], 1), 255, np.uint8)], axis=2)
        gap = np.zeros((_GAP, opaque.shape[1], 4) if down else (opaque.shape[0], _GAP, 4), np.uint8)
        parts += [gap, opaque] if parts else [opaque]
    buffer = io.BytesIO()
    Image.fromarray(np.concatenate(parts, axis=0 if down else 1)).save(buffer, "PNG")
    return _data_uri("png", buffer.getvalue())
