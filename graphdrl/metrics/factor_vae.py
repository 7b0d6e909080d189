"""The FactorVAE score (Kim and Mnih 2018): does the code that varies least tell which factor was held fixed?"""

import numpy as np

from graphdrl.metrics.codes import CodedFactors

NUM_TRAIN_VOTES = 10_000
NUM_TEST_VOTES = 5_000
BATCH_SIZE = 64
SMALLEST_STD = 0.05
"""A code that varies less has collapsed to the prior and takes no part."""


def factor_vae(coded: CodedFactors) -> dict[str, float]:
    """`factor_vae`: test accuracy of the majority vote, in [0, 1]; 0 when every code has collapsed.

    A factor is held fixed by drawing images that share its grade, so the images must be of independent factors. The
    grade is that of a random image; grades with fewer images than a batch are not drawn.
    """
    codes = np.concatenate([coded.codes_train, coded.codes_test])
    grades = np.concatenate([coded.grades_train, coded.grades_test])
    active = codes[:, codes.std(axis=0, ddof=1) >= SMALLEST_STD]
    groups = _groups(grades)
    if active.shape[1] == 0 or not groups:
        return {"factor_vae": 0.0}
    rng = np.random.default_rng(coded.seed)
    scaled = active / active.std(axis=0, ddof=1)
    classifier = _votes(scaled, groups, NUM_TRAIN_VOTES, rng).argmax(axis=0)
    votes = _votes(scaled, groups, NUM_TEST_VOTES, rng)
    return {"factor_vae": float(votes[classifier, np.arange(active.shape[1])].sum() / votes.sum())}


def _groups(grades: np.ndarray) -> list[list[np.ndarray]]:
    """For each factor the rows of every grade that fills a batch; factors without such a grade are left out."""
    by_grade = [[np.flatnonzero(column == grade) for grade in np.unique(column)] for column in grades.T]
    filled = [[rows for rows in groups if len(rows) >= BATCH_SIZE] for groups in by_grade]
    return [groups for groups in filled if groups]


def _votes(codes: np.ndarray, groups: list[list[np.ndarray]], num_votes: int, rng: np.random.Generator) -> np.ndarray:
    """[F, Z], how often each code varied least when each factor was held fixed."""
    votes = np.zeros((len(groups), codes.shape[1]), np.int64)
    per_factor = rng.multinomial(num_votes, np.full(len(groups), 1 / len(groups)))
    for factor, (rows_by_grade, count) in enumerate(zip(groups, per_factor, strict=True)):
        sizes = np.array([len(rows) for rows in rows_by_grade])
        for rows, batches in zip(rows_by_grade, rng.multinomial(count, sizes / sizes.sum()), strict=True):
            drawn = codes[rng.choice(rows, size=(batches, BATCH_SIZE))]
            votes[factor] += np.bincount(drawn.var(axis=1).argmin(axis=1), minlength=codes.shape[1])
    return votes
