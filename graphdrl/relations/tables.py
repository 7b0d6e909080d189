"""Joint tables of graded attributes: all that an estimator of relations needs to know of a sample.

Shape letters: N images, K attributes, L grade levels, D bootstrap draws. A table holds probabilities, so that a sample,
a weighted sample and a bootstrap draw are the same thing to an estimator.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from graphdrl.oracle.questions import HIGHEST_GRADE, NUM_GRADES

_ROWS_PER_CHUNK = 8_192


@dataclass(frozen=True)
class JointTables:
    """Joint distributions of every pair of attributes.

    pairs: float64 [K, L, K, L], entry [i, a, j, b] = P(grade of i is a and grade of j is b); sums to 1 for each (i, j).
    """

    pairs: np.ndarray

    @cached_property
    def marginals(self) -> np.ndarray:
        """[K, L], distribution of each attribute's grades."""
        return np.einsum("iaia->ia", self.pairs)

    @cached_property
    def untied(self) -> np.ndarray:
        """[K], probability that two images drawn with replacement differ in an attribute's grade."""
        # A sum of products: exactly 0 for a constant attribute, and no digits lost for a rare one.
        below = np.cumsum(self.marginals, axis=1)[:, :-1]
        return 2.0 * (self.marginals[:, 1:] * below).sum(axis=1)

    @cached_property
    def concordance(self) -> np.ndarray:
        """[K, K], P(concordant) - P(discordant) over pairs of images drawn with replacement."""
        num_attributes, levels = self.marginals.shape
        order = np.sign(np.arange(levels)[:, None] - np.arange(levels)[None, :]).astype(np.float64)
        # P(lower b) - P(higher b) for every cell, then the same along a: two products with the sign of the difference.
        along_b = (self.pairs.reshape(-1, levels) @ order.T).reshape(num_attributes, levels, -1)
        along_both = (order @ along_b).reshape(self.pairs.shape)
        return np.einsum("iajb,iajb->ij", self.pairs, along_both)


def to_grades(scores: np.ndarray, levels: int = NUM_GRADES) -> np.ndarray:
    """Scores 0..5 [N, K] on a grid of `levels` equidistant grades, int8 0..levels-1; halves go up.

    Estimate and truth pass through here, so that a tie means the same in both.
    Raises ValueError for scores outside 0..5 (NaN among them) and for grids that are no grid.
    """
    values = np.asarray(scores)
    if not 2 <= levels <= 127:
        raise ValueError(f"scores are graded on 2 to 127 levels, not {levels}")
    if values.ndim != 2:
        raise ValueError(f"scores are [N, K], not {list(values.shape)}")
    if not ((values >= 0) & (values <= HIGHEST_GRADE)).all():
        raise ValueError(f"scores lie in 0..{HIGHEST_GRADE}; leave malformed (NaN) rows out before relating them")
    return np.floor(values * ((levels - 1) / HIGHEST_GRADE) + 0.5).astype(np.int8)


def joint_tables(grades: np.ndarray, sample_weights: np.ndarray | None = None, levels: int = NUM_GRADES) -> JointTables:
    """Joint tables of grades [N, K]; `sample_weights` [N] >= 0, such as inverse inclusion probabilities."""
    weights = np.ones(len(grades)) if sample_weights is None else sample_weights
    return next(weighted_tables(grades, [weights], levels, np.float64))


def weighted_tables(
    grades: np.ndarray,
    draws: "Iterator[np.ndarray] | list[np.ndarray]",
    levels: int = NUM_GRADES,
    dtype: type = np.float32,
) -> Iterator[JointTables]:
    """One JointTables for each vector of weights [N] in `draws`; float32 halves the work and suffices for intervals."""
    num_attributes = grades.shape[1]
    one_hot = (grades[:, :, None] == np.arange(levels, dtype=np.int8)).reshape(len(grades), -1)
    for weights in draws:
        counts = _count_pairs(one_hot, np.asarray(weights), dtype)
        pairs = counts.astype(np.float64).reshape(num_attributes, levels, num_attributes, levels)
        yield JointTables(pairs / pairs[0, :, 0, :].sum())


def _count_pairs(one_hot: np.ndarray, weights: np.ndarray, dtype: type) -> np.ndarray:
    """Weighted counts [K * L, K * L] of the grades that occur together; one_hot bool [N, K * L]."""
    drawn = np.flatnonzero(weights)
    if not len(drawn):
        raise ValueError("relations need at least one image with a positive weight")
    counts: np.ndarray = np.zeros((one_hot.shape[1],) * 2, dtype)
    for start in range(0, len(drawn), _ROWS_PER_CHUNK):
        chunk = drawn[start : start + _ROWS_PER_CHUNK]
        # The root of the weight on both sides lets BLAS compute one triangle of the symmetric product only.
        rows = one_hot[chunk] * np.sqrt(weights[chunk], dtype=dtype)[:, None]
        counts += rows.T @ rows
    return counts
