import json

import numpy as np
import pytest

from graphdrl.metrics import evaluate_codes
from graphdrl.metrics.dci import dci, dci_by
from graphdrl.metrics.factor_vae import factor_vae
from graphdrl.metrics.importance import disentanglement
from graphdrl.metrics.infomec import infomec
from graphdrl.metrics.irs import irs
from graphdrl.metrics.mig import mig
from graphdrl.metrics.modularity import explicitness, modularity
from graphdrl.metrics.probes import LinearProbes
from graphdrl.metrics.sap import sap


def test_dci_of_importances_worked_by_hand():
    # Code 0 serves factor 0 alone; code 1 serves both alike (entropy 1 bit of 1); weights 1/4 and 3/4.
    importance = np.array([[1.0, 0.0], [1.5, 1.5]])
    assert disentanglement(importance) == pytest.approx(0.25)
    # Factor 0 rests on the codes as 0.4 : 0.6, factor 1 on one code; weights 5/8 and 3/8.
    bits = -(0.4 * np.log2(0.4) + 0.6 * np.log2(0.6))
    assert disentanglement(importance.T) == pytest.approx(5 / 8 * (1 - bits) + 3 / 8)
    assert disentanglement(np.zeros((2, 2))) == 0


def test_dci_knows_good_codes_from_bad(make_coded):
    perfect, noise, mixed, double = (dci(make_coded(kind)) for kind in ("perfect", "random", "mixed", "duplicated"))
    assert min(perfect["dci_d"], perfect["dci_c"], perfect["dci_i"]) > 0.95
    assert max(noise["dci_d"], noise["dci_c"]) < 0.1
    assert noise["dci_i"] < 0.3
    assert mixed["dci_d"] < 0.6
    assert double["dci_d"] > 0.95
    assert double["dci_c"] == pytest.approx(1 - np.log(2) / np.log(6), abs=0.05)
    assert perfect["dci_backend"] == "random_forest"


def test_the_reference_backend_agrees_on_clear_cases(exact):
    rng = np.random.default_rng(0)
    grades = rng.integers(2, size=(400, 2))
    coded = exact(np.concatenate([grades + 0.1 * rng.standard_normal((400, 2)), rng.random((400, 2))], axis=1), grades)
    reference, quick = dci(coded, "gradient_boosting"), dci(coded)
    assert reference["dci_backend"] == "gradient_boosting"
    assert reference["dci_d"] == pytest.approx(quick["dci_d"], abs=0.02)
    assert reference["dci_c"] == pytest.approx(1, abs=0.02)
    with pytest.raises(ValueError, match="there are: random_forest, gradient_boosting"):
        dci(coded, "lasso")


def test_dci_by_two_backends_names_both(exact):
    grades = np.random.default_rng(0).integers(2, size=(60, 2))
    figures = dci_by(exact(grades, grades), ("random_forest", "gradient_boosting"))
    assert figures["dci_backend"] == "random_forest"
    assert set(figures) - {"dci_d", "dci_c", "dci_i", "dci_backend"} == {
        *("dci_d_gradient_boosting", "dci_c_gradient_boosting", "dci_i_gradient_boosting")
    }
    assert figures["dci_d_gradient_boosting"] == pytest.approx(1)
    with pytest.raises(ValueError, match="unknown DCI backend 'lasso'"):
        evaluate_codes(np.zeros((2, 2)), np.zeros((2, 2)), "ab", dci_backends=("random_forest", "lasso"))


def test_mig_worked_by_hand(exact):
    grades = [[0, 0], [0, 1], [1, 0], [1, 1]]
    assert mig(exact([[0, 0], [0, 1], [1, 0], [1, 1]], grades))["mig"] == pytest.approx(1)
    assert mig(exact([[0, 0], [0, 0], [1, 1], [1, 1]], grades))["mig"] == pytest.approx(0)  # a copy
    assert mig(exact([[0], [0], [1], [1]], grades))["mig"] == pytest.approx(0.5)  # one code, one factor found
    # Both codes are the first factor: its whole bit counts, and nothing of the second factor.
    copies = mig(exact([[0, 0], [0, 0], [1, 1], [1, 1]], grades))
    assert copies["mutual_information"] == pytest.approx(0.5)


def test_mig_bins_the_codes(make_coded):
    assert mig(make_coded("perfect"))["mig"] > 0.9
    assert mig(make_coded("duplicated"))["mig"] < 1e-6
    assert mig(make_coded("random"))["mig"] < 0.03


def test_sap_knows_good_codes_from_copies(make_coded):
    assert sap(make_coded("duplicated"))["sap"] < 0.05
    assert sap(make_coded("random"))["sap"] < 0.05
    assert sap(make_coded("perfect"))["sap"] > 0.3


def test_sap_of_two_grades_is_the_gap_of_accuracies(exact):
    grades = np.arange(200)[:, None] % 2
    codes = np.concatenate([grades * 2.0 - 1, np.zeros((200, 1))], axis=1)
    assert sap(exact(codes, grades))["sap"] == pytest.approx(0.5)


def test_factor_vae_score(make_coded):
    assert factor_vae(make_coded("perfect"))["factor_vae"] == 1
    assert factor_vae(make_coded("random"))["factor_vae"] < 0.45  # three factors: 1/3 by guessing
    assert factor_vae(make_coded("duplicated"))["factor_vae"] == 1


def test_one_code_votes_for_one_factor(exact):
    grades = np.tile([[0, 0], [0, 1], [1, 0], [1, 1]], (50, 1))
    # Whichever factor is fixed, the only code varies least: the vote is right for one factor of two.
    assert factor_vae(exact(grades[:, :1], grades))["factor_vae"] == pytest.approx(0.5, abs=0.03)


def test_factor_vae_leaves_collapsed_codes_out(exact, make_coded):
    coded = make_coded("perfect")
    shrunk = coded.codes_train * np.array([1, 1, 1, 0.01, 0.01, 0.01])
    assert factor_vae(exact(shrunk, coded.grades_train))["factor_vae"] == 1
    assert factor_vae(exact(coded.codes_train * 0.001, coded.grades_train))["factor_vae"] == 0


def test_modularity_worked_by_hand(exact):
    grades = [[0, 0], [0, 0], [1, 1], [1, 2]]
    codes = [[0, 0, 5], [0, 1, 5], [1, 0, 5], [1, 1, 5]]
    # Code 0 informs 1 bit on both factors: 0. Code 1 informs on the second alone: 1. Code 2 on nothing: 0.
    assert modularity(exact(codes, grades))["modularity"] == pytest.approx(1 / 3)


def test_explicitness_is_what_a_linear_probe_can_rank(make_coded):
    for kind, low, high in (("perfect", 0.97, 1), ("mixed", 0.8, 1), ("random", 0.4, 0.6)):
        coded = make_coded(kind)
        assert low < explicitness(coded, LinearProbes.fit(coded))["explicitness"] <= high


def test_explicitness_worked_by_hand(exact):
    grades = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    # Of the first factor's four pairs of a 1 and a 0 the probe ranks three rightly; of the second it knows nothing.
    ones = (np.array([0.1, 0.6, 0.5, 0.9]), np.full(4, 0.5))
    probes = LinearProbes((np.arange(2),) * 2, tuple(np.stack([1 - one, one], axis=1) for one in ones))
    assert explicitness(exact(grades, grades), probes)["explicitness"] == pytest.approx((3 / 4 + 1 / 2) / 2)


def test_infomec_worked_by_hand(exact):
    grades = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    # Codes: factor 0; factor 0 again; factor 1; and one that hardly moves.
    codes = np.stack([grades[:, 0], grades[:, 0], grades[:, 1], 0.1 * grades[:, 1]], axis=1)
    coded = exact(np.tile(codes, (10, 1)), np.tile(grades, (10, 1)))
    probes = LinearProbes(
        (np.arange(2), np.arange(2)),
        tuple(np.where(coded.grades_test[:, [factor]] == [0, 1], 0.8, 0.2) for factor in range(2)),
    )
    numbers = infomec(coded, probes)
    assert numbers["info_m"] == pytest.approx(1)
    # Over three active codes factor 0 is shared by two (1/2), factor 1 is in one (1): (3/4 - 1/3) / (2/3).
    assert numbers["info_c"] == pytest.approx((3 / 4 - 1 / 3) / (2 / 3))
    assert numbers["info_e"] == pytest.approx(1 + np.log(0.8) / np.log(2))


def test_irs_worked_by_hand(exact):
    grades = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    # A code that is factor 0 does not move while that is fixed: robustness 1. A sum of both moves half as far as it
    # can.
    alone = np.stack([grades[:, 0], 5 * np.ones(4)], axis=1)
    assert irs(exact(alone, grades))["irs"] == pytest.approx(1)
    both = (grades[:, 0] + grades[:, 1])[:, None]
    assert irs(exact(both, grades))["irs"] == pytest.approx(0.5)
    assert irs(exact(np.ones((4, 1)), grades))["irs"] == 0


def test_all_metrics_in_one_flat_dict(make_codes, factors):
    codes = make_codes("perfect")
    numbers = evaluate_codes(codes, factors, ("a", "b", "c"), seed=3)
    assert set(numbers) == {
        *("dci_d", "dci_c", "dci_i", "dci_backend", "mig", "sap", "factor_vae", "modularity", "explicitness"),
        *("info_m", "info_c", "info_e", "irs", "beta_vae", "mutual_information", "mutual_info_score"),
        *("consistency", "restrictiveness", "gaussian_total_correlation", "gaussian_wasserstein_correlation_norm"),
    }
    assert json.loads(json.dumps(numbers)) == numbers
    assert numbers == evaluate_codes(codes, factors, ("a", "b", "c"), seed=3)


def test_dead_codes_score_nothing(factors):
    numbers = evaluate_codes(np.zeros((len(factors), 4)), factors, ("a", "b", "c"))
    assert numbers["dci_d"] == numbers["mig"] == numbers["factor_vae"] == numbers["modularity"] == numbers["irs"] == 0
