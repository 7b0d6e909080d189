"""The scores and relations that a cell of a table trains on: all there before its first step."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field

from graphdrl.config import Config
from graphdrl.images import ImageSet
from graphdrl.models import GEM
from graphdrl.oracle import HIGHEST_GRADE, Question, Scores
from graphdrl.oracle.asking import as_answered
from graphdrl.oracle.scores import ScoreStore
from graphdrl.relations import RelationsVersion, decorrelating_weights, estimate_many, latent_correlation
from graphdrl.relations.weights import normal_scores, tempered_weights
from graphdrl.training import LocalRelations, choose_for_scoring, codes_and_error
from jobs import attributes_of, identity_of, make_updater

_IMAGES_PER_QUESTION = 32
_EDGE_ARRAYS = ("weights", "low", "high", "resolved", "strength", "partial")


class ScoresSettings(BaseModel):
    """Where the scores of a cell come from, and what is done to them on purpose."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: Literal["oracle", "grades"] = Field(
        "oracle", description="the built-in oracle; or true grades under noise, for images that no oracle knows"
    )
    noise: float = Field(0.5, ge=0, description="source grades: standard deviation of the noise, in grades")
    flipped: float = Field(0.0, ge=0, le=1, description="share of the grades that another one replaces at random")
    expected: bool = Field(True, description="the mean grade under the oracle's doubts; false: its most probable one")
    shuffled_graph: bool = Field(False, description="a placebo: the relations of other attributes")
    chosen_by: str | None = Field(
        None, description="row whose model and graph choose half of the images to score: those that are rare under it"
    )


def relations_of(
    settings: ScoresSettings | None, config: Config, images: ImageSet, kept: Path, chooser: Path
) -> LocalRelations:
    """Relations whose first version rests on `oracle.num_scored` images of `config`; none without settings.

    kept: folder of the oracle's answers, so that no cell asks again about an image that another has asked about.
    chooser: the model that chooses images, where the settings say that one does.
    """
    updater = make_updater(config, images, identity_of(config))
    relations = LocalRelations(updater)
    if settings is None:
        return relations
    chosen, probability = _chosen(settings, config, images, chooser)
    for number, scores in enumerate(_scores(settings, config, images, chosen, probability, kept)):
        relations.add(spoilt(scores, settings, config.seed + number))
    relations.finish()
    version = relations.get(relations.latest())
    return LocalRelations(updater, [_shuffled(version, config) if settings.shuffled_graph else version])


def spoilt(scores: Scores, settings: ScoresSettings, seed: int) -> Scores:
    """The scores with a share of their grades replaced, each of the five other whole grades alike."""
    expected = scores.expected if settings.expected else scores.argmax.astype(np.float32)
    rng = np.random.default_rng((seed, 7))
    flipped = rng.random(expected.shape) < settings.flipped
    other = (np.rint(expected) + rng.integers(1, HIGHEST_GRADE + 1, expected.shape)) % (HIGHEST_GRADE + 1)
    return replace(scores, expected=np.where(flipped, other, expected).astype(np.float32))


def derangement(num: int, seed: int) -> np.ndarray:
    """An order of `num` >= 2 places in which none is at its own, int64 [num]."""
    rng = np.random.default_rng((seed, 11))
    while True:
        order = rng.permutation(num)
        if not (order == np.arange(num)).any():
            return order


def _shuffled(version: RelationsVersion, config: Config) -> RelationsVersion:
    order = derangement(len(version.edges.attributes), config.seed)
    marginal = estimate_many(version.scores, ("tau_b",), seed=config.seed)["tau_b"]
    edges, marginal = (
        replace(one, **{name: getattr(one, name)[np.ix_(order, order)] for name in _EDGE_ARRAYS})
        for one in (version.edges, marginal)
    )
    gamma = config.relations.gamma if config.relations.decorrelate else 0.0
    drawn = decorrelating_weights(version.scores, marginal, gamma=gamma)
    return replace(
        version,
        edges=edges,
        sample_weights=drawn.weights,
        effective_sample_size=drawn.effective_sample_size,
        notes=drawn.notes,
    )


def _chosen(settings: ScoresSettings, config: Config, images: ImageSet, chooser: Path) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the images to score, and the probability [N] with which each image is one of them."""
    num_scored = min(config.oracle.num_scored, len(images))
    if settings.chosen_by is None:
        share = np.full(len(images), num_scored / len(images))
        return choose_for_scoring(len(images), num_scored, config.seed), share
    at_random = choose_for_scoring(len(images), num_scored // 2, config.seed)
    return by_rarity(GEM.from_pretrained(chooser), images.images, at_random, num_scored - len(at_random), config.seed)


def by_rarity(
    model: GEM, images: np.ndarray, at_random: np.ndarray, num: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Rows: those chosen at random, then `num` others that are rare under the model's graph, by its own named codes.

    An image is drawn in proportion to the density of independent nodes over that of nodes that hang together, as the
    decorrelating weights have it. Returns the rows, and the probability [N] with which an image is among them.
    """
    assert model.relations is not None, "a model that was trained on relations"
    codes, _ = codes_and_error(model, images)
    nodes = model.disgraph.named(torch.from_numpy(codes)).numpy()
    ones = np.ones(len(images))
    weights = tempered_weights(normal_scores(nodes, ones), ones, latent_correlation(model.relations), gamma=1.0)
    left = weights.copy()
    left[at_random] = 0.0
    rare = np.random.default_rng((seed, 5)).choice(len(images), num, replace=False, p=left / left.sum())
    first = len(at_random) / len(images)
    return np.concatenate([at_random, rare]), first + (1 - first) * np.minimum(1.0, num * weights / left.sum())


def _scores(
    settings: ScoresSettings,
    config: Config,
    images: ImageSet,
    chosen: np.ndarray,
    probability: np.ndarray,
    kept: Path,
) -> Iterator[Scores]:
    parts = [chosen[start : start + _IMAGES_PER_QUESTION] for start in range(0, len(chosen), _IMAGES_PER_QUESTION)]
    if settings.source == "grades":
        return (_noisy(settings, images, rows, attributes_of(config), probability[rows]) for rows in parts)
    return _asked(images, parts, attributes_of(config), probability, kept)


def _noisy(
    settings: ScoresSettings, images: ImageSet, rows: np.ndarray, attributes: tuple[str, ...], probability: np.ndarray
) -> Scores:
    assert images.grades is not None, "a source that draws its images"
    true = HIGHEST_GRADE * images.grades[rows][:, [images.attributes.index(name) for name in attributes]]
    noise = np.random.default_rng((int(rows[0]), 13)).normal(0, settings.noise, true.shape)
    expected = np.clip(true + noise, 0, HIGHEST_GRADE).astype(np.float32)
    return Scores(
        image_ids=tuple(images.ids[row] for row in rows),
        attributes=attributes,
        expected=expected,
        argmax=np.rint(expected).astype(np.int8),
        entropy=np.zeros_like(expected),
        inclusion_probability=probability.astype(np.float32),
        flagged=np.zeros(len(rows), bool),
        source="data",
        model=f"true grades with noise {settings.noise}",
        prompt_version="",
    )


def _asked(
    images: ImageSet, parts: list[np.ndarray], attributes: tuple[str, ...], probability: np.ndarray, kept: Path
) -> Iterator[Scores]:
    from graphdrl.oracle.tiny.local import TransformersOracle

    oracle = TransformersOracle(store=ScoreStore(kept))
    try:
        answers = dict(as_answered(oracle, (Question(images.images[rows], attributes) for rows in parts)))
    finally:
        oracle.close()
    for number, rows in enumerate(parts):
        yield Scores.from_answer(answers[number], "data", probability[rows])
