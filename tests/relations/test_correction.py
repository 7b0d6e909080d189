"""Relations corrected for mistakes whose confusion matrices were measured: the bias goes, the noise does not grow."""

import numpy as np
import pytest

from graphdrl.relations import estimate, recovery, true_relations
from graphdrl.relations.correction import Correction
from graphdrl.relations.tables import joint_tables, to_grades

OFF = ~np.eye(4, dtype=bool)


def mistaken(values: np.ndarray, seed: int) -> np.ndarray:
    """What a poor grader says of values 0..5: a quarter of what is there is missed, and a tenth is any grade."""
    rng = np.random.default_rng(seed)
    grades = to_grades(values).astype(np.float32)
    kind = rng.random(grades.shape)
    wrong = np.where(kind < 0.1, rng.integers(0, 6, grades.shape), grades)
    return np.where((kind > 0.75) & (grades > 0), 0, wrong)


def measured_confusion(related, num: int, seed: int = 77) -> Correction:
    truth = related(num, seed)
    given = to_grades(mistaken(truth, seed + 1))
    counts = np.zeros((truth.shape[1], 6, 6))
    for column in range(truth.shape[1]):
        np.add.at(counts[column], (to_grades(truth)[:, column], given[:, column]), 1)
    return Correction(counts)


def test_mistakes_of_known_chance_are_undone(related):
    """No sampling: what is left is that the steps are few, which costs a hundredth or so."""
    truth = joint_tables(to_grades(related(5_000, 0)))
    rng = np.random.default_rng(1)
    chance = 0.8 * np.eye(6) + 0.2 * rng.dirichlet(np.ones(6), (4, 6))
    confused = np.einsum("iajb,iac,jbd->icjd", truth.pairs, chance, chance)
    own = np.arange(4)
    marginals = np.einsum("ia,iac->ic", truth.marginals, chance)
    confused[own, :, own, :] = marginals[:, :, None] * np.eye(6)
    seen = type(truth)(confused)
    assert np.abs(seen.concordance - truth.concordance).max() > 0.05
    corrected = Correction(1e9 * chance)(seen)
    np.testing.assert_allclose(corrected.pairs.sum(axis=(1, 3)), 1)
    np.testing.assert_allclose(corrected.marginals, truth.marginals, atol=0.01)
    np.testing.assert_allclose(corrected.concordance[OFF], truth.concordance[OFF], atol=0.015)


def test_a_perfect_grader_is_left_as_he_is(related):
    tables = joint_tables(to_grades(related(300, 0)))
    corrected = Correction(np.tile(50.0 * np.eye(6), (4, 1, 1)))(tables)
    np.testing.assert_allclose(corrected.pairs, tables.pairs, atol=1e-9)


def test_the_bias_falls_and_the_error_with_it(make_scores, related):
    truth, correction = true_relations(related(200_000, 99)), measured_confusion(related, 1_000)
    plain, corrected = [], []
    for redraw in range(5):
        scores = make_scores(mistaken(related(1_000, redraw), redraw))
        plain.append(estimate(scores, num_bootstrap=20).weights)
        corrected.append(estimate(scores, num_bootstrap=20, correction=correction).weights)
    strong = np.abs(truth) > 0.15
    shortfall = [
        float(np.mean(np.abs(truth) - np.sign(truth) * np.mean(w, axis=0), where=strong)) for w in (plain, corrected)
    ]
    assert shortfall[0] > 0.08, "mistakes weaken what is there"
    assert abs(shortfall[1]) < shortfall[0] / 3
    errors = [float(np.abs(np.asarray(weights) - truth)[:, OFF].mean()) for weights in (plain, corrected)]
    assert errors[1] < 0.6 * errors[0]


def test_few_images_do_not_blow_it_up(make_scores, related):
    truth, correction = true_relations(related(200_000, 99)), measured_confusion(related, 200)
    errors: dict[str, list[float]] = {"plain": [], "corrected": []}
    for redraw in range(10):
        scores = make_scores(mistaken(related(60, redraw), redraw))
        for name, used in (("plain", None), ("corrected", correction)):
            edges = estimate(scores, num_bootstrap=20, correction=used)
            assert (np.abs(edges.weights) <= 1).all()
            assert np.isfinite(edges.low).all()
            errors[name].append(recovery(edges, truth)["mean_error"])
    assert np.mean(errors["corrected"]) < 1.25 * np.mean(errors["plain"])


def test_intervals_hold_the_truth_that_uncorrected_ones_miss(make_scores, related):
    truth, correction = true_relations(related(200_000, 99)), measured_confusion(related, 500)
    covered: dict[str, list[float]] = {"plain": [], "corrected": []}
    for redraw in range(10):
        scores = make_scores(mistaken(related(800, redraw), redraw))
        for name, used in (("plain", None), ("corrected", correction)):
            covered[name].append(recovery(estimate(scores, num_bootstrap=50, correction=used), truth)["coverage"])
    assert np.mean(covered["plain"]) < 0.6
    assert np.mean(covered["corrected"]) > 0.85


def test_every_estimator_and_the_strength_are_of_the_corrected_tables(make_scores, related):
    scores, correction = make_scores(mistaken(related(1_000, 3), 3)), measured_confusion(related, 1_000)
    for name in ("tau_b", "partial", "polychoric"):
        plain, corrected = (estimate(scores, name, num_bootstrap=20, correction=used) for used in (None, correction))
        assert abs(corrected.weights[0, 1]) > abs(plain.weights[0, 1])
        assert abs(corrected.strength[0, 1]) > abs(plain.strength[0, 1])


def test_a_grade_that_no_gold_image_had_is_taken_as_graded_right():
    counts = np.zeros((1, 6, 6))
    counts[0, 0, 0] = 10
    given = Correction(counts).given
    np.testing.assert_array_equal(given[0], np.eye(6))
    assert Correction(counts).resampled(np.random.default_rng(0)).counts.sum() == 10


def test_confusion_matrices_of_something_else_are_refused(make_scores, related):
    with pytest.raises(ValueError, match="cannot correct 4 attributes graded on 6 levels"):
        estimate(make_scores(related(100, 0)), correction=Correction(np.tile(np.eye(6), (3, 1, 1))))
    with pytest.raises(ValueError, match="cannot correct 4 attributes graded on 2 levels"):
        estimate(make_scores(related(100, 0)), levels=2, correction=Correction(np.tile(np.eye(6), (4, 1, 1))))
    for counts in (np.eye(6), -np.tile(np.eye(6), (4, 1, 1))):
        with pytest.raises(ValueError, match="are counts"):
            Correction(counts)
