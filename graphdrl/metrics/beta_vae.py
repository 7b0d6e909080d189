"""The BetaVAE score (Higgins et al. 2017, section 3): does what stays alike in two images tell which factor they share?

Parameters are those of Locatello et al. 2019.
"""

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from graphdrl.metrics.codes import CodedFactors

NUM_TRAIN_POINTS = 10_000
NUM_TEST_POINTS = 5_000
BATCH_SIZE = 64
_POINTS_AT_ONCE = 500
_MOST_STEPS = 1_000


def beta_vae(coded: CodedFactors) -> dict[str, float]:
    """`beta_vae`: test accuracy of a linear classifier, 1 at best and 1 / F by guessing.

    A point is |difference of the codes| of pairs of images that share one factor's grade, mean over a batch of pairs;
    the classifier says which factor it was. Pairs are drawn from the images, so their factors must be independent. An
    image is paired with itself only where no other has its grade.
    """
    codes = np.concatenate([coded.codes_train, coded.codes_test])
    grades = np.concatenate([coded.grades_train, coded.grades_test])
    pairings = [Pairing(column) for column in grades.T]
    rng = np.random.default_rng(coded.seed)
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=_MOST_STEPS))
    classifier.fit(*_points(codes, pairings, NUM_TRAIN_POINTS, rng))
    return {"beta_vae": float(classifier.score(*_points(codes, pairings, NUM_TEST_POINTS, rng)))}


class Pairing:
    """Draws images together with others of the same grade of one factor; grades: int64 [N]."""

    def __init__(self, grades: np.ndarray) -> None:
        _, group, sizes = np.unique(grades, return_inverse=True, return_counts=True)
        self._by_grade = np.argsort(group, kind="stable")
        self._size, self._start = sizes[group], (np.cumsum(sizes) - sizes)[group]
        self._place = np.argsort(self._by_grade) - self._start

    def draw(self, shape: tuple[int, int], rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Rows of the first and of the second image of pairs, each of that shape."""
        first = rng.integers(len(self._place), size=shape)
        size = self._size[first]
        ahead = 1 + rng.integers(np.maximum(size - 1, 1))
        return first, self._by_grade[self._start[first] + (self._place[first] + ahead) % size]


def _points(
    codes: np.ndarray, pairings: list[Pairing], num: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Points [num, Z] and the factor that each was drawn with, [num]."""
    factors = np.sort(rng.integers(len(pairings), size=num))
    points = []
    for factor, count in enumerate(np.bincount(factors, minlength=len(pairings))):
        for start in range(0, count, _POINTS_AT_ONCE):
            first, second = pairings[factor].draw((min(_POINTS_AT_ONCE, count - start), BATCH_SIZE), rng)
            points.append(np.abs(codes[first] - codes[second]).mean(axis=1))
    return np.concatenate(points), factors
