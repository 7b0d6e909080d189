"""Every figure that a run's page may show has a name and a meaning."""

import numpy as np
import pytest

from graphdrl.metrics import evaluate_codes
from graphdrl.metrics.dci import BACKENDS
from graphdrl.metrics.oracle_disentanglement import oracle_disentanglement
from graphdrl.metrics.relation_fidelity import relation_fidelity
from graphdrl.report.glossary import TERMS


def names() -> list[str]:
    factors = np.random.default_rng(0).integers(2, size=(40, 2))
    found = {
        *evaluate_codes(factors, factors, "ab", dci_backends=tuple(BACKENDS)),
        *oracle_disentanglement(np.eye(2), owners=(0, 1)),
        *relation_fidelity(np.eye(2), np.eye(2)),
        *(f"{distance}_{features}" for distance in ("fid", "kid") for features in ("oracle", "inception")),
        *(f"{distance}_{features}_samples" for distance in ("fid", "kid") for features in ("oracle", "inception")),
        *("elbo", "udr", "reconstruction_mse", "reconstruction_mse_correlated", "measured_on"),
    }
    return sorted(found)


@pytest.mark.parametrize("name", names())
def test_a_figure_is_explained(name: str) -> None:
    assert TERMS[f"metrics.{name}"].meaning
