"""Relations as rows: every pair of attributes, by each kind of evidence, in both directions."""

from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np

RelationSource = Literal["data", "partial", "belief", "do"]


class Relation(NamedTuple):
    """What one kind of evidence says of a pair of attributes; plain values, so that any table takes the rows.

    source: data, weights of the scored images; partial, the same given all the other attributes; belief, what a
        multimodal model thinks without looking; do, what this model does when a node is moved (not what causes what).
    measure: the estimator of `data`; of `do`, whether the node was moved "alone" or the move was
        "propagated" to its neighbours.
    weight, low, high, resolved: of first -> second: the weight in [-1, 1], or in grades for one standard deviation if
        the source is `do`; its 95 % interval; whether that keeps clear of 0 after the control of false discoveries. An
        unresolved weight has no sign to be quoted. None where it was not measured. reverse_*: of second -> first.
    """

    first: str
    second: str
    source: RelationSource
    measure: str
    weight: float | None
    low: float | None
    high: float | None
    resolved: bool | None
    reverse_weight: float | None
    reverse_low: float | None
    reverse_high: float | None
    reverse_resolved: bool | None


class Evidence(NamedTuple):
    """One kind of evidence on all ordered pairs; matrices [K, K], None where it has no intervals."""

    source: RelationSource
    measure: str
    weights: np.ndarray
    low: np.ndarray | None = None
    high: np.ndarray | None = None
    resolved: np.ndarray | None = None


def rows(attributes: tuple[str, ...], kinds: list[Evidence]) -> Iterator[Relation]:
    """Pair by pair in the order of the attributes, all kinds of evidence on a pair one below the other."""
    for i, first in enumerate(attributes):
        for j in range(i + 1, len(attributes)):
            for kind in kinds:
                forth, back = _entries(kind, i, j), _entries(kind, j, i)
                yield Relation(first, attributes[j], kind.source, kind.measure, *forth, *back)


def _entries(kind: Evidence, i: int, j: int) -> tuple[float | None, float | None, float | None, bool | None]:
    weight, low, high = (_number(matrix, i, j) for matrix in (kind.weights, kind.low, kind.high))
    return weight, low, high, None if kind.resolved is None or low is None else bool(kind.resolved[i, j])


def _number(matrix: np.ndarray | None, i: int, j: int) -> float | None:
    return None if matrix is None or np.isnan(matrix[i, j]) else float(matrix[i, j])
