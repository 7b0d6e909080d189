"""Relations asked for as one question: images and attributes in, a version of the relations out, without a trainer."""

from dataclasses import dataclass

import numpy as np

from graphdrl.oracle.questions import Ask, Scores
from graphdrl.relations.edges import NodeMap, RelationsVersion
from graphdrl.relations.intervals import FEWEST_IMAGES
from graphdrl.relations.updater import Updater, relations_key


@dataclass(frozen=True)
class CorrelateQuestion(Ask[RelationsVersion]):
    """How do the attributes hang together in these images?

    images: uint8 [B, H, W, 3]. estimator, num_bootstrap, seed: as for `estimate`.
    """

    images: np.ndarray
    attributes: tuple[str, ...]
    estimator: str = "somers_d"
    num_bootstrap: int = 200
    seed: int = 0
    client: str = ""
    deadline_s: float | None = None


def correlate(scores: Scores, estimator: str = "somers_d", num_bootstrap: int = 200, seed: int = 0) -> RelationsVersion:
    """Version 1 of the relations in these scores; raises ValueError when they are too few to tell anything."""
    if len(scores) < FEWEST_IMAGES:
        raise ValueError(
            f"{len(scores)} images with whole grades are too few for relations, {FEWEST_IMAGES} are the fewest: "
            "ask about more images"
        )
    key = relations_key(scores.image_ids, scores.attributes, scores.model, scores.prompt_version, estimator)
    updater = Updater(
        key,
        NodeMap.unnamed(len(scores.attributes)),
        estimator=estimator,
        update_at=(len(scores),),
        num_bootstrap=num_bootstrap,
        seed=seed,
    )
    version = updater.add(scores)
    assert version is not None
    return version
