import numpy as np
import pytest

from graphdrl.metrics.beta_vae import Pairing, beta_vae


def test_a_code_that_stays_alike_tells_its_factor(exact):
    grades = np.array([[0, 0], [0, 1], [1, 0], [1, 1]] * 10)
    # The first code is the first factor, the second code is nothing: the code differs in half of the pairs that share
    # the second factor, and in none of those that share the first.
    codes = np.stack([grades[:, 0], np.zeros(40)], axis=1)
    assert beta_vae(exact(codes, grades))["beta_vae"] == 1


def test_good_codes_and_copies_score_1_and_noise_guesses(make_coded):
    assert beta_vae(make_coded("perfect"))["beta_vae"] == 1
    assert beta_vae(make_coded("duplicated"))["beta_vae"] == 1
    assert beta_vae(make_coded("random"))["beta_vae"] < 0.45  # three factors: 1/3 by guessing


def test_codes_that_never_vary_guess(exact):
    grades = np.array([[0, 0], [0, 1], [1, 0], [1, 1]] * 10)
    assert beta_vae(exact(np.ones((40, 2)), grades))["beta_vae"] == pytest.approx(0.5, abs=0.03)


def test_pairs_share_the_grade_and_are_two_images_where_there_are_two():
    grades = np.array([3, 0, 3, 5, 0, 3])
    first, second = Pairing(grades).draw((2_000, 2), np.random.default_rng(0))
    np.testing.assert_array_equal(grades[first], grades[second])
    assert (first[grades[first] != 5] != second[grades[first] != 5]).all(), "only the one with grade 5 is by itself"
    with_first = second[first == 0]
    assert np.bincount(with_first, minlength=6)[[2, 5]] == pytest.approx(len(with_first) / 2, rel=0.15)
