"""Estimators of the relation i -> j among graded attributes, by name; each reads the joint tables of one sample.

To add one, write a function from `JointTables` to weights [K, K] with zeros on the diagonal and register it. Only the
order of the grades may matter.
"""

from collections.abc import Callable
from difflib import get_close_matches

import numpy as np

from graphdrl.relations.polychoric import polychoric
from graphdrl.relations.tables import JointTables

Estimator = Callable[[JointTables], np.ndarray]

RIDGE = 1e-6
"""Added to the diagonal of a rank correlation matrix, so that attributes that repeat each other can still be inverted.
"""

_ESTIMATORS: dict[str, Estimator] = {"polychoric": polychoric}


def register(name: str) -> Callable[[Estimator], Estimator]:
    """Make an estimator known under `name`."""

    def keep(function: Estimator) -> Estimator:
        _ESTIMATORS[name] = function
        return function

    return keep


def estimator_names() -> tuple[str, ...]:
    """The names that an estimator may be asked for by."""
    return tuple(sorted(_ESTIMATORS))


def load_estimator(name: str) -> Estimator:
    """The estimator of that name; raises ValueError with the nearest match."""
    if name not in _ESTIMATORS:
        near = get_close_matches(name, _ESTIMATORS, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise ValueError(f"unknown relation estimator {name!r}{hint}; there are: {', '.join(estimator_names())}")
    return _ESTIMATORS[name]


@register("somers_d")
def somers_d(tables: JointTables) -> np.ndarray:
    """Somers' D(j|i) at [i, j]: how much the order in i tells of the order in j (the paper's impact score).

    (concordant - discordant) / pairs untied in i, in [-1, 1] (Somers 1962). D(j|i) / D(i|j) is the ratio of the untied
    pairs of j and of i: the two directions differ by the base rates and by nothing else.
    """
    return _off_diagonal(_ratio(tables.concordance, tables.untied[:, None]))


@register("tau_b")
def tau_b(tables: JointTables) -> np.ndarray:
    """Kendall's tau-b: symmetric, the geometric mean of the two Somers' D with their sign."""
    return _off_diagonal(_ratio(tables.concordance, np.sqrt(np.outer(tables.untied, tables.untied))))


@register("partial")
def partial(tables: JointTables) -> np.ndarray:
    """Semi-partial rank correlation at [i, j]: what i alone adds to the prediction of j from all other attributes.

    Grades become mid-ranks, and those of j are regressed on those of all the others. The square of the weight is the
    share of j's variance that is lost when i is left out of that regression, its sign is that of i's coefficient; so
    it lies in [-1, 1], and [i, j] differs from [j, i] (Cohen et al. 2003, Applied Multiple Regression, section 3.3).
    With P the inverse of the rank correlation matrix the coefficient is -P_ij / P_jj, and the part of i's
    variance that j's other predictors leave unexplained is 1 / (P_ii - P_ij^2 / P_jj).
    """
    correlation = rank_correlation(tables)
    precision = np.linalg.inv(correlation + RIDGE * np.eye(len(correlation)))
    own = np.diag(precision)
    coefficient = -precision / own[None, :]
    left = own[:, None] - precision**2 / own[None, :]
    # The variance left is at most 1, and the diagonal (left = 0) is of no interest.
    return _off_diagonal(np.clip(coefficient / np.sqrt(np.maximum(left, 1.0)), -1.0, 1.0))


def rank_correlation(tables: JointTables) -> np.ndarray:
    """Spearman's rho [K, K] with mid-ranks for ties; a constant attribute correlates with nothing but itself."""
    marginals = tables.marginals
    midranks = np.cumsum(marginals, axis=1) - (marginals + 1.0) / 2
    covariance = np.einsum("ia,iajb,jb->ij", midranks, tables.pairs, midranks, optimize=True)
    scale = np.where(tables.untied > 0, np.sqrt(np.diag(covariance)), 0.0)
    correlation = _ratio(covariance, np.outer(scale, scale))
    np.fill_diagonal(correlation, 1.0)
    return correlation


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Quotient, 0 where nothing varies."""
    numerator, denominator = np.broadcast_arrays(numerator, denominator)
    return np.divide(numerator, denominator, out=np.zeros(numerator.shape), where=denominator > 0)


def _off_diagonal(weights: np.ndarray) -> np.ndarray:
    np.fill_diagonal(weights, 0.0)
    return weights
