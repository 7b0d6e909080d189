"""Scores in, numbered versions of the relations out."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from graphdrl.oracle.doubt import doubtful
from graphdrl.oracle.questions import NUM_GRADES, Scores
from graphdrl.relations.edges import NodeMap, RelationsVersion
from graphdrl.relations.estimators import load_estimator
from graphdrl.relations.intervals import FEWEST_IMAGES, estimate_many
from graphdrl.relations.weights import GAMMA, MIN_SCORED, SHRINK, decorrelating_weights


def relations_key(
    image_ids: Sequence[str], attributes: Sequence[str], model: str, prompt_version: str, estimator: str
) -> str:
    """Name of the relations that one oracle sees in one set of images: 32 hex digits, another when anything differs.

    The order of the images does not matter, that of the attributes does: it is the order of the rows of the edges.
    """
    parts = [sorted(image_ids), list(attributes), model, prompt_version, estimator]
    return hashlib.blake2b(json.dumps(parts).encode(), digest_size=16).hexdigest()


class Updater:
    """Collects scores, and estimates the relations anew whenever the number of scored images passes a mark.

    An estimate is a function of the scores (not of the order in which they came), of the settings, and of the version.

    update_at: numbers of scored images, at least 30 each. seed: of the bootstrap.
    The rest is explained at `estimate_many` and `decorrelating_weights`.
    Raises ValueError for an unknown estimator and for a mark at which nothing can be estimated yet.
    """

    def __init__(
        self,
        key: str,
        node_map: NodeMap,
        estimator: str = "somers_d",
        update_at: Sequence[int] = (250, 500, 1000, 2000),
        num_bootstrap: int = 200,
        levels: int = NUM_GRADES,
        gamma: float = GAMMA,
        shrink: float = SHRINK,
        min_scored: int = MIN_SCORED,
        seed: int = 0,
    ) -> None:
        load_estimator(estimator)
        if any(mark < FEWEST_IMAGES for mark in update_at):
            raise ValueError(
                f"relations cannot be estimated at {min(update_at)} scored images, {FEWEST_IMAGES} are the fewest: "
                "score more images, or none"
            )
        self.key = key
        self._node_map = node_map
        self._estimator = estimator
        self._marks = tuple(sorted(update_at))
        self._estimate = partial(estimate_many, num_bootstrap=num_bootstrap, levels=levels)
        self._weigh = partial(decorrelating_weights, gamma=gamma, shrink=shrink, min_scored=min_scored)
        self._seed = seed
        self._known: set[str] = set()
        self._chunks: list[Scores] = []
        self._last: RelationsVersion | None = None

    def __len__(self) -> int:
        return len(self._known)

    @property
    def scores(self) -> Scores | None:
        """All scores so far, in the order of their image ids; None when there are none."""
        if len(self._chunks) > 1:
            self._chunks = [_joined(self._chunks)]
        return self._chunks[0] if self._chunks else None

    def add(self, scores: Scores) -> RelationsVersion | None:
        """Take in scores; returns a new version when their number has passed a mark.

        Images that are scored already, and scores of other images than the data's, are left out.
        Raises ValueError when the scores answer another question than those before.
        """
        if scores.source != "data":
            return None
        self._keep(scores)
        seen = len(self._last.scores) if self._last else 0
        return self.estimate() if any(seen < mark <= len(self) for mark in self._marks) else None

    def finish(self) -> RelationsVersion | None:
        """No more scores will come: a version from those that arrived since the last one, if there are any."""
        seen = len(self._last.scores) if self._last else 0
        return self.estimate() if len(self) > max(seen, FEWEST_IMAGES - 1) else None

    def estimate(self) -> RelationsVersion:
        """The next version, from all scores so far; raises ValueError when there are too few."""
        scores = self.scores
        if scores is None:
            raise ValueError("no image has been scored yet: there is nothing to estimate relations from")
        version = self._last.version + 1 if self._last else 1
        # The marginal relations stand behind the weights, whatever estimator the edges are of.
        edges = self._estimate(scores, (self._estimator, "tau_b"), seed=self._seed + version)
        drawn = self._weigh(scores, edges["tau_b"])
        self._last = RelationsVersion(
            version=version,
            key=self.key,
            edges=edges[self._estimator],
            scores=scores,
            sample_weights=drawn.weights,
            node_map=self._node_map,
            effective_sample_size=drawn.effective_sample_size,
            notes=(*doubtful(scores), *drawn.notes),
        )
        return self._last

    def set_node_map(self, node_map: NodeMap) -> RelationsVersion | None:
        """Nodes were discovered: the last version is issued anew with this map, and all later ones carry it."""
        self._node_map = node_map
        if self._last is None or self._last.node_map == node_map:
            return None
        self._last = replace(self._last, version=self._last.version + 1, node_map=node_map)
        return self._last

    def restore(self, last: RelationsVersion) -> None:
        """Go on from the last version that an earlier updater made.

        Raises ValueError when it belongs to other images, attributes, oracle or estimator.
        """
        if last.key != self.key:
            raise ValueError(
                f"relations {last.key} cannot go on as {self.key}: images, attributes, oracle or estimator differ"
            )
        self._keep(last.scores)
        self._node_map, self._last = last.node_map, last

    def _keep(self, scores: Scores) -> None:
        if self._chunks and _question(scores) != _question(self._chunks[0]):
            raise ValueError(
                f"scores of different questions cannot be joined: {_question(self._chunks[0])} and {_question(scores)}"
            )
        new = {image: row for row, image in enumerate(scores.image_ids) if image not in self._known}
        if new:
            self._known.update(new)
            self._chunks.append(scores.rows([new[image] for image in sorted(new)]))


def _question(scores: Scores) -> tuple[tuple[str, ...], str, str]:
    return scores.attributes, scores.model, scores.prompt_version


def _joined(chunks: list[Scores]) -> Scores:
    """One Scores of chunks that share no image, sorted by image id so that the order of arrival leaves no trace."""
    ids = [image for chunk in chunks for image in chunk.image_ids]
    order = sorted(range(len(ids)), key=ids.__getitem__)

    def rows(name: str) -> np.ndarray:
        return np.concatenate([getattr(chunk, name) for chunk in chunks])[order]

    return replace(
        chunks[0],
        image_ids=tuple(ids[row] for row in order),
        expected=rows("expected"),
        argmax=rows("argmax"),
        entropy=rows("entropy"),
        inclusion_probability=rows("inclusion_probability"),
        flagged=rows("flagged"),
    )
