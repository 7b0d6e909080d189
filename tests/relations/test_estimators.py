import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from graphdrl.relations.estimators import (
    estimator_names,
    load_estimator,
    partial,
    rank_correlation,
    register,
    somers_d,
    tau_b,
)
from graphdrl.relations.tables import joint_tables, to_grades, weighted_tables

HAND = np.array([[0, 0], [0, 1], [1, 1], [1, 1]])
"""Pairs of images: (1,2) tied in x; (1,3), (1,4) concordant; (2,3), (2,4) tied in y; (3,4) tied in both."""


def pairwise(statistic, grades: np.ndarray) -> np.ndarray:
    num_attributes = grades.shape[1]
    weights = np.zeros((num_attributes, num_attributes))
    for i in range(num_attributes):
        for j in range(num_attributes):
            if i != j:
                weights[i, j] = statistic(grades[:, i], grades[:, j])
    return weights


def test_worked_by_hand():
    tables = joint_tables(HAND, levels=2)
    # 2 concordant, 0 discordant; x unties 4 pairs of images, y unties 3.
    np.testing.assert_allclose(somers_d(tables), [[0, 2 / 4], [2 / 3, 0]])
    np.testing.assert_allclose(tau_b(tables), [[0, 2 / 12**0.5], [2 / 12**0.5, 0]])


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), num_images=st.integers(5, 80), levels=st.integers(2, 8))
def test_equals_scipy_pair_by_pair(seed, num_images, levels):
    grades = np.random.default_rng(seed).integers(levels, size=(num_images, 4))
    grades[:2] = [[0] * 4, [1] * 4]  # nothing is constant, where scipy has no answer
    tables = joint_tables(grades, levels=levels)
    somersd = pairwise(lambda x, y: stats.somersd(x, y).statistic, grades)
    np.testing.assert_allclose(somers_d(tables), somersd, atol=1e-12)
    kendall = pairwise(lambda x, y: stats.kendalltau(x, y).statistic, grades)
    np.testing.assert_allclose(tau_b(tables), kendall, atol=1e-12)
    spearman = pairwise(lambda x, y: stats.spearmanr(x, y).statistic, grades)
    np.testing.assert_allclose(rank_correlation(tables) - np.eye(4), spearman, atol=1e-12)


def test_partial_is_the_root_of_the_variance_explained_in_addition(related):
    grades = to_grades(related(400, 1))
    ranks = stats.rankdata(grades, axis=0)
    ranks = (ranks - ranks.mean(axis=0)) / ranks.std(axis=0)

    def unexplained(target: int, sources: list[int]) -> tuple[float, np.ndarray]:
        coefficients, *_ = np.linalg.lstsq(ranks[:, sources], ranks[:, target])
        return float(np.square(ranks[:, target] - ranks[:, sources] @ coefficients).mean()), coefficients

    weights = partial(joint_tables(grades))
    for i in range(4):
        for j in set(range(4)) - {i}:
            others = sorted(set(range(4)) - {i, j})
            with_i, coefficients = unexplained(j, [i, *others])
            without, _ = unexplained(j, others)
            expected = np.sign(coefficients[0]) * np.sqrt(without - with_i)
            np.testing.assert_allclose(weights[i, j], expected, atol=1e-4)


def test_partial_sees_through_a_chain():
    rng = np.random.default_rng(0)
    first = rng.standard_normal(20_000)
    middle = first + rng.standard_normal(20_000)
    last = middle + rng.standard_normal(20_000)
    grades = to_grades(np.clip(2.5 + np.stack([first, middle, last], axis=1), 0, 5), levels=26)
    tables = joint_tables(grades, levels=26)
    assert tau_b(tables)[0, 2] > 0.3
    assert abs(partial(tables)[0, 2]) < 0.05
    assert partial(tables)[0, 1] > 0.25


@pytest.mark.parametrize("rho", [-0.9, -0.3, 0.0, 0.6])
def test_polychoric_finds_the_normal_behind_the_grades(rho):
    normal = np.random.default_rng(2).multivariate_normal([0, 0], [[1, rho], [rho, 1]], size=40_000)
    grades = np.stack([np.digitize(normal[:, 0], [-1, 0.2, 1]), np.digitize(normal[:, 1], [0.5, 1.5])], axis=1)
    weights = load_estimator("polychoric")(joint_tables(grades, levels=4))
    np.testing.assert_allclose(weights, [[0, rho], [rho, 0]], atol=0.02)


@pytest.mark.parametrize("name", estimator_names())
def test_constant_and_repeated_attributes_are_no_trouble(name):
    column = np.arange(60) % 6
    tables = joint_tables(np.stack([column, column, np.zeros(60, int), 5 - column], axis=1))
    weights = load_estimator(name)(tables)
    assert np.isfinite(weights).all()
    assert np.abs(weights).max() <= 1
    assert not weights[2].any()
    assert not weights[:, 2].any()
    if name != "partial":  # what two copies say of each other the third column says already
        np.testing.assert_allclose(weights[[0, 0], [1, 3]], [1, -1], atol=0.01)


@pytest.mark.parametrize("name", estimator_names())
def test_reversing_an_attribute_reverses_its_edges(name, related):
    grades = to_grades(related(500, 3))
    flipped = grades.copy()
    flipped[:, 1] = 5 - flipped[:, 1]
    sign = np.array([1, -1, 1, 1])
    estimator = load_estimator(name)
    expected = estimator(joint_tables(grades)) * np.outer(sign, sign)
    np.testing.assert_allclose(estimator(joint_tables(flipped)), expected, atol=1e-6)


def test_weights_count_like_copies(related):
    grades = to_grades(related(200, 4))
    counts = np.random.default_rng(0).integers(4, size=200)
    copies = joint_tables(np.repeat(grades, counts, axis=0))
    np.testing.assert_allclose(joint_tables(grades, counts).pairs, copies.pairs, atol=1e-12)
    (single,) = weighted_tables(grades, [counts])
    np.testing.assert_allclose(single.pairs, copies.pairs, atol=1e-6)


def test_inverse_inclusion_probabilities_undo_the_choice(related):
    values = related(60_000, 5)
    probability = np.where(values[:, 1] > 0, 0.6, 0.1)
    chosen = np.random.default_rng(1).random(len(values)) < probability
    grades = to_grades(values)
    population = somers_d(joint_tables(grades))
    weighted = somers_d(joint_tables(grades[chosen], 1 / probability[chosen]))
    assert np.abs(weighted - population).max() < 0.02
    assert np.abs(somers_d(joint_tables(grades[chosen])) - population).max() > 0.05


def test_grades_round_halves_up_and_refuse_what_is_no_score():
    np.testing.assert_array_equal(to_grades(np.array([[0.49, 0.5, 2.5, 5.0]])), [[0, 1, 3, 5]])
    np.testing.assert_array_equal(to_grades(np.array([[0.24, 0.25, 5.0]]), levels=11), [[0, 1, 10]])
    for bad in (np.nan, -0.1, 5.1):
        with pytest.raises(ValueError, match=r"scores lie in 0\.\.5"):
            to_grades(np.array([[1.0, bad]]))


def test_an_unknown_estimator_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'somers_d'"):
        load_estimator("sommers_d")


def test_a_new_estimator_is_one_registered_function(monkeypatch):
    monkeypatch.setattr("graphdrl.relations.estimators._ESTIMATORS", {})
    register("nothing")(lambda tables: np.zeros((len(tables.marginals),) * 2))
    assert estimator_names() == ("nothing",)
    assert not load_estimator("nothing")(joint_tables(HAND)).any()
