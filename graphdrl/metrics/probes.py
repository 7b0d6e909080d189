"""Linear probes of the codes for each factor, fitted once for the metrics that ask what is explicit in a code."""

from dataclasses import dataclass

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from graphdrl.metrics.codes import CodedFactors

_MOST_STEPS = 1_000


@dataclass(frozen=True)
class LinearProbes:
    """grades: the grades of each factor that were there to fit on. probabilities: [N, grades], of the test codes."""

    grades: tuple[np.ndarray, ...]
    probabilities: tuple[np.ndarray, ...]

    @classmethod
    def fit(cls, coded: CodedFactors) -> "LinearProbes":
        """A multinomial logistic regression on standardised codes for every factor."""
        scaler = StandardScaler().fit(coded.codes_train)
        train, test = scaler.transform(coded.codes_train), scaler.transform(coded.codes_test)
        probes = [LogisticRegression(max_iter=_MOST_STEPS).fit(train, grades) for grades in coded.grades_train.T]
        return cls(tuple(probe.classes_ for probe in probes), tuple(probe.predict_proba(test) for probe in probes))
