import numpy as np
import pytest
from scipy.linalg import sqrtm

from graphdrl.metrics.fid import fid, kid


def whitened(num: int, width: int) -> np.ndarray:
    """Features whose sample mean is exactly 0 and whose sample covariance is exactly the identity."""
    draws = np.random.default_rng(0).normal(size=(num, width))
    draws -= draws.mean(axis=0)
    return draws @ np.linalg.inv(np.linalg.cholesky(np.cov(draws, rowvar=False))).T


def test_fid_of_two_normals_in_closed_form():
    # Commuting covariances: |m1 - m2|^2 + sum of (s1 - s2)^2 = 9 + 16 + (1 - 2)^2 + (3 - 0.5)^2.
    plain = whitened(50, 2)
    assert fid(plain * [1, 3], plain * [2, 0.5] + [3, -4]) == pytest.approx(25 + 1 + 6.25)
    assert fid(plain, plain[::-1]) == pytest.approx(0, abs=1e-9)


def test_fid_equals_that_of_the_matrix_root():
    rng = np.random.default_rng(1)
    first, second = (rng.normal(size=(200, 6)) @ rng.normal(size=(6, 6)) for _ in range(2))
    covariances = [np.cov(one, rowvar=False) for one in (first, second)]
    means = first.mean(0) - second.mean(0)
    expected = means @ means + np.trace(sum(covariances) - 2 * sqrtm(covariances[0] @ covariances[1]).real)
    assert fid(first, second) == pytest.approx(expected)
    assert fid(first, second) == pytest.approx(fid(second, first))


def test_fid_of_fewer_images_than_features_is_a_number():
    draws = np.random.default_rng(0).normal(size=(20, 40))
    assert fid(draws[:10], draws[10:]) > 0
    assert 0 <= fid(draws[:10], draws[:10]) < 1e-4


def test_kid_worked_by_hand():
    # Kernel (x y + 1)^3: within the first set 1, within the second 125, across 1, 1, 27, 27.
    assert kid(np.array([[0.0], [1.0]]), np.array([[2.0], [2.0]])) == pytest.approx(1 + 125 - 2 * 14)


def test_kid_is_unbiased_with_few_images():
    rng = np.random.default_rng(0)
    found = [kid(*rng.normal(size=(2, 10, 4))) for _ in range(300)]
    assert np.mean(found) == pytest.approx(0, abs=3 * np.std(found) / np.sqrt(300))
    assert min(found) < 0


def test_kid_is_the_same_in_blocks(monkeypatch):
    first, second = np.random.default_rng(0).normal(size=(2, 30, 4))
    whole = kid(first, second)
    monkeypatch.setattr("graphdrl.metrics.fid._ROWS_AT_ONCE", 7)
    assert kid(first, second) == pytest.approx(whole)


@pytest.mark.parametrize("distance", [fid, kid])
def test_sets_that_cannot_be_compared_are_refused(distance):
    some = np.zeros((5, 3))
    for other, message in (
        (np.zeros((5, 4)), "of one network"),
        (np.zeros(3), "of one network"),
        (np.zeros((1, 3)), "at least two images"),
        (np.full((5, 3), np.nan), "NaN or infinity"),
    ):
        with pytest.raises(ValueError, match=message):
            distance(some, other)
