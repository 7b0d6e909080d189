"""Which latent dimension shows which attribute, by what moves along the traversals of each."""

from collections.abc import Sequence

import numpy as np
from scipy.optimize import linear_sum_assignment

from graphdrl.relations.edges import NodeMap

TRAVERSAL = (-2.0, 0.0, 2.0)
"""Where a dimension is put, in standard deviations."""

LEAST_SLOPE = 0.15
"""Grades per standard deviation below which a dimension shows no attribute."""


def slopes(expected: np.ndarray, values: Sequence[float] = TRAVERSAL) -> np.ndarray:
    """Least-squares slope of each attribute along each dimension's traversal.

    expected: [Z, V, B, K] grades of B images at V values of Z dimensions; returns [Z, K], grades per unit.
    """
    centred = np.asarray(values) - np.mean(values)
    return np.einsum("v,zvk->zk", centred, expected.mean(axis=2)) / (centred**2).sum()


def match(slope: np.ndarray, least: float) -> NodeMap:
    """Give each attribute at most one dimension, so that the sum of |slope| is largest.

    slope: [Z, K]; pairs whose |slope| is below `least` grades per standard deviation stay unmatched (-1).
    """
    num_attributes = slope.shape[1]
    dimensions, signs = [-1] * num_attributes, [1] * num_attributes
    for dimension, attribute in zip(*linear_sum_assignment(-np.abs(slope)), strict=True):
        if abs(slope[dimension, attribute]) >= least:
            dimensions[attribute] = int(dimension)
            signs[attribute] = 1 if slope[dimension, attribute] > 0 else -1
    return NodeMap(tuple(dimensions), tuple(signs))
