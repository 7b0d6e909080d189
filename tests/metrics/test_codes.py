import numpy as np
import pytest
from sklearn.metrics import mutual_info_score

from graphdrl.metrics.codes import CodedFactors, binned, entropy, factor_grades


def test_information_worked_by_hand(exact):
    codes = [[-1.0, 0.0], [-1.0, 1.0], [1.0, 0.0], [1.0, 1.0]]
    coded = exact(codes, [[0, 0], [0, 0], [2, 1], [2, 2]])
    # The first code is the first factor (1 bit) and tells the second factor's zero from the rest; the second code knows
    # grades 1 and 2 apart (half of the time 1 bit), and nothing of the first factor.
    np.testing.assert_allclose(coded.mutual_information, np.log(2) * np.array([[1, 1], [0, 0.5]]), atol=1e-12)
    np.testing.assert_allclose(coded.factor_entropy, np.log(2) * np.array([1, 1.5]))


def test_information_equals_scikit_learn(make_coded):
    coded = make_coded("mixed")
    bins = binned(coded.codes_train)
    expected = [[mutual_info_score(code, grade) for grade in coded.grades_train.T] for code in bins.T]
    np.testing.assert_allclose(coded.mutual_information, expected, atol=1e-6)


def test_bins_are_those_of_a_histogram():
    codes = np.random.default_rng(0).standard_normal((500, 2))
    for column, bins in zip(codes.T, binned(codes).T, strict=True):
        np.testing.assert_array_equal(np.bincount(bins, minlength=20), np.histogram(column, 20)[0])
    assert not binned(np.ones((5, 1))).any()


def test_entropy_of_four_equal_values_is_two_bits():
    assert entropy(np.array([0.25, 0, 0.25, 0.5])) == pytest.approx(1.5 * np.log(2))


def test_graded_factors_become_grades_and_integers_stay():
    np.testing.assert_array_equal(factor_grades(np.array([[0.0, 0.09, 0.1, 0.5, 1.0]])), [[0, 0, 1, 3, 5]])
    np.testing.assert_array_equal(factor_grades(np.array([[3, 7], [5, 7]])), [[0, 0], [2, 0]])
    with pytest.raises(ValueError, match=r"numbers in \[0, 1\]"):
        factor_grades(np.array([[0.5, 3.0]]))


def test_the_split_is_by_seed_and_leaves_constant_factors_out(factors):
    codes = np.arange(len(factors))[:, None].astype(float)
    fixed = np.concatenate([factors, np.full((len(factors), 1), 0.4)], axis=1)
    coded, again, other = (CodedFactors.split(codes, fixed, "abcd", seed) for seed in (1, 1, 2))
    assert coded.names == ("a", "b", "c")
    assert (len(coded.codes_train), len(coded.codes_test)) == (1_000, 500)
    assert not set(coded.codes_train[:, 0]) & set(coded.codes_test[:, 0])
    np.testing.assert_array_equal(coded.codes_train, again.codes_train)
    assert (coded.codes_train != other.codes_train).any()
    row = int(coded.codes_test[0, 0])
    np.testing.assert_array_equal(coded.grades_test[0], factor_grades(factors)[row])


def test_what_cannot_be_measured_is_refused(factors):
    codes = np.zeros((len(factors), 4))
    for bad_codes, bad_factors, names, message in (
        (codes[:5], factors, "abc", r"codes \[N, Z\]"),
        (codes[:5], factors[:5], "abc", "at least 30 images"),
        (codes + np.nan, factors, "abc", "has diverged"),
        (codes, factors * [1, 0, 0], "abc", "two factors that vary"),
    ):
        with pytest.raises(ValueError, match=message):
            CodedFactors.split(bad_codes, bad_factors, names)
