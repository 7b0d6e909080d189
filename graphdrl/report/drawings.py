"""Drawings of a relation graph as plain geometry, which the templates turn into inline SVG.

They are drawn here and not by matplotlib because every cell and every edge carries its own text for the mouse and for
screen readers, and because their ink follows the page's light or dark scheme.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.cluster.hierarchy import leaves_list, linkage, optimal_leaf_ordering
from scipy.spatial.distance import squareform

from graphdrl.relations.edges import Edges
from graphdrl.report.wording import interval, signed, two_digits

Sign = Literal["plus", "minus"]
Anchor = Literal["start", "middle", "end"]

CELL = 30
_LONGEST_LABEL = 18
_NUMBERS_UP_TO = 26
SIDE_BY_SIDE_UP_TO = 14
"""Matrices of more attributes stand one below the other."""

WEAKEST_DRAWN = 0.1
"""Edges below this size are left out of the network; so is the same size of a true weight called an edge."""


def opacity(weight: float) -> float:
    """How strongly a weight in [-1, 1] covers the page, in the colour of its sign: the one scale of all heat maps."""
    return round(min(abs(weight), 1.0) ** 0.8, 3)


def sign(weight: float) -> Sign:
    """The style sheet draws plus blue and minus orange, which every common colour blindness keeps apart."""
    return "plus" if weight > 0 else "minus"


def shorten(name: str) -> str:
    return name if len(name) <= _LONGEST_LABEL else name[: _LONGEST_LABEL - 1] + "…"


def attribute_order(edges: Edges) -> list[int]:
    """Attributes in an order that puts related ones beside each other (hierarchical clustering of |tau-b|)."""
    num_attributes = len(edges.attributes)
    if num_attributes < 3:
        return list(range(num_attributes))
    strength = np.abs(np.nan_to_num(edges.strength.astype(np.float64)))
    distance = 1 - np.clip((strength + strength.T) / 2, 0, 1)
    np.fill_diagonal(distance, 0)
    condensed = squareform(distance, checks=False)
    return [int(leaf) for leaf in leaves_list(optimal_leaf_ordering(linkage(condensed, "average"), condensed))]


@dataclass(frozen=True)
class Cell:
    """One square of a heat map; `kind` unresolved and undefined ones are hatched and carry no sign."""

    x: int
    y: int
    kind: Literal["weight", "unresolved", "undefined", "self"]
    tooltip: str
    sign: Sign = "plus"
    opacity: float = 1.0
    text: str = ""

    @property
    def on_dark(self) -> bool:
        """Whether the square is too dark for the page's ink."""
        return self.opacity > 0.72


@dataclass(frozen=True)
class HeatMap:
    """K x K squares of CELL units; row = source, column = target."""

    caption: str
    labels: tuple[str, ...]
    full_labels: tuple[str, ...]
    cells: tuple[Cell, ...]

    @classmethod
    def of(cls, caption: str, attributes: tuple[str, ...], order: list[int], cells: list[Cell]) -> "HeatMap":
        full = tuple(attributes[index] for index in order)
        return cls(caption, tuple(shorten(name) for name in full), full, tuple(cells))

    @property
    def font_size(self) -> float:
        """Larger where many squares make the whole drawing smaller."""
        return 12.5 if len(self.labels) <= SIDE_BY_SIDE_UP_TO else 17

    @property
    def margin(self) -> int:
        """Room for the labels, to the left and above."""
        return round(18 + 0.62 * self.font_size * max(len(label) for label in self.labels))

    @property
    def size(self) -> int:
        return self.margin + CELL * len(self.labels) + 6


def _weight_cell(x: int, y: int, weight: float, num_attributes: int, tooltip: str) -> Cell:
    text = two_digits(weight) if num_attributes <= _NUMBERS_UP_TO else ""
    return Cell(x, y, "weight", tooltip, sign(weight), opacity(weight), text)


def estimated_heat_map(edges: Edges, order: list[int]) -> HeatMap:
    """The estimated weights; what is unresolved shows no number and no colour, only its interval in the tooltip."""
    cells = []
    for y, i in enumerate(order):
        for x, j in enumerate(order):
            if i == j:
                cells.append(Cell(x, y, "self", edges.attributes[i]))
                continue
            weight, name = float(edges.weights[i, j]), f"{edges.attributes[i]} → {edges.attributes[j]}"
            limits = interval(edges.low[i, j], edges.high[i, j])
            if not np.isfinite(weight):
                cells.append(Cell(x, y, "undefined", f"{name}: no estimate, the grades do not vary"))
            elif not edges.resolved[i, j]:
                cells.append(Cell(x, y, "unresolved", f"{name}: unresolved, 95 % interval {limits}"))
            else:
                tooltip = f"{name}: {signed(weight)}, 95 % interval {limits}"
                cells.append(_weight_cell(x, y, weight, len(order), tooltip))
    return HeatMap.of("Estimated", edges.attributes, order, cells)


def true_heat_map(edges: Edges, truth: np.ndarray, order: list[int]) -> HeatMap:
    """The true weights [K, K], on the scale and in the order of the estimated ones."""
    cells = []
    for y, i in enumerate(order):
        for x, j in enumerate(order):
            name = f"{edges.attributes[i]} → {edges.attributes[j]}"
            if i == j:
                cells.append(Cell(x, y, "self", edges.attributes[i]))
            elif np.isfinite(truth[i, j]):
                tooltip = f"{name}: truly {signed(truth[i, j])}"
                cells.append(_weight_cell(x, y, float(truth[i, j]), len(order), tooltip))
            else:
                cells.append(Cell(x, y, "undefined", f"{name}: not known"))
    return HeatMap.of("True", edges.attributes, order, cells)


@dataclass(frozen=True)
class Dot:
    """A node on the circle, its label outside of it."""

    x: float
    y: float
    label: str
    label_x: float
    label_y: float
    anchor: Anchor
    rotation: float


@dataclass(frozen=True)
class Arrow:
    """One direction of a pair: a curve that bends to its own side, so that both directions can be told apart."""

    path: str
    width: float
    sign: Sign
    tooltip: str


@dataclass(frozen=True)
class Network:
    width: int
    height: int
    dots: tuple[Dot, ...]
    arrows: tuple[Arrow, ...]
    num_left_out: int


def network(edges: Edges, order: list[int], max_edges: int | None = None) -> Network:
    """The strongest resolved edges on a circle, at most `max_edges` (two an attribute: more would be a thicket).

    None of them is smaller than WEAKEST_DRAWN.
    """
    num_attributes = len(order)
    radial = num_attributes > 16
    radius = 8 * num_attributes if radial else 150
    label = 8 * max(len(shorten(name)) for name in edges.attributes)
    centre = np.array([radius + 24 + label, radius + (24 + label if radial else 40)])
    angles = {index: 2 * np.pi * place / num_attributes - np.pi / 2 for place, index in enumerate(order)}
    place = {i: centre + radius * np.array([np.cos(angle), np.sin(angle)]) for i, angle in angles.items()}
    weights = np.nan_to_num(edges.adjacency())
    np.fill_diagonal(weights, 0)
    pairs = [(int(i), int(j)) for i, j in zip(*np.nonzero(weights), strict=True)]
    pairs.sort(key=lambda pair: -abs(weights[pair]))
    drawn = [pair for pair in pairs if abs(weights[pair]) >= WEAKEST_DRAWN]
    drawn = drawn[: 2 * num_attributes if max_edges is None else max_edges]
    arrows = [
        _arrow(place[i], place[j], float(weights[i, j]), f"{edges.attributes[i]} → {edges.attributes[j]}")
        for i, j in reversed(drawn)
    ]
    dots = [_dot(place[i], angles[i], shorten(edges.attributes[i]), radial) for i in order]
    width, height = (2 * centre).tolist()
    return Network(width, height, tuple(dots), tuple(arrows), len(pairs) - len(drawn))


def _arrow(start: np.ndarray, end: np.ndarray, weight: float, name: str) -> Arrow:
    along = (end - start) / np.linalg.norm(end - start)
    aside = np.array([-along[1], along[0]])
    control = (start + end) / 2 + 0.13 * np.linalg.norm(end - start) * aside
    # The curve starts and ends at the rims of the dots, along the way it takes.
    start = start + 9 * (control - start) / np.linalg.norm(control - start)
    end = end - 13 * (end - control) / np.linalg.norm(end - control)
    path = f"M{start[0]:.1f},{start[1]:.1f} Q{control[0]:.1f},{control[1]:.1f} {end[0]:.1f},{end[1]:.1f}"
    return Arrow(path, round(0.8 + 5 * abs(weight), 2), sign(weight), f"{name}: {signed(weight)}")


def _dot(place: np.ndarray, angle: float, label: str, radial: bool) -> Dot:
    out = np.array([np.cos(angle), np.sin(angle)])
    at = place + 14 * out
    anchor: Anchor
    if radial:
        # Labels on the left half are turned, so that none stands on its head.
        flipped = out[0] < -1e-9
        rotation = round(float(np.degrees(angle)) + (180 if flipped else 0), 1)
        anchor = "end" if flipped else "start"
    else:
        rotation, anchor = 0.0, "middle" if abs(out[0]) < 0.2 else "start" if out[0] > 0 else "end"
        at = at + np.array([0, 5 * out[1]])
    x, y, label_x, label_y = np.round([*place, *at], 1).tolist()
    return Dot(x, y, label, label_x, label_y, anchor, rotation)
