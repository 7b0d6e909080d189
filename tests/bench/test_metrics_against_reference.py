"""Metrics on codes of which the reference's figures are kept. DCI by its classifier takes long: see the benchmark."""

import pytest

from graphdrl.bench._coded_cases import CASES, Case
from graphdrl.bench.metrics import compared


@pytest.mark.parametrize("name", CASES)
def test_metrics_are_those_of_the_reference(name: str) -> None:
    figures = compared(name, backend="random_forest")
    for metric in (
        *("mig", "sap", "modularity", "irs", "mutual_info_score"),
        *("gaussian_total_correlation", "gaussian_wasserstein_correlation_norm"),
    ):
        assert figures[metric]["ours"] == pytest.approx(figures[metric]["reference"], abs=1e-6), metric
    for metric in ("factor_vae", "beta_vae"):
        assert figures[metric]["difference"] == pytest.approx(0, abs=0.02), metric


def test_other_codes_than_the_reference_saw_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    noise = Case(lambda factors, rng: rng.normal(size=(len(factors), 8)))
    monkeypatch.setitem(CASES, "mixed", noise)
    with pytest.raises(RuntimeError, match="'mixed' are not those that the reference measured"):
        compared("mixed", backend="random_forest")
