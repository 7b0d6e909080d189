import pickle

import numpy as np
import pytest

from graphdrl.relations import estimate, estimate_many, true_relations
from graphdrl.relations.intervals import accepted, interval

OFF = ~np.eye(4, dtype=bool)


def test_resolves_what_is_there_and_nothing_else(make_scores, related):
    edges = estimate(make_scores(related(2_000, 0)), seed=1)
    expected = np.zeros((4, 4), bool)
    expected[[0, 0, 1, 1, 2, 2], [1, 2, 0, 2, 0, 1]] = True
    np.testing.assert_array_equal(edges.resolved, expected)
    signs = np.array([[0, 1, -1, 0], [1, 0, -1, 0], [-1, -1, 0, 0], [0, 0, 0, 0]])
    np.testing.assert_array_equal(np.sign(edges.adjacency()), signs)
    assert (edges.low <= edges.weights).all()
    assert (edges.weights <= edges.high).all()
    assert edges.weights.dtype == edges.low.dtype == edges.partial.dtype == np.float32
    # The base rates make the direction: a1 is often absent, so that it says more of a0 than a0 of it.
    assert edges.weights[1, 0] > edges.weights[0, 1] > 0
    assert edges.num_scored == 2_000


def test_intervals_cover_the_truth_nineteen_times_in_twenty(make_scores, related):
    truth = {name: true_relations(related(200_000, 99), name) for name in ("somers_d", "partial")}
    inside = {name: [] for name in truth}
    discoveries = []
    for redraw in range(80):
        edges = estimate_many(make_scores(related(300, redraw)), tuple(truth), seed=redraw, num_bootstrap=60)
        for name, true in truth.items():
            inside[name].append((edges[name].low <= true) & (true <= edges[name].high))
        discoveries.append(edges["somers_d"].resolved)
    for name in truth:
        assert 0.92 < np.mean(inside[name], axis=0)[OFF].mean() < 0.98
        assert np.mean(inside[name], axis=0)[OFF].min() > 0.84
    found = np.mean(discoveries, axis=0)
    assert found[3].max() < 0.15  # a3 is related to nothing
    assert found[0, 1] == 1


def test_the_same_seed_gives_the_same_edges(make_scores, related):
    scores = make_scores(related(200, 1))
    first, again, other = (pickle.dumps(estimate(scores, seed=seed, num_bootstrap=20)) for seed in (7, 7, 8))
    assert first == again
    assert first != other


def test_estimators_share_their_draws(make_scores, related):
    scores = make_scores(related(200, 1))
    alone = estimate(scores, "tau_b", seed=3, num_bootstrap=30)
    together = estimate_many(scores, ("somers_d", "tau_b"), seed=3, num_bootstrap=30)["tau_b"]
    assert pickle.dumps(alone) == pickle.dumps(together)
    np.testing.assert_array_equal(alone.weights, alone.strength)


def test_partial_weights_have_intervals_whatever_the_edges_are_of(make_scores, related):
    edges = estimate_many(make_scores(related(800, 1)), ("somers_d", "partial"), seed=3, num_bootstrap=40)
    for one in edges.values():
        np.testing.assert_array_equal(one.partial_low, edges["partial"].low)
        np.testing.assert_array_equal(one.partial_high, edges["partial"].high)
        np.testing.assert_array_equal(one.partial_resolved, edges["partial"].resolved)
    assert edges["somers_d"].partial_resolved[0, 1]
    # a0 drives both a1 and a2, so given a0 they tell nothing of each other.
    assert edges["somers_d"].resolved[1, 2]
    assert not edges["somers_d"].partial_resolved[1, 2]


def test_an_attribute_of_a_handful_of_images_resolves_nothing(make_scores, related):
    values = related(400, 2)
    values[:, 1] = 0
    values[np.argsort(values[:, 0])[-6:], 1] = 5  # a1 shows in the six images with most of a0
    edges = estimate(make_scores(values))
    assert edges.weights[1, 0] > 0.9
    assert not edges.resolved[1].any()
    np.testing.assert_array_equal([edges.low[1, 0], edges.high[1, 0]], [-1, 1])


def test_perfect_agreement_is_resolved_and_stays_inside_one(make_scores):
    column = np.arange(300) % 6
    edges = estimate(make_scores(np.stack([column, column], axis=1)))
    assert edges.resolved[0, 1]
    assert 0.99 < edges.low[0, 1] <= edges.high[0, 1] <= 1


def test_interval_worked_by_hand():
    spread = np.arctanh([0.1, 0.3])
    draws = np.tanh(np.array([spread[0], spread[1]]))[:, None, None]
    low, high, p_value = interval(np.array([[0.2]]), draws, np.array([[101]]))
    standard_error = (spread[1] - spread[0]) / 2**0.5 * (101 / 100) ** 0.5
    reach = 1.98397 * standard_error  # the 97.5 % quantile of Student's t with 100 degrees of freedom
    np.testing.assert_allclose([low[0, 0], high[0, 0]], np.tanh(np.arctanh(0.2) + np.array([-reach, reach])), rtol=1e-5)
    assert 0.05 < p_value[0, 0] < 0.3


def test_false_discovery_control_worked_by_hand():
    # Benjamini and Hochberg accept up to the last p_(m) <= m / M q: here 0.029 <= 3 / 5 x 0.05, though 0.025 > 2 / 5 x
    # 0.05.
    np.testing.assert_array_equal(accepted(np.array([0.9, 0.025, 0.001, 0.029, 0.2])), [False, True, True, True, False])
    assert not accepted(np.array([0.04, 0.9])).any()


def test_what_cannot_be_related_is_refused(make_scores, related):
    values = related(100, 0)
    for scores, message in (
        (make_scores(values[:29]), "at least 30 scored images, there are 29"),
        (make_scores(values[:, :1]), "at least two attributes"),
        (make_scores(values, source="traversal"), "only scores of 'data' images"),
        (make_scores(values, inclusion_probability=np.zeros(100, np.float32)), "inclusion probability 0"),
    ):
        with pytest.raises(ValueError, match=message):
            estimate(scores)
    with pytest.raises(ValueError, match="at least 20 bootstrap draws"):
        estimate(make_scores(values), num_bootstrap=3)
