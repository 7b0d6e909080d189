"""Consistency and restrictiveness of each factor's code (Shu et al. 2020, section 3), seen from the encoder's side.

Consistent: while the factor is fixed, its code does not change. Restrictive: when only the factor changes, the other
codes do not. A factor's code is the one of whose variance it explains most.
"""

import numpy as np

from graphdrl.metrics.codes import CodedFactors


def consistency(coded: CodedFactors) -> dict[str, float]:
    """Means over factors, each in [0, 1]; factors must have been drawn independently.

    consistency: 1 - E[Var(own code | factor)] / Var(own code), which is the share that the factor explains of its code.
    restrictiveness: 1 - share that the factor explains of all other codes' variance. What it does to them only together
        with other factors does not show: that would take images that differ in one factor alone.

    Codes that never vary are consistent with nothing, and restrictive.
    """
    codes = coded.codes_train
    variance = codes.var(axis=0)
    explained = np.stack([_explained(codes, grades) for grades in coded.grades_train.T], axis=1)
    share = np.divide(explained, variance[:, None], out=np.zeros_like(explained), where=variance[:, None] > 0)
    own = share.argmax(axis=0)
    factors = np.arange(len(own))
    rest, spilled = variance.sum() - variance[own], explained.sum(axis=0) - explained[own, factors]
    return {
        "consistency": float(share[own, factors].mean()),
        "restrictiveness": float((1 - np.divide(spilled, rest, out=np.zeros_like(rest), where=rest > 0)).mean()),
    }


def _explained(codes: np.ndarray, grades: np.ndarray) -> np.ndarray:
    """Variance [Z] of the codes' means given a factor's grade."""
    values, counts = np.unique(grades, return_counts=True)
    means = np.stack([codes[grades == value].mean(axis=0) for value in values])
    return np.average(np.square(means - codes.mean(axis=0)), axis=0, weights=counts)
