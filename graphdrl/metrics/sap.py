"""Separated attribute predictability (Kumar et al. 2018): how far the best single code is ahead in predicting a
factor.
"""

import numpy as np
from sklearn.svm import LinearSVC

from graphdrl.metrics.codes import CodedFactors

_REGULARISATION = 0.01


def sap(coded: CodedFactors) -> dict[str, float]:
    """`sap`: test accuracy of the best code minus that of the second best, mean over factors.

    A linear support vector machine classifies the factor's grade from one code, with the classes balanced.
    """
    accuracy = np.array(
        [
            [_accuracy(coded, code, factor) for factor in range(len(coded.names))]
            for code in range(coded.codes_train.shape[1])
        ]
    )
    ranked = np.sort(accuracy, axis=0)
    second = ranked[-2] if len(ranked) > 1 else 0.0
    return {"sap": float(np.mean(ranked[-1] - second))}


def _accuracy(coded: CodedFactors, code: int, factor: int) -> float:
    machine = LinearSVC(C=_REGULARISATION, class_weight="balanced", random_state=coded.seed)
    machine.fit(coded.codes_train[:, [code]], coded.grades_train[:, factor])
    return float(machine.score(coded.codes_test[:, [code]], coded.grades_test[:, factor]))
