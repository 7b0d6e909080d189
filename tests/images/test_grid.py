"""Grids: which image a number is, and draws whose correlation is the formula's."""

import numpy as np
import pytest

from graphdrl.images.grid import Grid

SMALL = Grid({"shape": 2, "scale": 3, "x": 2})


def test_images_are_numbered_with_the_last_factor_fastest():
    assert (SMALL.num, SMALL.names) == (12, ("shape", "scale", "x"))
    np.testing.assert_array_equal(SMALL.levels(np.array([0, 1, 2, 11])), [[0, 0, 0], [0, 0, 1], [0, 1, 0], [1, 2, 1]])
    np.testing.assert_array_equal(SMALL.values(np.array([2, 11])), [[0, 0.5, 0], [1, 1, 1]])
    assert Grid({"color": 1, "x": 3}).values(np.array([2])).tolist() == [[0, 1]]


def test_weights_worked_by_hand():
    weights = SMALL.weights(SMALL.pairs("single", ["shape", "scale"]), 0.5).reshape(SMALL.shape)
    half, whole = np.exp(-0.5), np.exp(-2)  # of distances 1/2 and 1 at sigma 1/2
    np.testing.assert_allclose(weights[..., 0], [[1, half, whole], [whole, half, 1]])
    np.testing.assert_array_equal(weights[..., 0], weights[..., 1])


def test_weights_of_several_pairs_are_multiplied():
    two = Grid({"a": 2, "b": 2, "c": 2, "d": 2})
    double = two.weights(two.pairs("double", ["a", "c", "d", "b"]), 1).reshape(two.shape)
    apart = np.exp(-0.5)
    assert double[0, 0, 0, 0] == double[1, 0, 1, 0] == 1
    np.testing.assert_allclose([double[0, 1, 1, 1], double[0, 0, 1, 1]], [apart, apart**2])
    confounded = two.weights(two.pairs("confounder", ["b"]), 1).reshape(two.shape)
    np.testing.assert_allclose([confounded[0, 1, 1, 1], confounded[0, 1, 0, 0]], [apart, apart**3])
    np.testing.assert_allclose(confounded[1, 0, 1, 1], confounded[0, 1, 0, 0])


@pytest.mark.parametrize(("kind", "named"), [("single", ["scale", "x"]), ("confounder", ["scale"])])
def test_draws_are_as_frequent_as_the_weights_say(kind, named):
    weights = SMALL.weights(SMALL.pairs(kind, named), 0.4)
    share = np.bincount(SMALL.draw(200_000, 1, weights), minlength=12) / 200_000
    np.testing.assert_allclose(share, weights / weights.sum(), atol=0.004)


def test_draws_without_weights_are_uniform():
    share = np.bincount(SMALL.draw(200_000, 1), minlength=12) / 200_000
    np.testing.assert_allclose(share, 1 / 12, atol=0.004)


@pytest.mark.parametrize("weighted", [False, True])
def test_draws_are_functions_of_the_seed_and_their_beginning_not_of_their_number(weighted):
    weights = SMALL.weights((("scale", "x"),), 0.3) if weighted else None
    many = SMALL.draw(100, 3, weights)
    np.testing.assert_array_equal(SMALL.draw(40, 3, weights), many[:40])
    assert not np.array_equal(SMALL.draw(100, 4, weights), many)


def test_a_confounder_goes_with_each_other_factor():
    assert SMALL.pairs("confounder", ["x"]) == (("x", "shape"), ("x", "scale"))
    assert SMALL.pairs("none", []) == ()


@pytest.mark.parametrize(
    ("kind", "named", "message"),
    [
        ("single", ["scal", "x"], "no factor 'scal'; did you mean 'scale'"),
        ("single", ["x", "x"], "must be distinct, and 'x' is named twice"),
        ("single", ["x"], "single is of 2 named factors, not of 1"),
        ("double", ["x", "scale"], "double is of 4 named factors, not of 2"),
        ("none", ["x", "scale"], "none is of 0 named factors, not of 2"),
    ],
)
def test_factors_that_cannot_be_correlated_are_named(kind, named, message):
    with pytest.raises(ValueError, match=message):
        SMALL.pairs(kind, named)
