"""Discovered nodes: slopes by hand, and who gets which dimension."""

import numpy as np
import pytest

from graphdrl.training.naming import TRAVERSAL, describe, match, slopes


def test_slope_of_a_straight_line_is_its_slope() -> None:
    values = np.asarray(TRAVERSAL)
    expected = np.zeros((2, len(values), 3, 1))
    expected[0, :, :, 0] = 2.5 + 0.5 * values[:, None]
    expected[1, :, :, 0] = 2.5 - 0.25 * values[:, None]
    np.testing.assert_allclose(slopes(expected), [[0.5], [-0.25]])


def test_each_attribute_gets_the_dimension_that_moves_it_most() -> None:
    slope = np.array([[0.1, -0.8], [0.9, 0.7], [0.05, 0.02]])
    node_map = match(slope, least=0.15)
    assert node_map.dimensions == (1, 0)
    assert node_map.signs == (1, -1)


def test_a_weak_attribute_stays_without_a_node() -> None:
    node_map = match(np.array([[0.9, 0.0], [0.0, 0.1]]), least=0.15)
    assert node_map.dimensions == (0, -1)


def test_dimensions_are_described_with_their_evidence() -> None:
    slope = np.array([[0.9, -0.2], [0.0, 0.1]])
    first, second = describe(slope, match(slope, least=0.15), ["bald", "beard"])
    assert (first.name, first.slope, first.runner_up) == ("bald", pytest.approx(0.9), "beard")
    assert second.name == "factor_1"
