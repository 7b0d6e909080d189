"""Codes and factors of one set of images, and what several metrics read off them, computed once.

Shape letters: N images, Z latent dimensions, F factors. Parameters are those of Locatello et al. 2019 (Challenging
Common Assumptions): up to 10,000 codes to fit on and 5,000 to test on, 20 bins, mean codes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

NUM_BINS = 20
MOST_TRAIN = 10_000
MOST_TEST = 5_000
HIGHEST_GRADE = 5

_ROUNDING = 1e-9


@dataclass(frozen=True)
class CodedFactors:
    """Mean codes of images beside the factors that the images were drawn from, split to fit and to test.

    codes: float64 [N, Z], train and test. grades: int64 [N, F], train and test; every factor has two grades at least.
    seed: of whatever a metric draws.
    """

    codes_train: np.ndarray
    codes_test: np.ndarray
    grades_train: np.ndarray
    grades_test: np.ndarray
    names: tuple[str, ...]
    seed: int

    @classmethod
    def split(cls, codes: np.ndarray, factors: np.ndarray, names: Sequence[str], seed: int = 0) -> "CodedFactors":
        """Two thirds to fit on and one third to test on; factors that do not vary are left out.

        Raises ValueError when shapes disagree, codes are not finite, or fewer than two factors vary.
        """
        _check(codes, factors, names)
        grades = factor_grades(factors)
        order = np.random.default_rng(seed).permutation(len(codes))
        num_train = min(MOST_TRAIN, len(codes) * 2 // 3)
        train, test = order[:num_train], order[num_train : num_train + MOST_TEST]
        varies = np.flatnonzero(np.ptp(grades[train], axis=0) > 0)
        if len(varies) < 2:
            raise ValueError(
                f"disentanglement needs two factors that vary at least; of {tuple(names)} {len(varies)} do"
            )
        codes = np.asarray(codes, np.float64)
        return cls(
            codes[train],
            codes[test],
            grades[np.ix_(train, varies)],
            grades[np.ix_(test, varies)],
            tuple(names[column] for column in varies),
            seed,
        )

    @cached_property
    def mutual_information(self) -> np.ndarray:
        """[Z, F], in nats, of binned codes and grades."""
        return _information(self._bins, self.grades_train)

    @cached_property
    def code_information(self) -> np.ndarray:
        """[Z, Z], in nats, of binned codes and each other; the diagonal is their entropy."""
        return _information(self._bins, self._bins)

    @cached_property
    def _bins(self) -> np.ndarray:
        return binned(self.codes_train)

    @cached_property
    def factor_entropy(self) -> np.ndarray:
        """[F], in nats."""
        return np.array([entropy(np.bincount(column) / len(column)) for column in self.grades_train.T])


def factor_grades(factors: np.ndarray) -> np.ndarray:
    """Discrete values int64 [N, F] of factors: integers stay, numbers in [0, 1] become grades 0..5 (halves go up)."""
    factors = np.asarray(factors)
    if np.issubdtype(factors.dtype, np.integer):
        return factors.astype(np.int64) - factors.min(axis=0)
    if not ((factors >= 0) & (factors <= 1)).all():
        raise ValueError("factors are integers, or numbers in [0, 1]; scale them before measuring codes against them")
    return np.floor(factors * HIGHEST_GRADE + 0.5).astype(np.int64)


def binned(codes: np.ndarray, num_bins: int = NUM_BINS) -> np.ndarray:
    """Codes [N, Z] in `num_bins` bins of equal width between each dimension's extremes: int64 0..num_bins-1."""
    low, width = codes.min(axis=0), np.ptp(codes, axis=0)
    position = np.divide(codes - low, width, out=np.zeros_like(codes), where=width > 0)
    return np.minimum((position * num_bins).astype(np.int64), num_bins - 1)


def entropy(probabilities: np.ndarray) -> float:
    """In nats, of a distribution that may have zeros."""
    positive = probabilities[probabilities > 0]
    return float(-(positive * np.log(positive)).sum())


def _information(bins: np.ndarray, grades: np.ndarray) -> np.ndarray:
    """Mutual information [Z, F] in nats of discrete values [N, Z] and [N, F]."""
    joint = _joint_counts(bins, grades) / len(grades)
    independent = joint.sum(axis=3, keepdims=True) * joint.sum(axis=2, keepdims=True)
    terms = np.where(joint > 0, joint * np.log(np.where(joint > 0, joint, 1) / np.where(joint > 0, independent, 1)), 0)
    information = terms.sum(axis=(2, 3))
    return np.where(information > _ROUNDING, information, 0.0)


def _joint_counts(bins: np.ndarray, grades: np.ndarray) -> np.ndarray:
    """[Z, F, bins, grades], how often a bin of a code meets a grade of a factor."""
    num_bins, num_grades = bins.max() + 1, grades.max() + 1
    hot_bins = (bins[:, :, None] == np.arange(num_bins)).reshape(len(bins), -1).astype(np.float32)
    hot_grades = (grades[:, :, None] == np.arange(num_grades)).reshape(len(grades), -1).astype(np.float32)
    counts = (hot_bins.T @ hot_grades).astype(np.float64)
    return counts.reshape(bins.shape[1], num_bins, grades.shape[1], num_grades).transpose(0, 2, 1, 3)


def _check(codes: np.ndarray, factors: np.ndarray, names: Sequence[str]) -> None:
    if codes.ndim != 2 or factors.ndim != 2 or len(codes) != len(factors) or factors.shape[1] != len(names):
        raise ValueError(
            f"codes [N, Z] and factors [N, F] with F names are needed, not {list(codes.shape)}, {list(factors.shape)} "
            f"and {len(names)} names"
        )
    if len(codes) < 30:
        raise ValueError(f"codes of at least 30 images are needed, there are {len(codes)}")
    if not np.isfinite(codes).all():
        raise ValueError("codes hold NaN or infinity: the model that made them has diverged")
