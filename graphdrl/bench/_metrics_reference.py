"""Writes `metrics_reference.json`: what disentanglement_lib says of the codes that `graphdrl bench metrics` measures.

Run with `pip install --no-deps disentanglement-lib==1.5 absl-py six`; its parameters are those of Locatello et al.
2019. Its configuration library needs TensorFlow, of which its metrics use nothing: a stand-in takes its place.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from graphdrl.bench._coded_cases import CASES, SIZES, Case, draw_factors, fingerprint
from graphdrl.metrics.beta_vae import NUM_TEST_POINTS, NUM_TRAIN_POINTS
from graphdrl.metrics.codes import NUM_BINS, CodedFactors
from graphdrl.metrics.factor_vae import BATCH_SIZE, NUM_TEST_VOTES, NUM_TRAIN_VOTES, SMALLEST_STD

LIBRARY = "disentanglement_lib 1.5"
_NUM_VARIANCE_ESTIMATE = 10_000
PATH = Path(__file__).with_name("metrics_reference.json")


def main() -> None:
    _stand_in_for_gin()
    figures = {name: _figures(case) for name, case in CASES.items()}
    PATH.write_text(json.dumps({"library": LIBRARY, "cases": figures}, indent=2) + "\n")


def _figures(case: Case) -> dict[str, Any]:
    from disentanglement_lib.evaluation.metrics import (
        beta_vae,
        dci,
        factor_vae,
        irs,
        mig,
        modularity_explicitness,
        sap_score,
        unsupervised_metrics,
        utils,
    )

    codes, factors = case.draw()
    split = CodedFactors.split(codes, factors, [f"factor_{number}" for number in range(len(SIZES))])
    train, test = split.codes_train.T, split.codes_test.T
    train_factors, test_factors = split.grades_train.T, split.grades_test.T
    utils.make_discretizer = lambda target: utils._histogram_discretize(target, NUM_BINS)
    factor_vae._prune_dims = lambda variances: np.sqrt(variances) >= SMALLEST_STD
    bins, covariance = utils.make_discretizer(train), np.cov(train)
    information = utils.discrete_mutual_info(bins, train_factors)
    between = utils.discrete_mutual_info(bins, bins)
    importances = dci._compute_dci(train, train_factors, test, test_factors)
    return {
        "codes": fingerprint(codes),
        "mig": float(mig._compute_mig(train, train_factors)["discrete_mig"]),
        "sap": float(sap_score._compute_sap(train, train_factors, test, test_factors, False)["SAP_score"]),
        "modularity": float(modularity_explicitness.modularity(information)),
        "dci_d": float(importances["disentanglement"]),
        "dci_c": float(importances["completeness"]),
        "dci_i": float(importances["informativeness_test"]),
        "factor_vae": _accuracy(
            factor_vae.compute_factor_vae, case, BATCH_SIZE, NUM_TRAIN_VOTES, NUM_TEST_VOTES, _NUM_VARIANCE_ESTIMATE
        ),
        "beta_vae": _accuracy(beta_vae.compute_beta_vae_sklearn, case, BATCH_SIZE, NUM_TRAIN_POINTS, NUM_TEST_POINTS),
        "irs": float(irs.scalable_disentanglement_score(split.grades_train, split.codes_train)["avg_score"]),
        "gaussian_total_correlation": float(unsupervised_metrics.gaussian_total_correlation(covariance)),
        "gaussian_wasserstein_correlation_norm": float(
            unsupervised_metrics.gaussian_wasserstein_correlation(covariance) / np.trace(covariance)
        ),
        "mutual_info_score": float((between.sum() - np.trace(between)) / (len(bins) * (len(bins) - 1))),
    }


def _accuracy(compute: Callable[..., dict[str, Any]], case: Case, *settings: int) -> float:
    """Of a score that draws its own images."""
    found = compute(_GroundTruth(case), lambda observations: observations, np.random.RandomState(0), None, *settings)
    return float(found["eval_accuracy"])


class _GroundTruth:
    """The library's view of data; an observation is its code already."""

    num_factors = len(SIZES)

    def __init__(self, case: Case) -> None:
        self._case, self._rng = case, np.random.default_rng(2)

    def sample_factors(self, num: int, random_state: object) -> np.ndarray:
        return draw_factors(num, self._rng)

    def sample_observations_from_factors(self, factors: np.ndarray, random_state: object) -> np.ndarray:
        return self._case.encode(factors, self._rng)

    def sample_observations(self, num: int, random_state: object) -> np.ndarray:
        return self.sample_observations_from_factors(self.sample_factors(num, random_state), random_state)


def _stand_in_for_gin() -> None:
    def configurable(*_: object, **__: object) -> Callable[[Any], Any]:
        return lambda function: function

    gin, gin_tf = ModuleType("gin"), ModuleType("gin.tf")
    for module in (gin, gin_tf):
        module.configurable, module.REQUIRED = configurable, None  # type: ignore[attr-defined]
    gin.tf = gin_tf  # type: ignore[attr-defined]
    sys.modules |= {"gin": gin, "gin.tf": gin_tf}


if __name__ == "__main__":
    main()
