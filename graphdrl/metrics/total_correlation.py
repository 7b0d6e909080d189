"""How much the codes say of each other, whatever the factors: the unsupervised scores of Locatello et al. 2019.

Total correlation is Watanabe's (1960): the divergence of the codes' joint distribution from the product of their
marginals. Here less is better, and codes that say nothing of the images score best: read it beside a measure of what
the codes know.
"""

import numpy as np

from graphdrl.metrics.codes import CodedFactors

_SMALLEST = 1e-12
"""Of an eigenvalue: a code that repeats others would make the total correlation infinite."""


def total_correlation(coded: CodedFactors) -> dict[str, float]:
    """Three figures of the mean codes; 0 when they are independent.

    gaussian_total_correlation: of a normal with the codes' covariance, in nats; codes that never vary take no part.
    gaussian_wasserstein_correlation_norm: squared 2-Wasserstein distance of that normal from the product of its
        marginals, over the codes' total variance; in [0, 2).
    mutual_info_score: mutual information of two codes in 20 bins each, in nats, mean over all pairs. Bins that fill by
        chance add about (bins - 1)^2 / 2N.
    """
    num_codes = coded.codes_train.shape[1]
    varying = coded.codes_train[:, np.ptp(coded.codes_train, axis=0) > 0]
    covariance = np.atleast_2d(np.cov(varying, rowvar=False)) if varying.shape[1] else np.zeros((0, 0))
    between = coded.code_information
    pairs = max(num_codes * (num_codes - 1), 1)
    return {
        "gaussian_total_correlation": gaussian_total_correlation(covariance),
        "gaussian_wasserstein_correlation_norm": gaussian_wasserstein_correlation_norm(covariance),
        "mutual_info_score": float((between.sum() - np.trace(between)) / pairs),
    }


def gaussian_total_correlation(covariance: np.ndarray) -> float:
    """Total correlation in nats of a normal with that covariance [Z, Z], whose variances are positive."""
    deviations = np.sqrt(np.diag(covariance))
    spectrum = np.linalg.eigvalsh(covariance / np.outer(deviations, deviations))
    return float(-0.5 * np.log(np.maximum(spectrum, _SMALLEST)).sum())


def gaussian_wasserstein_correlation_norm(covariance: np.ndarray) -> float:
    """Squared 2-Wasserstein distance of N(0, C) from N(0, diag C) over the trace of C [Z, Z]; 0 when that is 0."""
    total = np.trace(covariance)
    if total == 0:
        return 0.0
    deviations = np.sqrt(np.diag(covariance))
    spectrum = np.linalg.eigvalsh(covariance * np.outer(deviations, deviations))
    return float(2 - 2 * np.sqrt(np.maximum(spectrum, 0)).sum() / total)
