"""Polychoric correlation: what two normal variables, cut into the grades that were seen, would correlate."""

import numpy as np
from scipy.special import ndtri

from graphdrl.relations.tables import JointTables

_SMALLEST = 1e-9
_HIGHEST_CORRELATION = 0.999
_NUM_STEPS = 12
_NODES, _NODE_WEIGHTS = np.polynomial.legendre.leggauss(12)


def polychoric(tables: JointTables) -> np.ndarray:
    """Polychoric correlation [K, K] of every pair; symmetric, 0 where an attribute is constant.

    Two-step maximum likelihood (Olsson 1979): thresholds from the marginals, then rho by Fisher scoring, all pairs at
    once.
    """
    num_attributes = len(tables.marginals)
    first, second = np.triu_indices(num_attributes, k=1)
    varies = (tables.untied[first] > 0) & (tables.untied[second] > 0)
    first, second = first[varies], second[varies]
    below = np.clip(np.cumsum(tables.marginals, axis=1)[:, :-1], _SMALLEST, 1 - _SMALLEST)
    weights = np.zeros((num_attributes, num_attributes))
    weights[first, second] = _most_likely(tables.pairs[first, :, second, :], below[first], below[second])
    return weights + weights.T


def _most_likely(observed: np.ndarray, below_a: np.ndarray, below_b: np.ndarray) -> np.ndarray:
    """Rho [P] from observed [P, L, L] and the probabilities [P, L - 1] below each threshold."""
    cuts_a, cuts_b = ndtri(below_a), ndtri(below_b)
    rho = np.zeros(len(observed))
    for _ in range(_NUM_STEPS):
        cells = np.maximum(cell_probabilities(below_a, below_b, rho), _SMALLEST)
        slope = _cells(np.pad(_density(cuts_a, cuts_b, rho), ((0, 0), (1, 1), (1, 1))))
        score = (observed * slope / cells).sum(axis=(1, 2))
        information = np.maximum((slope**2 / cells).sum(axis=(1, 2)), _SMALLEST)
        # Short steps: far from the optimum the quadratic model overshoots towards |rho| = 1.
        rho = np.clip(rho + np.clip(score / information, -0.3, 0.3), -_HIGHEST_CORRELATION, _HIGHEST_CORRELATION)
    return rho


def cell_probabilities(below_a: np.ndarray, below_b: np.ndarray, rho: np.ndarray) -> np.ndarray:
    """Probability [P, L, L] of each cell of a bivariate normal with correlation `rho` [P] cut at quantiles [P, L - 1].

    The joint distribution function is the independent one plus the integral of its density over rho (Plackett 1954).
    """
    cuts_a, cuts_b = ndtri(below_a), ndtri(below_b)
    inner = below_a[:, :, None] * below_b[:, None, :]
    angle = np.arcsin(rho)
    for node, weight in zip(_NODES, _NODE_WEIGHTS, strict=True):
        # With rho = sin(angle) the integrand stays finite up to |rho| = 1.
        at = angle * (node + 1) / 2
        inner = inner + (weight * angle / 2 * np.cos(at))[:, None, None] * _density(cuts_a, cuts_b, np.sin(at))
    corners = np.pad(inner, ((0, 0), (1, 1), (1, 1)))
    corners[:, 1:-1, -1], corners[:, -1, 1:-1], corners[:, -1, -1] = below_a, below_b, 1.0
    return _cells(corners)


def _cells(corners: np.ndarray) -> np.ndarray:
    """Mass [P, L, L] of each cell from the values [P, L + 1, L + 1] at its corners."""
    return np.diff(np.diff(corners, axis=1), axis=2)


def _density(cuts_a: np.ndarray, cuts_b: np.ndarray, rho: np.ndarray) -> np.ndarray:
    """Standard bivariate normal density [P, L - 1, L - 1] at every crossing of two thresholds."""
    a, b, correlation = cuts_a[:, :, None], cuts_b[:, None, :], rho[:, None, None]
    rest = 1.0 - correlation**2
    return np.exp(-(a**2 - 2 * correlation * a * b + b**2) / (2 * rest)) / (2 * np.pi * np.sqrt(rest))
