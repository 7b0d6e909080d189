"""The rows of a page's tables: plain values and finished text, so that templates only lay them out."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from graphdrl.oracle.questions import NUM_GRADES, RelateAnswer, Scores
from graphdrl.relations.edges import Edges, RelationsVersion
from graphdrl.report.drawings import WEAKEST_DRAWN, Sign, sign
from graphdrl.report.glossary import ORACLE_KEYS, term
from graphdrl.report.wording import interval, signed, written


@dataclass(frozen=True)
class Figure:
    """One number with its name and meaning; `bar` in percent for numbers in [0, 1]."""

    key: str
    label: str
    text: str
    meaning: str
    bar: float | None


def flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Leaves of nested mappings, with their keys joined by dots."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def figure(key: str, value: Any) -> Figure:
    entry = term(key)
    is_share = entry.style in ("unit", "share") and isinstance(value, (int, float)) and np.isfinite(value)
    bar = float(np.clip(100 * value, 0, 100)) if is_share else None
    return Figure(key, entry.label, written(value, entry.style), entry.meaning, bar)


@dataclass(frozen=True)
class Figures:
    """The numbers of a summary by what they are about."""

    ran: tuple[Figure, ...]
    oracle: tuple[Figure, ...]
    relations: tuple[Figure, ...]
    metrics: tuple[Figure, ...]


def sorted_figures(summary: Mapping[str, Any], oracle: Mapping[str, Any]) -> Figures:
    """Numbers whose key starts with `relations.` or `metrics.`, those about the oracle, and the rest: what ran.

    A number that stands in both `summary` and `oracle` is shown once, as `oracle` has it. What dimensions are called
    in words stands beside their traversals, and not here.
    """
    groups: dict[str, list[Figure]] = {"ran": [], "oracle": [], "relations": [], "metrics": []}
    said = dict(flat(oracle))
    for key, value in flat(summary):
        if key in said or key.startswith("named_in_words."):
            continue
        room = key.split(".", 1)[0]
        if room not in ("relations", "metrics"):
            room = "oracle" if key in ORACLE_KEYS or key.startswith("oracle") else "ran"
        groups[room].append(figure(key, value))
    groups["oracle"] += [figure(key, value) for key, value in said.items()]
    return Figures(**{name: tuple(figures) for name, figures in groups.items()})


@dataclass(frozen=True)
class EdgeRow:
    """One directed edge. Positions are in percent of the scale from -1 to 1; None where there is no estimate."""

    source: str
    target: str
    weight: str
    interval: str
    resolved: bool
    truth: str
    verdict: str
    size: float
    sign: Sign
    at: float | None
    at_low: float | None
    at_high: float | None
    at_truth: float | None


def edge_row(edges: Edges, i: int, j: int, truth: np.ndarray | None = None) -> EdgeRow:
    weight, low, high = (float(matrix[i, j]) for matrix in (edges.weights, edges.low, edges.high))
    resolved, true = bool(edges.resolved[i, j]), None if truth is None else float(truth[i, j])
    return EdgeRow(
        source=edges.attributes[i],
        target=edges.attributes[j],
        # An unresolved edge has an interval, but no weight to quote and no sign.
        weight=signed(weight) if resolved else "unresolved",
        interval=interval(low, high),
        resolved=resolved,
        truth="" if true is None else signed(true),
        verdict="" if true is None else _verdict(weight, resolved, true),
        size=abs(weight) if np.isfinite(weight) else 0.0,
        sign=sign(weight),
        at=_position(weight),
        at_low=_position(low),
        at_high=_position(high),
        at_truth=None if true is None else _position(true),
    )


def _position(value: float) -> float | None:
    return round(float(np.clip(50 + 50 * value, 0, 100)), 2) if np.isfinite(value) else None


def _verdict(weight: float, resolved: bool, truth: float) -> str:
    if not np.isfinite(truth):
        return "not known"
    if abs(truth) < WEAKEST_DRAWN:
        return "truly near 0"
    if not resolved:
        return "missed"
    return "right sign" if weight * truth > 0 else "wrong sign"


def edge_rows(edges: Edges, truth: np.ndarray | None = None) -> list[EdgeRow]:
    """Every directed edge: the resolved ones first, each part by size."""
    indices = range(len(edges.attributes))
    rows = [edge_row(edges, i, j, truth) for i in indices for j in indices if i != j]
    return sorted(rows, key=lambda row: (not row.resolved, -row.size))


@dataclass(frozen=True)
class BeliefRow:
    """A measured edge, and what a model believes of the same direction without having looked.

    verdict: whether belief and measurement have the same sign; empty where the edge is unresolved or nothing is
    believed, for then there are no two signs to compare.
    """

    measured: EdgeRow
    believed: str
    sign: Sign | None
    verdict: Literal["same sign", "opposite sign", ""]


def belief_rows(edges: Edges, beliefs: RelateAnswer) -> list[BeliefRow]:
    """Every directed edge beside the belief about it, in the order of `edge_rows`."""
    place, weights = edges.attributes.index, beliefs.weights
    return [_belief_row(row, float(weights[place(row.source), place(row.target)])) for row in edge_rows(edges)]


def _belief_row(measured: EdgeRow, believed: float) -> BeliefRow:
    has_sign = np.isfinite(believed) and round(believed, 2) != 0  # what reads as 0.00 is no belief either way
    verdict: Literal["same sign", "opposite sign", ""] = ""
    if measured.resolved and has_sign:
        verdict = "same sign" if measured.sign == sign(believed) else "opposite sign"
    return BeliefRow(measured, signed(believed), sign(believed) if has_sign else None, verdict)


@dataclass(frozen=True)
class PairRow:
    """Both directions of a pair, the stronger first, and how strongly the two hang together (Kendall's tau-b)."""

    directions: tuple[EdgeRow, EdgeRow]
    strength: str


def pair_rows(edges: Edges) -> list[PairRow]:
    """Every pair: those with a resolved direction first, then by the size of the stronger direction."""
    rows = []
    for i in range(len(edges.attributes)):
        for j in range(i + 1, len(edges.attributes)):
            both = sorted((edge_row(edges, i, j), edge_row(edges, j, i)), key=lambda row: (not row.resolved, -row.size))
            rows.append(PairRow((both[0], both[1]), signed(edges.strength[i, j])))
    return sorted(rows, key=lambda row: (not row.directions[0].resolved, -row.directions[0].size))


@dataclass(frozen=True)
class VersionRow:
    version: int
    step: str
    num_scored: str
    resolved: str
    width: str
    change: str
    effective: str
    notes: tuple[str, ...]


def version_rows(versions: Sequence[RelationsVersion], schedule: Sequence[tuple[int, int]]) -> list[VersionRow]:
    """One row a version: when training took it, what it was made of, how far it moved from the one before."""
    steps = {version: step for step, version in reversed(schedule)}
    rows = []
    for place, version in enumerate(versions):
        edges, previous = version.edges, versions[place - 1].edges if place else None
        off = ~np.eye(len(edges.attributes), dtype=bool)
        moved = None if previous is None else _mean_finite(np.abs(edges.weights - previous.weights)[off])
        num = edges.num_scored
        share = 100 * version.effective_sample_size / max(num, 1)
        rows.append(
            VersionRow(
                version=version.version,
                step=written(steps.get(version.version)),
                num_scored=written(num),
                resolved=f"{int((edges.resolved & off).sum())} of {int(off.sum())}",
                width=written(median_width(edges)),
                change=written(moved),
                effective=f"{written(round(float(version.effective_sample_size)))} ({share:.0f} %)",
                notes=version.notes,
            )
        )
    return rows


def _mean_finite(values: np.ndarray) -> float | None:
    finite = values[np.isfinite(values)]
    return round(float(finite.mean()), 3) if len(finite) else None


def median_width(edges: Edges) -> float | None:
    """Median length of the intervals of all directed edges."""
    widths = (edges.high - edges.low)[~np.eye(len(edges.attributes), dtype=bool)]
    finite = widths[np.isfinite(widths)]
    return round(float(np.median(finite)), 3) if len(finite) else None


@dataclass(frozen=True)
class Distribution:
    """How often each grade 0..5 is the most probable one of an attribute; bars in percent of the tallest."""

    attribute: str
    shares: tuple[str, ...]
    bars: tuple[float, ...]
    mean: str


def distributions(scores: Scores) -> list[Distribution]:
    rows = []
    for column, attribute in enumerate(scores.attributes):
        counts = np.bincount(np.clip(scores.argmax[:, column].astype(int), 0, NUM_GRADES - 1), minlength=NUM_GRADES)
        shares = counts / max(len(scores), 1)
        bars = 100 * shares / max(float(shares.max()), 1e-12)
        mean = float(scores.expected[:, column].mean()) if len(scores) else None
        rows.append(
            Distribution(
                attribute=attribute,
                shares=tuple(written(round(float(share), 3), "percent") for share in shares),
                bars=tuple(round(float(bar), 1) for bar in bars),
                mean=written(None if mean is None else round(mean, 2)),
            )
        )
    return rows
