"""Asks an oracle for the relations that a model's samples show; `graphdrl.metrics` compares them with the data's.

It costs N x K grades: none of them is known beforehand, since the samples are new images.
"""

from collections.abc import Iterator

import numpy as np

from graphdrl.metrics.relation_fidelity import relation_fidelity
from graphdrl.models import GEM
from graphdrl.oracle import Oracle, Question
from graphdrl.oracle.asking import as_answered
from graphdrl.oracle.questions import ScoreSource
from graphdrl.relations import FEWEST_IMAGES, load_estimator
from graphdrl.relations.tables import joint_tables, to_grades
from graphdrl.training.generated import samples

NUM_SAMPLES = 2_000
_IMAGES_PER_QUESTION = 16


def measure_relation_fidelity(
    model: GEM,
    oracle: Oracle,
    data: np.ndarray,
    attributes: tuple[str, ...],
    estimator: str,
    *,
    num_samples: int = NUM_SAMPLES,
    seed: int = 0,
    client: str = "",
) -> dict[str, float]:
    """Relations among attributes in samples of a model beside those in its data, float [K, K] by the same estimator.

    Returns the figures of `graphdrl.metrics.relation_fidelity`. Waits for the answers; a busy oracle is asked again.
    Raises OracleError when the oracle fails, ValueError when it can grade too few samples.
    """
    made = samples(model, num_samples, seed)
    return relation_fidelity(data, shown_relations(oracle, made, attributes, estimator, source="sample", client=client))


def shown_relations(
    oracle: Oracle,
    images: np.ndarray,
    attributes: tuple[str, ...],
    estimator: str,
    *,
    source: ScoreSource,
    client: str = "",
) -> np.ndarray:
    """Relations float [K, K] that an oracle sees in images uint8 [N, S, S, 3]; images with a malformed grade are out.

    An attribute that does not vary in the images is related to nothing: 0.
    Raises OracleError when the oracle fails, ValueError for fewer than FEWEST_IMAGES images that are graded.
    """
    answers = as_answered(oracle, _questions(images, attributes, source, client))
    expected = np.concatenate([answer.expected for _, answer in answers])
    graded = expected[np.isfinite(expected).all(axis=1)]
    if len(graded) < FEWEST_IMAGES:
        raise ValueError(
            f"relations need at least {FEWEST_IMAGES} graded images, and of {len(images)} the oracle could grade "
            f"{len(graded)}: take more images, or another model"
        )
    return load_estimator(estimator)(joint_tables(to_grades(graded)))


def _questions(images: np.ndarray, attributes: tuple[str, ...], source: ScoreSource, client: str) -> Iterator[Question]:
    for start in range(0, len(images), _IMAGES_PER_QUESTION):
        yield Question(images[start : start + _IMAGES_PER_QUESTION], attributes, source, client)
