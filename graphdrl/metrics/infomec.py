"""InfoM, InfoC, InfoE (Hsu et al. 2023, Disentanglement via Latent Quantization): modularity, compactness,
explicitness.
"""

import numpy as np

from graphdrl.metrics.codes import CodedFactors, entropy
from graphdrl.metrics.probes import LinearProbes

_ACTIVE_RANGE = 1 / 8
"""A code whose range is smaller than this share of the largest range is inactive."""
_SMALLEST = 1e-12


def infomec(coded: CodedFactors, probes: LinearProbes) -> dict[str, float]:
    """`info_m`, `info_c`, `info_e`, each 1 at best and about 0 for codes that say nothing in particular.

    Information is that of binned codes, in units of the factor's entropy; inactive codes take no part.
    """
    spans = np.ptp(coded.codes_train, axis=0)
    active = spans > spans.max() * _ACTIVE_RANGE
    information = (coded.mutual_information / coded.factor_entropy)[active]
    return {
        "info_m": _concentration(information) if len(information) else 0.0,
        "info_c": _concentration(information.T) if len(information) > 1 else 0.0,
        "info_e": _predictive_information(coded, probes),
    }


def _concentration(information: np.ndarray) -> float:
    """Share of the largest entry in each row, mean over rows, scaled so that even rows give 0 and single entries give
    1.
    """
    columns = information.shape[1]
    share = information.max(axis=1) / np.maximum(information.sum(axis=1), _SMALLEST)
    return float((share.mean() - 1 / columns) / (1 - 1 / columns))


def _predictive_information(coded: CodedFactors, probes: LinearProbes) -> float:
    """How much of a factor's entropy a linear probe takes away on test codes, mean over factors."""
    gains = []
    for factor, (grades, probabilities) in enumerate(zip(probes.grades, probes.probabilities, strict=True)):
        truth = coded.grades_test[:, factor]
        known = np.isin(truth, grades)
        column = np.searchsorted(grades, truth[known])
        loss = -np.log(np.maximum(probabilities[known, column], _SMALLEST)).mean()
        gains.append(1.0 - loss / max(entropy(np.bincount(column) / len(column)), _SMALLEST))
    return float(np.mean(gains))
