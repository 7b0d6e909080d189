from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm

from graphdrl.relations import decorrelating_weights, estimate, latent_correlation
from graphdrl.relations.estimators import tau_b
from graphdrl.relations.tables import joint_tables, to_grades
from graphdrl.relations.weights import normal_scores


@pytest.fixture
def correlated(make_scores):
    rng = np.random.default_rng(0)
    normal = rng.standard_normal((2_000, 3))
    normal[:, 1] = 0.7 * normal[:, 0] + 0.71 * normal[:, 1]
    return make_scores(np.clip(2.5 + normal, 0, 5))


def test_weights_worked_by_hand(make_scores, correlated):
    edges = estimate(correlated, "tau_b", num_bootstrap=50)
    drawn = decorrelating_weights(correlated, edges, gamma=0.5, shrink=0.02)
    sigma = np.eye(3)
    sigma[0, 1] = sigma[1, 0] = 0.98 * np.sin(np.pi / 2 * edges.strength[0, 1])
    np.testing.assert_allclose(latent_correlation(edges), sigma, atol=1e-6)  # a2 is unresolved: exactly independent
    values = correlated.expected
    below, equal = values[:, None] > values[None], values[:, None] == values[None]
    x = norm.ppf((below.sum(axis=1) + equal.sum(axis=1) / 2) / 2_000)
    log_weights = np.array([row @ (np.linalg.inv(sigma) - np.eye(3)) @ row for row in x]) / 4
    weights = np.exp(np.minimum(log_weights, np.percentile(log_weights, 98)))
    np.testing.assert_allclose(drawn.weights, weights / weights.sum(), rtol=1e-4)
    np.testing.assert_allclose(drawn.effective_sample_size, weights.sum() ** 2 / (weights**2).sum(), rtol=1e-4)
    assert drawn.notes == ()


def test_weighted_images_look_less_dependent(correlated):
    edges = estimate(correlated, "tau_b", num_bootstrap=50)
    drawn = decorrelating_weights(correlated, edges)
    grades = to_grades(correlated.expected)
    before, after = tau_b(joint_tables(grades)), tau_b(joint_tables(grades, drawn.weights))
    assert before[0, 1] > 0.4
    assert abs(after[0, 1]) < 0.7 * before[0, 1]
    assert drawn.effective_sample_size > 1_000


def test_no_resolved_edges_no_weights(correlated):
    edges = estimate(correlated, "tau_b", num_bootstrap=50)
    drawn = decorrelating_weights(correlated, replace(edges, resolved=np.zeros((3, 3), bool)))
    np.testing.assert_allclose(drawn.weights, 1 / 2_000, rtol=1e-6)
    assert drawn.effective_sample_size == pytest.approx(2_000)


def test_few_scored_images_are_drawn_uniformly(correlated):
    few = correlated.rows(range(399))
    drawn = decorrelating_weights(few, estimate(few, "tau_b", num_bootstrap=50))
    np.testing.assert_array_equal(drawn.weights, np.float32(1 / 399))
    assert drawn.notes == ("sample weights are uniform: 399 images are scored, decorrelating starts at 400",)


def test_weights_that_rest_on_few_images_are_tempered_and_it_is_said(make_scores):
    # Two attributes that nearly repeat each other, and a graph that claims the opposite sign.
    rng = np.random.default_rng(1)
    shared = rng.standard_normal(1_000)
    scores = make_scores(np.clip(2.5 + np.stack([shared, shared + 0.1 * rng.standard_normal(1_000)], axis=1), 0, 5))
    edges = estimate(scores, "tau_b", num_bootstrap=50)
    drawn = decorrelating_weights(scores, replace(edges, strength=-edges.strength), gamma=1.0)
    assert drawn.effective_sample_size >= 250
    assert "Sigma was shrunk by" in drawn.notes[0]
    assert drawn.weights.sum() == pytest.approx(1, abs=1e-5)


def test_sigma_is_a_correlation_matrix_even_where_tau_allows_none(correlated):
    edges = estimate(correlated, "tau_b", num_bootstrap=50)
    impossible = np.array([[0, 0.9, 0.9], [0.9, 0, -0.9], [0.9, -0.9, 0]], np.float32)
    sigma = latent_correlation(replace(edges, strength=impossible, resolved=np.ones((3, 3), bool)))
    assert np.linalg.eigvalsh(sigma).min() > 0.01
    np.testing.assert_allclose(np.diag(sigma), 1)


def test_the_order_of_images_does_not_matter(correlated):
    edges = estimate(correlated, "tau_b", num_bootstrap=50)
    order = np.random.default_rng(2).permutation(2_000)
    shuffled = decorrelating_weights(correlated.rows(order), edges)
    np.testing.assert_allclose(shuffled.weights, decorrelating_weights(correlated, edges).weights[order], rtol=1e-5)


def test_an_image_that_stands_for_two_weighs_like_two(make_scores):
    values = np.array([[0.0], [1.0], [1.0], [3.0]])
    doubled = normal_scores(np.concatenate([values, values[-1:]]), np.ones(5))
    np.testing.assert_allclose(normal_scores(values, np.array([1, 1, 1, 2])), doubled[:4])
    np.testing.assert_allclose(doubled[:, 0], norm.ppf([0.1, 0.4, 0.4, 0.8, 0.8]))
