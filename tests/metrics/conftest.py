"""Codes of known quality, for the tests of this room."""

from collections.abc import Callable

import numpy as np
import pytest

from graphdrl.metrics.codes import CodedFactors

MakeCoded = Callable[..., CodedFactors]
NUM_FACTORS = 3


@pytest.fixture
def factors() -> np.ndarray:
    """Independent factors [1500, 3] in [0, 1]."""
    return np.random.default_rng(0).random((1_500, NUM_FACTORS))


@pytest.fixture
def make_codes(factors) -> Callable[[str], np.ndarray]:
    """Codes [1500, 6] of the factors: perfect | random | duplicated | mixed."""
    rng = np.random.default_rng(1)
    grades = np.floor(factors * 5 + 0.5)

    def make(kind: str) -> np.ndarray:
        noise = rng.standard_normal((len(factors), 2 * NUM_FACTORS))
        if kind == "perfect":
            noise[:, :NUM_FACTORS] = grades
        if kind == "duplicated":
            noise = np.concatenate([grades, -2 * grades], axis=1)
        if kind == "mixed":
            turn = np.array([[1, 1, 1], [1, -1, 0], [1, 1, -2]]) / np.sqrt([3, 2, 6])
            noise[:, :NUM_FACTORS] = (factors - 0.5) @ turn
        return noise

    return make


@pytest.fixture
def make_coded(factors, make_codes) -> MakeCoded:
    return lambda kind: CodedFactors.split(make_codes(kind), factors, ("a", "b", "c"), seed=0)


@pytest.fixture
def exact() -> MakeCoded:
    """Given codes and integer grades, all of them to fit on and to test on."""

    def make(codes: np.ndarray, grades: np.ndarray) -> CodedFactors:
        codes, grades = np.asarray(codes, np.float64), np.asarray(grades, np.int64)
        names = tuple(f"f{column}" for column in range(grades.shape[1]))
        return CodedFactors(codes, codes, grades, grades, names, seed=0)

    return make
