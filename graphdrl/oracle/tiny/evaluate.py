"""How well an oracle's grades agree with what is known of the images."""

import numpy as np
from scipy.stats import spearmanr

from graphdrl.oracle.questions import HIGHEST_GRADE


def agreement(expected: np.ndarray, grades: np.ndarray, graded: bool, attributes: tuple[str, ...] = ()) -> dict:
    """Agreement of expected scores [N, K] in 0..5 with true grades [N, K] in [0, 1]; NaN grades are left out.

    graded: Spearman's rho over all images; otherwise (ordered categories, whose ties cap rho) the concordance over
    the pairs of images whose true grades differ. `exact_match` compares round(score) with round(5 grade);
    `zero_scoring_rate` is the share of images on which every score rounds to 0. Returns plain numbers under
    `spearman_mean`, `spearman_min` or `concordance_mean`, `concordance_min`, and `by_attribute`.
    """
    if expected.shape != grades.shape:
        raise ValueError(f"scores {list(expected.shape)} and grades {list(grades.shape)} must be of one shape")
    measure, name = (_spearman, "spearman") if graded else (concordance, "concordance")
    known = ~np.isnan(grades)
    columns = [k for k in range(grades.shape[1]) if known[:, k].any()]
    names = attributes or tuple(str(k) for k in range(grades.shape[1]))
    by_attribute = {names[k]: measure(expected[known[:, k], k], grades[known[:, k], k]) for k in columns}
    rounded = np.rint(expected)
    return {
        f"{name}_mean": float(np.mean(list(by_attribute.values()))),
        f"{name}_min": min(by_attribute.values()),
        "exact_match": float((rounded == np.rint(grades * HIGHEST_GRADE))[known].mean()),
        "zero_scoring_rate": float(((rounded == 0) | ~known).all(axis=1).mean()),
        "by_attribute": by_attribute,
    }


def concordance(scores: np.ndarray, grades: np.ndarray) -> float:
    """Share of the pairs with different grades [N] that the scores [N] put into the same order; tied scores: half."""
    order = np.sign(grades[:, None] - grades[None, :])
    if not order.any():
        raise ValueError("all grades are the same: there is no order to agree with")
    agree = np.sign(scores[:, None] - scores[None, :]) * order
    return float((agree[order != 0].mean() + 1) / 2)


def _spearman(scores: np.ndarray, grades: np.ndarray) -> float:
    if np.ptp(scores) == 0:
        return 0.0
    return float(spearmanr(scores, grades).statistic)
