import numpy as np
import pytest
from scipy.linalg import sqrtm
from scipy.stats import multivariate_normal
from sklearn.metrics import mutual_info_score

from graphdrl.metrics.codes import binned
from graphdrl.metrics.total_correlation import (
    gaussian_total_correlation,
    gaussian_wasserstein_correlation_norm,
    total_correlation,
)


def covariance() -> np.ndarray:
    root = np.random.default_rng(0).normal(size=(5, 4))
    return root.T @ root


def test_two_normals_worked_by_hand():
    # Correlation 0.6, whatever the scales: -1/2 log(1 - 0.36). For scale 1 the roots of 1.6 and 0.4.
    scales = np.array([1.0, 10.0])
    correlation = np.array([[1.0, 0.6], [0.6, 1.0]])
    assert gaussian_total_correlation(correlation) == pytest.approx(-0.5 * np.log(0.64))
    assert gaussian_total_correlation(correlation * np.outer(scales, scales)) == pytest.approx(-0.5 * np.log(0.64))
    assert gaussian_wasserstein_correlation_norm(correlation) == pytest.approx(2 - np.sqrt(1.6) - np.sqrt(0.4))


def test_total_correlation_is_the_divergence_from_the_product_of_the_marginals():
    joint, marginals = multivariate_normal(cov=covariance()), multivariate_normal(cov=np.diag(np.diag(covariance())))
    draws = joint.rvs(200_000, random_state=0)
    estimate = (joint.logpdf(draws) - marginals.logpdf(draws)).mean()
    assert gaussian_total_correlation(covariance()) == pytest.approx(estimate, abs=0.02)


def test_wasserstein_distance_equals_that_of_matrix_roots():
    found, alone = covariance(), np.diag(np.diag(covariance()))
    root = sqrtm(alone)
    distance = np.trace(found + alone - 2 * sqrtm(root @ found @ root).real)
    assert gaussian_wasserstein_correlation_norm(found) == pytest.approx(distance / np.trace(found))


def test_information_between_codes_worked_by_hand(exact):
    grades = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    # Two codes are the same bit, the third another one: of three pairs one shares log 2.
    codes = np.stack([grades[:, 0], -grades[:, 0], grades[:, 1]], axis=1)
    figures = total_correlation(exact(codes, grades))
    assert figures["mutual_info_score"] == pytest.approx(np.log(2) / 3)
    assert 5 < figures["gaussian_total_correlation"] < 30, "a copy counts much, and not infinitely"


def test_information_between_codes_equals_scikit_learn(make_coded):
    coded = make_coded("mixed")
    bins = binned(coded.codes_train).T
    pairs = [mutual_info_score(bins[i], bins[j]) for i in range(len(bins)) for j in range(i)]
    assert total_correlation(coded)["mutual_info_score"] == pytest.approx(np.mean(pairs), abs=1e-6)


def test_codes_that_are_independent_or_dead_are_at_0(exact):
    grades = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    for codes in (grades, np.ones((4, 2)), np.ones((4, 1)), grades[:, :1]):
        figures = total_correlation(exact(codes, grades))
        assert list(figures.values()) == pytest.approx([0, 0, 0], abs=1e-9)
