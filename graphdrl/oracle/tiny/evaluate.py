"""How well an oracle's grades agree with what is known of the images."""

from collections.abc import Callable, Mapping

import numpy as np
from scipy.stats import spearmanr

from graphdrl.oracle.evaluation import concordance
from graphdrl.oracle.questions import HIGHEST_GRADE

Pairs = Mapping[str, tuple[np.ndarray, np.ndarray]]
"""Attribute -> scores [N] and true grades [N]."""


def agreement(expected: np.ndarray, grades: np.ndarray, graded: bool, attributes: tuple[str, ...] = ()) -> dict:
    """Agreement of expected scores [N, K] in 0..5 with true grades [N, K] in [0, 1]; NaN grades are left out.

    graded: Spearman's rho over all images; otherwise (ordered categories, whose ties cap rho) the concordance over the
    pairs of images whose true grades differ.
    The images without an attribute tie in the truth. When they are a share q of all, a score that never ties cannot
    reach a rho of more than sqrt(1 - q^3), however good (0.75 for q = 0.76). To a tenth of a grade what is absent ties
    again: `spearman_tenths_mean` and `spearman_tenths_min` are rho of scores so rounded.
    `exact_match` compares round(score) with round(5 grade); `zero_scoring_rate` is the share of images on which every
    score rounds to 0. Returns plain numbers under `spearman_mean`, `spearman_min` or `concordance_mean`,
    `concordance_min`, and `by_attribute`; attributes without any known grade have no part in them.
    """
    if expected.shape != grades.shape:
        raise ValueError(f"scores {list(expected.shape)} and grades {list(grades.shape)} must be of one shape")
    known = ~np.isnan(grades)
    names = attributes or tuple(str(k) for k in range(grades.shape[1]))
    pairs = {
        names[k]: (expected[known[:, k], k], grades[known[:, k], k])
        for k in range(grades.shape[1])
        if known[:, k].any()
    }
    rounded = np.rint(expected)
    figures: dict = _spearman_figures(pairs) if graded else _summary("concordance", _each(concordance, pairs))
    figures["exact_match"] = float((rounded == np.rint(grades * HIGHEST_GRADE))[known].mean())
    figures["zero_scoring_rate"] = float(((rounded == 0) | ~known).all(axis=1).mean())
    return figures


def _spearman_figures(pairs: Pairs) -> dict:
    rounded = {name: (np.round(scores, 1), grades) for name, (scores, grades) in pairs.items()}
    return _summary("spearman_tenths", _each(_spearman, rounded)) | _summary("spearman", _each(_spearman, pairs))


def _spearman(scores: np.ndarray, grades: np.ndarray) -> float:
    """Spearman's rho; 0 when all scores are the same, as nothing is then told apart."""
    return 0.0 if np.ptp(scores) == 0 else float(spearmanr(scores, grades).statistic)


def _each(measure: Callable[[np.ndarray, np.ndarray], float], pairs: Pairs) -> dict[str, float]:
    return {name: measure(scores, grades) for name, (scores, grades) in pairs.items()}


def _summary(name: str, by_attribute: dict[str, float]) -> dict:
    values = list(by_attribute.values())
    return {f"{name}_mean": float(np.mean(values)), f"{name}_min": min(values), "by_attribute": by_attribute}
