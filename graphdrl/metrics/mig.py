"""Mutual information gap (Chen et al. 2018): how far the best code of a factor is ahead of the second best."""

import numpy as np

from graphdrl.metrics.codes import CodedFactors


def mig(coded: CodedFactors) -> dict[str, float]:
    """`mig`: (highest - second highest information of a code on a factor) / entropy of the factor, mean over factors.

    It is the codes that are binned; the factors have their grades.
    """
    information = np.sort(coded.mutual_information, axis=0)
    second = information[-2] if len(information) > 1 else 0.0
    return {"mig": float(np.mean((information[-1] - second) / coded.factor_entropy))}
