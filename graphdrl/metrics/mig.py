"""Mutual information gap (Chen et al. 2018): how far the best code of a factor is ahead of the second best."""

import numpy as np

from graphdrl.metrics.codes import CodedFactors


def mig(coded: CodedFactors) -> dict[str, float]:
    """Information of single codes on a factor, in units of the factor's entropy, mean over factors; in [0, 1].

    mig: that of the best code minus that of the second best.
    mutual_information: that of the best code, the first half of the gap; copies of a code cost nothing here.

    It is the codes that are binned; the factors have their grades.
    """
    information = np.sort(coded.mutual_information / coded.factor_entropy, axis=0)
    second = information[-2] if len(information) > 1 else 0.0
    return {"mig": float(np.mean(information[-1] - second)), "mutual_information": float(information[-1].mean())}
