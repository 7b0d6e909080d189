"""Disentanglement, completeness, informativeness (Eastwood and Williams 2018), from importances of codes.

scikit-learn is imported when a classifier is made, so that names of backends can be checked at once.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from graphdrl.metrics.codes import CodedFactors
from graphdrl.metrics.importance import disentanglement

DEFAULT_BACKEND = "random_forest"


def _random_forest(seed: int) -> Any:
    """Every split looks at all codes and trees stay shallow: grown further they split on noise, and D falls for no
    reason.
    """
    from sklearn.ensemble import RandomForestClassifier

    return RandomForestClassifier(12, max_depth=6, max_features=None, random_state=seed)


def _gradient_boosting(seed: int) -> Any:
    """The reference of Locatello et al. 2019; minutes."""
    from sklearn.ensemble import GradientBoostingClassifier

    return GradientBoostingClassifier(random_state=seed)


# DCI depends heavily on its classifier: figures by different backends must not be compared.
BACKENDS: dict[str, Callable[[int], Any]] = {
    "random_forest": _random_forest,
    "gradient_boosting": _gradient_boosting,
}


def check_backends(backends: Sequence[str]) -> None:
    """Raise ValueError for no backend and for one that is not known."""
    unknown = [name for name in backends if name not in BACKENDS]
    if unknown or not backends:
        raise ValueError(f"unknown DCI backend {', '.join(unknown) or '(none)'!r}; there are: {', '.join(BACKENDS)}")


def dci_by(coded: CodedFactors, backends: Sequence[str]) -> dict[str, float | str]:
    """DCI by the first backend, and by every other one under names that end in it: `dci_d_gradient_boosting`."""
    check_backends(backends)
    figures = dci(coded, backends[0])
    for backend in backends[1:]:
        others = dci(coded, backend)
        figures |= {f"{name}_{backend}": others[name] for name in ("dci_d", "dci_c", "dci_i")}
    return figures


def dci(coded: CodedFactors, backend: str = DEFAULT_BACKEND) -> dict[str, float | str]:
    """`dci_d`, `dci_c`, `dci_i` (test accuracy, mean over factors) in [0, 1], and the name of the backend."""
    check_backends((backend,))
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
