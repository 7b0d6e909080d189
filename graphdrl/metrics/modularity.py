"""Modularity and explicitness (Ridgeway and Mozer 2018)."""

import numpy as np
from sklearn.metrics import roc_auc_score

from graphdrl.metrics.codes import CodedFactors
from graphdrl.metrics.probes import LinearProbes


def modularity(coded: CodedFactors) -> dict[str, float]:
    """`modularity`: 1 - information of a code on all factors but its own, relative to the worst case, mean over codes.

    A code that informs on nothing counts 0.
    """
    squared = coded.mutual_information**2
    best = squared.max(axis=1)
    spilled = (squared.sum(axis=1) - best) / np.where(best > 0, best * (squared.shape[1] - 1), 1.0)
    return {"modularity": float(np.where(best > 0, 1.0 - spilled, 0.0).mean())}


def explicitness(coded: CodedFactors, probes: LinearProbes) -> dict[str, float]:
    """`explicitness`: area under the ROC curve of linear probes, one grade against the rest; mean over grades and
    factors.
    """
    areas = []
    for factor, (grades, probabilities) in enumerate(zip(probes.grades, probes.probabilities, strict=True)):
        truth = coded.grades_test[:, factor]
        tested = [column for column, grade in enumerate(grades) if 0 < (truth == grade).mean() < 1]
        areas.append(np.mean([roc_auc_score(truth == grades[column], probabilities[:, column]) for column in tested]))
    return {"explicitness": float(np.mean(areas))}
