"""Oracle disentanglement: how exclusively does a node move one attribute, in the eyes of an oracle? No label needed.

Every node of a model is traversed and the oracle grades all attributes of what comes out. The table of how much each
node moves each attribute is read as DCI reads its importances (Eastwood and Williams 2018).
"""

from collections.abc import Sequence

import numpy as np

from graphdrl.metrics.importance import disentanglement

LEAST_MOVE = 0.5
"""Grades of 0..5; an attribute that no node moves as far is not controlled by the model."""


def moves(expected: np.ndarray) -> np.ndarray:
    """How far each attribute's expected grade goes when a node is traversed: float64 [nodes, K], in grades.

    expected: [nodes, V, B, K], grades of B images with each node at V >= 2 values; NaN where an answer was malformed.
    The distance of highest and lowest grade over the values, mean over the images whose values were all graded.
    """
    if expected.ndim != 4 or expected.shape[1] < 2:
        raise ValueError(f"grades [nodes, V >= 2, B, K] are needed, not {list(expected.shape)}")
    reach = np.ptp(np.asarray(expected, np.float64), axis=1)
    graded = np.isfinite(reach)
    total = np.where(graded, reach, 0.0).sum(axis=1)
    return np.divide(total, graded.sum(axis=1), out=np.zeros_like(total), where=graded.any(axis=1))


def oracle_disentanglement(moved: np.ndarray, owners: Sequence[int] = ()) -> dict[str, float]:
    """Figures of a table of moves float [nodes, K], in grades.

    owners: for each attribute the node that is named after it, -1 for none; left out when no node has a name.

    oracle_disentanglement: exclusivity times coverage, in [0, 1].
    oracle_exclusivity: 1 - entropy of what a node moves, nodes weighted by how far they move anything. Alone it is no
        measure of a model: where next to nothing moves, what little does is exclusive by chance.
    oracle_coverage: share of the attributes that some node moves by at least LEAST_MOVE.
    oracle_completeness: exclusivity the other way round: is an attribute moved by one node only?
    oracle_moved: grades that an attribute goes by its strongest node, mean over attributes.
    oracle_own_share: share of what a named node moves that is its own attribute, mean over all attributes, 0 for those
        that no node is named after or whose node moves nothing; only with owners.

    Raises ValueError for fewer than two attributes, without a node, and for moves that are negative or not finite.
    """
    _check(moved, owners)
    strongest = moved.max(axis=0)
    exclusivity, coverage = float(np.clip(disentanglement(moved), 0, 1)), float((strongest >= LEAST_MOVE).mean())
    figures = {
        "oracle_disentanglement": exclusivity * coverage,
        "oracle_exclusivity": exclusivity,
        "oracle_coverage": coverage,
        "oracle_completeness": float(np.clip(disentanglement(moved.T), 0, 1)) if len(moved) > 1 else 0.0,
        "oracle_moved": float(strongest.mean()),
    }
    if len(owners):
        figures["oracle_own_share"] = _own_share(moved, np.asarray(owners))
    return figures


def _own_share(moved: np.ndarray, owners: np.ndarray) -> float:
    named = owners >= 0
    rows = moved[owners[named]]
    own, total = rows[np.arange(len(rows)), np.flatnonzero(named)], rows.sum(axis=1)
    return float(np.divide(own, total, out=np.zeros_like(own), where=total > 0).sum() / len(owners))


def _check(moved: np.ndarray, owners: Sequence[int]) -> None:
    if moved.ndim != 2 or moved.shape[0] < 1 or moved.shape[1] < 2:
        raise ValueError(
            f"moves [nodes, K] of at least one node and two attributes are needed, not {list(moved.shape)}: "
            "with one attribute every node is exclusive"
        )
    if not (np.isfinite(moved) & (moved >= 0)).all():
        raise ValueError("moves are distances in grades: none is negative, infinite or NaN")
    if len(owners) not in (0, moved.shape[1]) or any(not -1 <= owner < len(moved) for owner in owners):
        raise ValueError(
            f"owners name one of {len(moved)} nodes, or -1, for each of {moved.shape[1]} attributes, not {list(owners)}"
        )
