"""Interventional robustness score (Suter et al. 2019): does a code keep still while other factors change?"""

import numpy as np

from graphdrl.metrics.codes import CodedFactors

_QUANTILE = 0.99


def irs(coded: CodedFactors) -> dict[str, float]:
    """`irs`: 1 - how far a code moves while its factor keeps its grade, codes weighted by how far they move at all.

    The far end of the deviations is their 99th percentile. Codes that never move take no part.
    """
    codes = coded.codes_train[:, np.ptp(coded.codes_train, axis=0) > 0]
    if codes.shape[1] == 0:
        return {"irs": 0.0}
    furthest = np.abs(codes - codes.mean(axis=0)).max(axis=0)
    kept = np.stack([_moved(codes, grades) for grades in coded.grades_train.T], axis=1)
    robustness = 1.0 - kept / furthest[:, None]
    return {"irs": float(np.average(robustness.max(axis=1), weights=furthest))}


def _moved(codes: np.ndarray, grades: np.ndarray) -> np.ndarray:
    """[Z], how far codes get from their mean while one factor keeps its grade, mean over its grades."""
    reach = []
    for grade in np.unique(grades):
        same = codes[grades == grade]
        reach.append(np.percentile(np.abs(same - same.mean(axis=0)), 100 * _QUANTILE, axis=0))
    return np.mean(reach, axis=0)
