"""Discovered nodes: move one latent dimension, let the oracle score what changes, and name it after that.

Xie et al. 2024, section 3, leave open how a latent dimension comes to mean an attribute; this is our answer:
a dimension is named after the attribute whose score moves most along its traversal. What no attribute names can be put
into the model's own words: that says what a dimension shows, but makes no node of it, since the graph's nodes are the
attributes whose relations are measured.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch

from graphdrl.images import to_float, to_uint8
from graphdrl.models.naming import TRAVERSAL, match, slopes
from graphdrl.oracle.asking import as_answered
from graphdrl.oracle.protocol import Busy, Oracle
from graphdrl.oracle.questions import Answer, Ask, NameAnswer, NameQuestion, Question, ScoreSource
from graphdrl.relations.edges import NodeMap
from graphdrl.training.context import TrainContext
from graphdrl.training.engine import Engine
from graphdrl.training.relations_source import RelationsSource
from graphdrl.training.runs import Run, write_atomically

_NO_STRIPS = np.zeros((0, len(TRAVERSAL), 0, 0, 0, 3), np.uint8)


@dataclass(frozen=True)
class NamedDimension:
    """One latent dimension with its evidence.

    slope: grades that the attribute gains for one standard deviation of the dimension.
    runner_up: the attribute that moves second most, and `runner_up_slope`.
    in_words: what the model calls it, where no attribute names it; "" where it was not asked or did not agree with
    itself. direction: 1 where that grows along the dimension, -1 where it fades, 0 where it is unclear.
    agreement: share of the images along whose traversals the model called it so.
    """

    dimension: int
    name: str
    slope: float
    runner_up: str
    runner_up_slope: float
    in_words: str = ""
    direction: int = 0
    agreement: float = 0.0


def questions_along(
    strips: np.ndarray, attributes: tuple[str, ...], client: str, source: ScoreSource = "traversal"
) -> Iterator[Question]:
    """What to ask about traversals uint8 [Z, V, B, H, W, 3]: one question for each of the Z dimensions."""
    for strip in strips:
        yield Question(strip.reshape(-1, *strip.shape[2:]), attributes, source, client)


def graded_along(
    oracle: Oracle, strips: np.ndarray, attributes: tuple[str, ...], client: str, source: ScoreSource = "traversal"
) -> np.ndarray:
    """Grades [Z, V, B, K] of traversals uint8 [Z, V, B, H, W, 3]; waits for the answers, asks a busy oracle again.

    NaN where an answer was malformed. Raises OracleError when the oracle fails.
    """
    answers = dict(as_answered(oracle, questions_along(strips, attributes, client, source)))
    return expected_grades([answers[number] for number in range(len(strips))], strips)


def expected_grades(answers: Sequence[Answer], strips: np.ndarray) -> np.ndarray:
    """Grades [Z, V, B, K] of the answers to `questions_along(strips, ...)`, in its order; NaN where malformed."""
    return np.stack([answer.expected.reshape(*strips.shape[1:3], -1) for answer in answers])


def describe(slope: np.ndarray, node_map: NodeMap, attributes: Sequence[str]) -> list[NamedDimension]:
    """Every dimension by name; those that no attribute claims are called `factor_3`."""
    owner = {dimension: attributes[k] for k, dimension in enumerate(node_map.dimensions) if dimension >= 0}
    named = []
    for dimension, row in enumerate(slope):
        order = np.argsort(-np.abs(row))
        best, second = order[0], order[min(1, len(order) - 1)]
        name = owner.get(dimension, f"factor_{dimension}")
        shown = attributes.index(name) if dimension in owner else best
        other = second if shown == best else best
        named.append(NamedDimension(dimension, name, float(row[shown]), attributes[other], float(row[other])))
    return named


def put_into_words(nodes: Sequence[NamedDimension], answers: Mapping[int, NameAnswer]) -> list[NamedDimension]:
    """The nodes, those of `answers` with the word that the model has for more than half of their traversals.

    answers: by dimension, one name for each image. A word that another dimension has already, as its name or in words,
    gets a number behind it (hat_2).
    """
    taken = {node.name for node in nodes}
    worded = []
    for node in nodes:
        answer = answers.get(node.dimension)
        word, agreement = _agreed(answer.names) if answer else ("", 0.0)
        if answer and word:
            said = np.array([_identifier(name) == word for name in answer.names])
            node = replace(
                node,
                in_words=_distinct(word, taken),
                direction=int(np.sign(answer.directions[said].sum())),
                agreement=agreement,
            )
            taken.add(node.in_words)
        worded.append(node)
    return worded


def _agreed(names: Sequence[str]) -> tuple[str, float]:
    """The word that more than half of the names are, and the share that is; ("", 0) when there is none."""
    counts = Counter(word for name in names if (word := _identifier(name)))
    word, count = max(counts.items(), key=lambda item: item[1], default=("", 0))
    return (word, count / len(names)) if 2 * count > len(names) else ("", 0.0)


def _identifier(name: str) -> str:
    return re.sub(r"\W+", "_", name.strip().lower()).strip("_")


def _distinct(word: str, taken: set[str]) -> str:
    number, free = 1, word
    while free in taken:
        number += 1
        free = f"{word}_{number}"
    return free


class Namer:
    """Names the dimensions at the given steps, without holding up the training.

    words: also ask for the model's own words for the dimensions that no attribute names.
    """

    def __init__(
        self,
        context: TrainContext,
        oracle: Oracle,
        run: Run,
        images: np.ndarray,
        attributes: tuple[str, ...],
        *,
        at_steps: frozenset[int],
        least_slope: float,
        words: bool = False,
        client: str = "",
    ) -> None:
        self._context, self._oracle, self._run = context, oracle, run
        self._images, self._attributes = images, attributes
        self._at_steps, self._least_slope = at_steps, least_slope
        self._words, self._client = words, client
        self._pending: list[Future[Any]] = []
        self._unasked: list[Ask[Any]] = []
        self._strips = _NO_STRIPS
        self._nodes: list[NamedDimension] = []
        self._unnamed: list[int] = []

    def after_step(self, step: int, generator: Engine, relations: RelationsSource) -> None:
        """Start a naming when its step has come; go on with it when the answers are there."""
        if step in self._at_steps:
            strips = self._draw(generator)
            if self._context.rank == 0:
                self._start(strips)
        if self._unasked:
            self._submit()
        elif self._pending and all(future.done() for future in self._pending):
            answers = [future.result() for future in self._pending]
            self._pending = []
            if self._unnamed:
                self._finish_words(answers)
            else:
                relations.set_node_map(self._finish(answers))

    def _draw(self, generator: Engine) -> np.ndarray:
        """Traversals of every dimension, uint8 [Z, V, B, S, S, 3]; collective, since ZeRO-3 gathers the weights."""
        with generator.gathered() as model, torch.no_grad():
            codes = model.encode(to_float(self._images).to(self._context.device))
            rows = [
                model.decode(torch.cat([codes[:, :z], torch.full_like(codes[:, z : z + 1], v), codes[:, z + 1 :]], 1))
                for z in range(codes.shape[1])
                for v in TRAVERSAL
            ]
        strips = np.stack([to_uint8(row) for row in rows])
        return strips.reshape(codes.shape[1], len(TRAVERSAL), *strips.shape[1:])

    def _start(self, strips: np.ndarray) -> None:
        self._strips, self._pending, self._unnamed = strips, [], []
        self._unasked = list(questions_along(strips, self._attributes, self._client))

    def _submit(self) -> None:
        try:
            while self._unasked:
                self._pending.append(self._oracle.submit(self._unasked[0]))
                self._unasked.pop(0)
        except Busy:
            return

    def _finish(self, answers: Sequence[Answer]) -> NodeMap:
        slope = slopes(np.nan_to_num(expected_grades(answers, self._strips)))
        node_map = match(slope, self._least_slope)
        self._nodes = describe(slope, node_map, list(self._attributes))
        self._write()
        if self._words:
            self._unnamed = [z for z in range(len(slope)) if z not in node_map.dimensions]
            self._unasked = [NameQuestion(np.swapaxes(self._strips[z], 0, 1), self._client) for z in self._unnamed]
        self._strips = _NO_STRIPS
        return node_map

    def _finish_words(self, answers: Sequence[NameAnswer]) -> None:
        self._nodes = put_into_words(self._nodes, dict(zip(self._unnamed, answers, strict=True)))
        self._unnamed = []
        self._write()

    def _write(self) -> None:
        write_atomically(self._run.nodes, json.dumps([asdict(node) for node in self._nodes], indent=2))
