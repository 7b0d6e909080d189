"""Weights that make scored images look as if attributes were independent: the graph deconfounds the supervision."""

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from graphdrl.oracle.questions import Scores
from graphdrl.relations.edges import Edges

GAMMA = 0.5
SHRINK = 0.02
MIN_SCORED = 400
"""With fewer scored images edges are too uncertain to decorrelate by."""

_CAP_PERCENTILE = 98
_LEAST_EFFECTIVE = 0.25
_SMALLEST_EIGENVALUE = 1e-3


@dataclass(frozen=True)
class SampleWeights:
    """How often each scored image is drawn for supervision.

    weights: float32 [N], sums to 1. effective_sample_size: 1 / sum of squared weights.
    notes: what a reader must know, such as that Sigma had to be shrunk.
    """

    weights: np.ndarray
    effective_sample_size: float
    notes: tuple[str, ...] = ()


def decorrelating_weights(
    scores: Scores, edges: Edges, gamma: float = GAMMA, shrink: float = SHRINK, min_scored: int = MIN_SCORED
) -> SampleWeights:
    """Weights proportional to exp(gamma / 2 x^T (Sigma^-1 - I) x), x the normal scores of an image's attributes.

    At gamma = 1 and for normal x with correlation Sigma this is the density of independent attributes over theirs;
    gamma tempers it, and log weights are capped at their 98th percentile. `edges` should be those of `tau_b`, whose
    intervals say which correlations are there at all: unresolved ones count as 0. When the effective sample size falls
    below a quarter of N, Sigma is shrunk until it does not. With fewer than `min_scored` images the weights are
    uniform. An image chosen for scoring with a low probability stands for more images, in the ranks as in the weights.
    """
    num_scored = len(scores)
    if num_scored < min_scored:
        note = f"sample weights are uniform: {num_scored} images are scored, decorrelating starts at {min_scored}"
        return SampleWeights(np.full(num_scored, 1 / num_scored, np.float32), float(num_scored), (note,))
    represents = 1.0 / scores.inclusion_probability.astype(np.float64)
    ranks = normal_scores(scores.expected, represents)
    used = shrink
    while True:
        weights = tempered_weights(ranks, represents, latent_correlation(edges, used), gamma)
        effective = float(1.0 / np.square(weights).sum())
        if effective >= _LEAST_EFFECTIVE * num_scored or used >= 1.0:
            break
        used = min(1.0, used + 0.08)
    return SampleWeights(weights.astype(np.float32), effective, _notes(used, shrink, effective, num_scored))


def latent_correlation(edges: Edges, shrink: float = SHRINK) -> np.ndarray:
    """Sigma [K, K] = sin(pi / 2 tau_b): what normal variables with the resolved tau_b would correlate.

    Positive definite (small eigenvalues raised, unit diagonal restored), then shrunk towards the identity.
    """
    sigma = np.sin(np.pi / 2 * np.where(edges.resolved | edges.resolved.T, edges.strength, 0.0).astype(np.float64))
    np.fill_diagonal(sigma, 1.0)
    values, vectors = np.linalg.eigh((sigma + sigma.T) / 2)
    sigma = (vectors * np.maximum(values, _SMALLEST_EIGENVALUE)) @ vectors.T
    scale = np.sqrt(np.diag(sigma))
    return (1.0 - shrink) * sigma / np.outer(scale, scale) + shrink * np.eye(len(sigma))


def normal_scores(values: np.ndarray, represents: np.ndarray) -> np.ndarray:
    """Normal quantiles [N, K] of the weighted mid-ranks of each column.

    represents: [N], how many images each one stands for.
    Ties share their mid-rank. Breaking them at random would invent differences, and with point masses at grade 0 cost
    two thirds of the effective sample size.
    """
    return np.stack([_quantiles(column, represents) for column in np.asarray(values).T], axis=1)


def _quantiles(column: np.ndarray, represents: np.ndarray) -> np.ndarray:
    _, group = np.unique(column, return_inverse=True)
    mass = np.bincount(group, weights=represents)
    midrank = (np.cumsum(mass) - mass / 2) / mass.sum()
    return ndtri(midrank)[group]


def tempered_weights(ranks: np.ndarray, represents: np.ndarray, sigma: np.ndarray, gamma: float) -> np.ndarray:
    """Weights [N] that sum to 1: those of `decorrelating_weights` for normal scores [N, K] and their Sigma [K, K].

    represents: [N], how many images each one stands for.
    """
    excess = np.linalg.inv(sigma) - np.eye(len(sigma))
    log_weights = gamma / 2 * np.einsum("ni,ij,nj->n", ranks, excess, ranks, optimize=True)
    log_weights = np.minimum(log_weights, np.percentile(log_weights, _CAP_PERCENTILE))
    weights = np.exp(log_weights - log_weights.max()) * represents
    return weights / weights.sum()


def _notes(used: float, shrink: float, effective: float, num_scored: int) -> tuple[str, ...]:
    if used == shrink:
        return ()
    return (
        f"Sigma was shrunk by {used:.2f} instead of {shrink:.2f}: otherwise the decorrelating weights would rest on "
        f"fewer than a quarter of the {num_scored} scored images (now {effective:.0f})",
    )
