"""Codes of made-up models on factors that are drawn independently: what metrics are compared on, the same everywhere.

Shape letters: N images, F factors, Z codes.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

SIZES = (3, 6, 6, 8, 4)
"""Values of each factor."""

NUM_IMAGES = 6000
NUM_CODES = 8


@dataclass(frozen=True)
class Case:
    """A model as a function: factors int64 [N, F] and a generator of its noise -> codes float64 [N, Z]."""

    encode: Callable[[np.ndarray, np.random.Generator], np.ndarray]

    def draw(self) -> tuple[np.ndarray, np.ndarray]:
        """The codes and factors that everybody measures."""
        rng = np.random.default_rng(0)
        factors = draw_factors(NUM_IMAGES, rng)
        return self.encode(factors, rng), factors


def draw_factors(num: int, rng: np.random.Generator) -> np.ndarray:
    """int64 [num, F], independent and uniform."""
    return np.stack([rng.integers(size, size=num) for size in SIZES], axis=1)


def fingerprint(codes: np.ndarray) -> str:
    """Of codes up to rounding: figures of a reference count for these codes and no others."""
    return hashlib.sha256(np.round(codes, 6).astype("<f4").tobytes()).hexdigest()[:16]


def _scaled(factors: np.ndarray) -> np.ndarray:
    """Standard deviation 1 each."""
    sizes = np.array(SIZES)
    return (factors - (sizes - 1) / 2) / np.sqrt((sizes**2 - 1) / 12)


def _noise(factors: np.ndarray, rng: np.random.Generator, deviations: tuple[float, ...]) -> np.ndarray:
    return rng.normal(size=(len(factors), len(deviations))) * np.array(deviations)


def _aligned(factors: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A code a factor; two codes of noise, and one that has collapsed."""
    return np.concatenate([_scaled(factors), np.zeros((len(factors), 3))], axis=1) + _noise(
        factors, rng, (*[0.2] * 5, 1.0, 1.0, 0.01)
    )


def _mixed(factors: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Every code is a sum of all factors, with a share of its own for each."""
    shares = np.random.default_rng(1).normal(size=(len(SIZES), NUM_CODES))
    return _scaled(factors) @ shares + _noise(factors, rng, (0.3,) * NUM_CODES)


def _bent(factors: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Codes that are no straight lines of their factors, and three that hold two factors each."""
    scaled = _scaled(factors)
    sums = scaled[:, [0, 1, 2]] + scaled[:, [1, 2, 3]]
    return np.concatenate([np.sin(1.5 * scaled), sums], axis=1) + _noise(factors, rng, (*[0.15] * 5, *[0.4] * 3))


CASES = {"aligned": Case(_aligned), "mixed": Case(_mixed), "bent": Case(_bent)}
