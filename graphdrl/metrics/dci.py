"""Disentanglement, completeness, informativeness (Eastwood and Williams 2018), from importances of codes."""

from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier

from graphdrl.metrics.codes import CodedFactors
from graphdrl.metrics.importance import disentanglement

DEFAULT_BACKEND = "random_forest"

# DCI depends heavily on its classifier: figures by different backends must not be compared.
BACKENDS: dict[str, Callable[[int], Any]] = {
    # Every split looks at all codes and trees stay shallow: grown further they split on noise, and D falls for no
    # reason.
    "random_forest": lambda seed: RandomForestClassifier(12, max_depth=6, max_features=None, random_state=seed),
    # The reference of Locatello et al. 2019; minutes.
    "gradient_boosting": lambda seed: GradientBoostingClassifier(random_state=seed),
}


def dci(coded: CodedFactors, backend: str = DEFAULT_BACKEND) -> dict[str, float | str]:
    """`dci_d`, `dci_c`, `dci_i` (test accuracy, mean over factors) in [0, 1], and the name of the backend."""
    if backend not in BACKENDS:
        raise ValueError(f"unknown DCI backend {backend!r}; there are: {', '.join(BACKENDS)}")
    columns, accuracies = [], []
    for factor in range(len(coded.names)):
        classifier = BACKENDS[backend](coded.seed).fit(coded.codes_train, coded.grades_train[:, factor])
        columns.append(classifier.feature_importances_)
        accuracies.append(classifier.score(coded.codes_test, coded.grades_test[:, factor]))
    importance = np.stack(columns, axis=1)
    return {
        "dci_d": disentanglement(importance),
        "dci_c": disentanglement(importance.T),
        "dci_i": float(np.mean(accuracies)),
        "dci_backend": backend,
    }
