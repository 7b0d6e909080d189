"""How well estimated edges recover relations that are known."""

import numpy as np
from scipy.stats import rankdata

from graphdrl.oracle.questions import NUM_GRADES
from graphdrl.relations.edges import Edges
from graphdrl.relations.estimators import load_estimator
from graphdrl.relations.tables import joint_tables, to_grades

TRUE_EDGE = 0.1
"""A relation at least this strong, in either direction by itself, is a true edge."""


def true_relations(draws: np.ndarray, estimator: str = "somers_d", levels: int = NUM_GRADES) -> np.ndarray:
    """True relations float32 [K, K]: the estimator's value on many clean draws [N, K] of the factors, scaled to 0..5.

    Not a parameter of whatever drew them: what an estimate would tend to with error-free scores of ever more images.
    """
    return load_estimator(estimator)(joint_tables(to_grades(draws, levels), levels=levels)).astype(np.float32)


def recovery(edges: Edges, truth: np.ndarray, threshold: float = TRUE_EDGE) -> dict[str, float]:
    """Agreement of estimated edges with `truth` [K, K]; both directions of a pair count, the diagonal does not.

    spearman: rank correlation of weights and truth (0 if either is constant).
    true_edges: entries with |truth| >= threshold. resolved_edges: how many of these are resolved.
    weak_resolved: resolved entries that are no true edges (their relation may be there all the same).
    sign_accuracy: share of all resolved entries whose sign is that of the truth (0 if nothing is resolved).
    auroc: probability that |weight| ranks a true edge above another entry (0.5 if there is only one kind).
    coverage: share of entries whose interval holds the truth. mean_error: mean |weight - truth|.
    """
    if truth.shape != edges.weights.shape:
        raise ValueError(f"truth is {list(truth.shape)}, but there are {len(edges.attributes)} attributes")
    off_diagonal = ~np.eye(len(truth), dtype=bool)
    true, weights, resolved = truth[off_diagonal], edges.weights[off_diagonal], edges.resolved[off_diagonal]
    is_edge = np.abs(true) >= threshold
    inside = (edges.low[off_diagonal] <= true) & (true <= edges.high[off_diagonal])
    right = np.sign(weights[resolved]) == np.sign(true[resolved])
    return {
        "spearman": _spearman(weights, true),
        "sign_accuracy": float(right.mean()) if resolved.any() else 0.0,
        "resolved_edges": int((resolved & is_edge).sum()),
        "true_edges": int(is_edge.sum()),
        "weak_resolved": int((resolved & ~is_edge).sum()),
        "auroc": _auroc(np.abs(weights), is_edge),
        "coverage": float(inside.mean()),
        "mean_error": float(np.abs(weights - true).mean()),
    }


def _spearman(first: np.ndarray, second: np.ndarray) -> float:
    ranks = np.stack([rankdata(first), rankdata(second)])
    if (np.ptp(ranks, axis=1) == 0).any():
        return 0.0
    return float(np.corrcoef(ranks)[0, 1])


def _auroc(score: np.ndarray, positive: np.ndarray) -> float:
    """Area under the ROC curve by the rank sum (Mann and Whitney); ties count half."""
    num_positive, num_negative = int(positive.sum()), int((~positive).sum())
    if not num_positive or not num_negative:
        return 0.5
    rank_sum = rankdata(score)[positive].sum()
    return float((rank_sum - num_positive * (num_positive + 1) / 2) / (num_positive * num_negative))
