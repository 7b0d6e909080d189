"""Discovered nodes: slopes by hand, who gets which dimension, and what the others are called in words."""

from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from graphdrl.models.naming import TRAVERSAL, match, slopes
from graphdrl.oracle import Answer, Ask, Busy, NameAnswer, NameQuestion, Question
from graphdrl.relations import NodeMap
from graphdrl.training import LocalContext, Run
from graphdrl.training.naming import NamedDimension, Namer, describe, put_into_words


def test_slope_of_a_straight_line_is_its_slope() -> None:
    values = np.asarray(TRAVERSAL)
    expected = np.zeros((2, len(values), 3, 1))
    expected[0, :, :, 0] = 2.5 + 0.5 * values[:, None]
    expected[1, :, :, 0] = 2.5 - 0.25 * values[:, None]
    np.testing.assert_allclose(slopes(expected), [[0.5], [-0.25]])


def test_each_attribute_gets_the_dimension_that_moves_it_most() -> None:
    slope = np.array([[0.1, -0.8], [0.9, 0.7], [0.05, 0.02]])
    node_map = match(slope, least=0.15)
    assert node_map.dimensions == (1, 0)
    assert node_map.signs == (1, -1)


def test_a_weak_attribute_stays_without_a_node() -> None:
    node_map = match(np.array([[0.9, 0.0], [0.0, 0.1]]), least=0.15)
    assert node_map.dimensions == (0, -1)


def test_dimensions_are_described_with_their_evidence() -> None:
    slope = np.array([[0.9, -0.2], [0.0, 0.1]])
    first, second = describe(slope, match(slope, least=0.15), ["bald", "beard"])
    assert (first.name, first.slope, first.runner_up) == ("bald", pytest.approx(0.9), "beard")
    assert second.name == "factor_1"


def node(dimension: int, name: str) -> NamedDimension:
    return NamedDimension(dimension, name, 0.1, "age", 0.0)


def said(*names: str, directions: tuple[int, ...] = (1, 1, 1, 1)) -> NameAnswer:
    return NameAnswer(names, np.array(directions[: len(names)], np.int8), "a-model", "p1", len(names))


def test_a_dimension_is_called_what_the_model_says_of_most_images() -> None:
    nodes = [node(0, "bald"), node(1, "factor_1"), node(2, "factor_2"), node(3, "factor_3")]
    answers = {
        1: said("red scarf", "Red Scarf", "hat", "red scarf", directions=(-1, -1, 1, 0)),
        2: said("hat", "hat", "scarf", "scarf"),
        3: said("", "", "", "hat"),
    }
    bald, scarf, split, unread = put_into_words(nodes, answers)
    assert (scarf.in_words, scarf.direction, scarf.agreement) == ("red_scarf", -1, 0.75)
    assert scarf.name == "factor_1", "words make no node"
    assert [one.in_words for one in (bald, split, unread)] == ["", "", ""]
    assert (split.direction, split.agreement) == (0, 0.0)


def test_no_two_dimensions_are_called_the_same() -> None:
    nodes = [node(0, "hat"), node(1, "factor_1"), node(2, "factor_2"), node(3, "factor_3")]
    worded = put_into_words(nodes, {1: said("hat"), 2: said("hat"), 3: said("scarf")})
    assert [one.in_words for one in worded] == ["", "hat_2", "hat_3", "scarf"]


class Colours(nn.Module):
    """A generator of one colour an image: dimension 0 is how light it is, 1 how red it is not, 2 nothing."""

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        return torch.zeros(len(images), 3)

    def decode(self, codes: torch.Tensor) -> torch.Tensor:
        shades = 0.5 + 0.1 * codes[:, :1].expand(-1, 3)
        shades = shades - torch.tensor([0.1, 0.0, 0.0]) * codes[:, 1:2]
        return shades[:, :, None, None].expand(-1, 3, 8, 8)

    @contextmanager
    def gathered(self) -> Iterator["Colours"]:
        yield self


class Seeing:
    """An oracle that grades how light an image is, calls what moves red "red shade", and is busy every other time."""

    def __init__(self) -> None:
        self.asked: list[Ask] = []
        self._knocks = 0

    def submit(self, question: Ask) -> Future:
        self._knocks += 1
        if self._knocks % 2:
            raise Busy("the queue is full")
        self.asked.append(question)
        future: Future = Future()
        future.set_result(self._named(question) if isinstance(question, NameQuestion) else self._graded(question))
        return future

    def close(self) -> None: ...

    def _graded(self, question: Question) -> Answer:
        light = question.images[..., 2].mean(axis=(1, 2)) / 255  # red alone makes nothing lighter
        expected = np.stack([5 * light, np.full_like(light, 2.5)], axis=1).astype(np.float32)
        nothing, none = np.zeros_like(expected), np.zeros(len(light), bool)
        malformed = np.zeros(expected.shape, bool)
        grades = (expected, np.rint(expected).astype(np.int8), nothing, malformed, none)
        return Answer(("x",) * len(light), question.attributes, *grades, "a-model", "p1", expected.size)

    def _named(self, question: NameQuestion) -> NameAnswer:
        red = question.strips[..., 0].mean(axis=(2, 3)).astype(float)
        moves = np.sign(red[:, -1] - red[:, 0]).astype(np.int8)
        names = tuple("red shade" if move else "" for move in moves)
        return NameAnswer(names, moves, "a-model", "p1", len(names))


class SecondRank(LocalContext):
    """Rank 1 of two."""

    rank = 1


class NodeMaps:
    """Keeps the node maps that it is given."""

    def __init__(self) -> None:
        self.given: list[NodeMap] = []

    def set_node_map(self, node_map: NodeMap) -> None:
        self.given.append(node_map)


def name_all(run: Run, *, words: bool, context: LocalContext | None = None) -> tuple[Seeing, NodeMaps]:
    """A naming after the first step, with as many more as it takes."""
    oracle, relations = Seeing(), NodeMaps()
    images = np.zeros((4, 8, 8, 3), np.uint8)
    namer = Namer(
        context or LocalContext(),
        oracle,
        run,
        images,
        ("light", "hat"),
        at_steps=frozenset({1}),
        least_slope=0.15,
        words=words,
        client="a run",
    )
    for step in range(1, 20):
        namer.after_step(step, Colours(), relations)
    return oracle, relations


def test_dimensions_without_a_name_are_put_into_the_models_own_words(tmp_path: Path) -> None:
    run = Run(tmp_path)
    oracle, relations = name_all(run, words=True)
    light, red, nothing = run.read_nodes()
    assert (light["name"], light["in_words"]) == ("light", "")
    assert (red["name"], red["in_words"], red["direction"], red["agreement"]) == ("factor_1", "red_shade", -1, 1.0)
    assert (nothing["name"], nothing["in_words"]) == ("factor_2", "")
    assert relations.given == [NodeMap((0, -1), (1, 1))], "words change nothing in the graph"
    named = [question for question in oracle.asked if isinstance(question, NameQuestion)]
    assert [question.strips.shape for question in named] == [(4, len(TRAVERSAL), 8, 8, 3)] * 2
    assert {question.client for question in oracle.asked} == {"a run"}


def test_words_are_asked_for_only_when_wanted(tmp_path: Path) -> None:
    oracle, relations = name_all(Run(tmp_path), words=False)
    assert [node["in_words"] for node in Run(tmp_path).read_nodes()] == ["", "", ""]
    assert all(isinstance(question, Question) for question in oracle.asked)
    assert len(relations.given) == 1


def test_the_first_rank_alone_asks(tmp_path: Path) -> None:
    oracle, relations = name_all(Run(tmp_path), words=True, context=SecondRank())
    assert not oracle.asked
    assert not relations.given
