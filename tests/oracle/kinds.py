"""A question and an answer of every kind that goes through HTTP."""

import numpy as np

from graphdrl.oracle.questions import (
    Answer,
    NameAnswer,
    NameQuestion,
    ProposeAnswer,
    ProposeQuestion,
    Question,
    RankAnswer,
    RankQuestion,
    RelateAnswer,
    RelateQuestion,
    Scores,
)
from graphdrl.relations import CorrelateQuestion, correlate

ATTRIBUTES = ("hat", "long_hair")


def some_images(*shape: int, seed: int = 0) -> np.ndarray:
    """Uint8 images [*shape, 8, 12, 3]."""
    return np.random.default_rng(seed).integers(0, 256, (*shape, 8, 12, 3), dtype=np.uint8)


def _grades(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).uniform(0, 5, shape).astype(np.float32)


def _relations():
    grades = _grades(40, 2)
    ids = tuple(f"{number:032x}" for number in range(40))
    ones = np.ones(40, np.float32)
    scores = Scores(ids, ATTRIBUTES, grades, grades.astype(np.int8), grades / 9, ones, ones < 0, "data", "m", "v")
    return correlate(scores, num_bootstrap=20)


def _scored() -> Answer:
    grades = _grades(3, 2)
    grades[1, 0] = np.nan
    malformed = np.isnan(grades)
    argmax = np.where(malformed, -1, np.nan_to_num(grades).round()).astype(np.int8)
    flagged = np.array([False, True, False])
    return Answer(("ab" * 16,) * 3, ATTRIBUTES, grades, argmax, grades / 9, malformed, flagged, "m", "v", 4)


KINDS = {
    "score": (Question(some_images(3), ATTRIBUTES, "do", "a run", 60.5), _scored()),
    "correlate": (CorrelateQuestion(some_images(40), ATTRIBUTES, "tau_b", 50, 3, "a run", 60.0), _relations()),
    "rank": (
        RankQuestion(some_images(3), some_images(3, seed=1), ATTRIBUTES, "direct", "a run", 60.0),
        RankAnswer(ATTRIBUTES, _grades(3, 2) / 5, "direct", "m", "v", 6),
    ),
    "relate": (
        RelateQuestion(ATTRIBUTES, "a run", 60.0),
        RelateAnswer(ATTRIBUTES, _grades(2, 2), _grades(2, 2) / 5, _grades(2, 2) / 3, "m", "v", 4),
    ),
    "name": (
        NameQuestion(some_images(2, 3), "a run", 60.0),
        NameAnswer(("hat", ""), np.array([-1, 0], np.int8), "m", "v", 4),
    ),
    "propose": (
        ProposeQuestion(some_images(3), 5, "a run", 60.0),
        ProposeAnswer(ATTRIBUTES, _grades(2) / 5, _grades(2), "m", "v", 6),
    ),
}
