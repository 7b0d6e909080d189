"""Relations corrected for the grader's mistakes, with confusion matrices that were measured on a gold set.

A grade that is wrong now and then weakens every relation (attenuation), and more so that of a rare attribute. Given
C_i[t, g], the probability that attribute i is given grade g where t is true, and mistakes that are independent of each
other given the true grades, what is seen of a pair is P(g_i, g_j) = sum C_i[t, g_i] P(t, u) C_j[u, g_j]. Expectation
maximisation finds the P(t, u) under which what was seen is the most likely (Richardson 1972; Lucy 1974): it stays a
distribution, and the number of its steps bounds how far sampling noise is blown up.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from graphdrl.relations.tables import JointTables

NUM_STEPS = 20
"""Of expectation maximisation; more follow the noise of a few hundred images rather than their relations."""

_PRIOR = 1.0
"""Gold images that each true grade is credited with beside those that were seen, graded right: a row is never empty."""

_FITTING_STEPS = 20
_TINY = 1e-12


@dataclass(frozen=True, eq=False)
class Correction:
    """How a grader errs on K attributes.

    counts: [K, L, L], gold images of a true grade (row) that were given a grade (column), as
        `oracle.doubt.Calibration.confusion` has them.
    """

    counts: np.ndarray

    def __post_init__(self) -> None:
        counts = self.counts
        if counts.ndim != 3 or counts.shape[1] != counts.shape[2] or not (np.isfinite(counts) & (counts >= 0)).all():
            raise ValueError(f"confusion matrices are counts [K, L, L] >= 0, not {list(counts.shape)}")

    @property
    def levels(self) -> int:
        """L, the number of grades."""
        return int(self.counts.shape[1])

    @cached_property
    def given(self) -> np.ndarray:
        """Probability [K, L, L] of each grade (last axis) given the true one."""
        smoothed = self.counts + _PRIOR * np.eye(self.levels)
        return smoothed / smoothed.sum(axis=2, keepdims=True)

    def resampled(self, rng: np.random.Generator) -> "Correction":
        """The same from another draw of as many gold images: the gold set, too, is a sample."""
        num = self.counts.sum(axis=2).astype(np.int64)
        return Correction(rng.multinomial(num, self.given).astype(np.float64))

    def check(self, attributes: tuple[str, ...], levels: int) -> None:
        """Raise ValueError when it is of other attributes or grades than what is to be corrected."""
        if self.counts.shape != (len(attributes), levels, levels):
            raise ValueError(
                f"confusion matrices {list(self.counts.shape)} cannot correct {len(attributes)} attributes graded on "
                f"{levels} levels: measure one of {levels} x {levels} for each attribute, in their order"
            )

    def __call__(self, tables: JointTables) -> JointTables:
        """The joint tables that the true grades would give."""
        marginals = _marginals(tables.marginals, self.given)
        pairs = _pairs(tables.pairs.swapaxes(1, 2), self.given, marginals).swapaxes(1, 2)
        own = np.arange(len(marginals))
        pairs[own, :, own, :] = marginals[:, :, None] * np.eye(self.levels)
        return JointTables(pairs)


def _marginals(seen: np.ndarray, given: np.ndarray) -> np.ndarray:
    """True distributions [K, L] of each attribute from those seen [K, L]."""
    true = np.full_like(seen, 1 / seen.shape[1])
    for _ in range(NUM_STEPS):
        expected = np.einsum("kt,ktg->kg", true, given)
        true = true * np.einsum("ktg,kg->kt", given, seen / np.maximum(expected, _TINY))
    return true / true.sum(axis=1, keepdims=True)


def _pairs(seen: np.ndarray, given: np.ndarray, marginals: np.ndarray) -> np.ndarray:
    """True joint distributions [K, K, L, L] from those seen, starting from unrelated attributes."""
    first, second = given[:, None], given[None, :]
    rows, columns = marginals[:, None, :, None], marginals[None, :, None, :]
    true = rows * columns
    for _ in range(NUM_STEPS):
        expected = first.swapaxes(2, 3) @ true @ second
        true = true * (first @ (seen / np.maximum(expected, _TINY)) @ second.swapaxes(2, 3))
    # A pair by itself moves its marginals a little; fitting them makes all pairs those of the same attributes.
    for _ in range(_FITTING_STEPS):
        true = true * (rows / np.maximum(true.sum(axis=3, keepdims=True), _TINY))
        true = true * (columns / np.maximum(true.sum(axis=2, keepdims=True), _TINY))
    return true / true.sum(axis=(2, 3), keepdims=True)
