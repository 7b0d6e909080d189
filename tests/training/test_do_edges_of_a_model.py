"""`do` edges of a model whose nodes are colours, graded by an oracle that sees colours."""

from concurrent.futures import Future

import numpy as np
import pytest
import torch

from graphdrl.images.ids import image_ids
from graphdrl.models import GEM, GEMConfig
from graphdrl.oracle import Answer, Question
from graphdrl.relations import Edges, NodeMap
from graphdrl.training import measure_do_edges

NAMES = ("red", "green", "blue")
WEIGHTS = np.array([[0, 0.5, 0], [0, 0, 0], [0, 0, 0]], np.float32)


class Colours(torch.nn.Module):
    """A decoder of one colour an image: the first three latent dimensions are red, green and blue around 0.5."""

    def forward(self, codes: torch.Tensor) -> torch.Tensor:
        return (0.5 + 0.1 * codes[:, :3])[:, :, None, None].expand(-1, -1, 32, 32)


class SeesColours:
    """Grades 0..5 are how strong each colour is; remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[Question] = []

    def submit(self, question: Question) -> "Future[Answer]":
        self.asked.append(question)
        columns = [NAMES.index(name) for name in question.attributes]
        expected = (5 / 255 * question.images.mean(axis=(1, 2))[:, columns]).astype(np.float32)
        nothing = np.zeros(expected.shape, bool)
        grades = (expected, np.rint(expected).astype(np.int8), 0 * expected, nothing, nothing[:, 0])
        future: Future[Answer] = Future()
        future.set_result(Answer(image_ids(question.images), question.attributes, *grades, "m", "p", expected.size))
        return future

    def close(self) -> None:
        pass


def model_of(node_map: NodeMap) -> GEM:
    gem = GEM(GEMConfig(image_size=32, num_latents=4, attributes=NAMES, base_channels=4, graph_learner="none")).eval()
    gem.decoder = Colours()
    resolved = WEIGHTS > 0
    gem.set_relations(Edges(NAMES, WEIGHTS, WEIGHTS, WEIGHTS, resolved, WEIGHTS, WEIGHTS, "somers_d", 99), node_map)
    return gem


IMAGES = np.random.default_rng(0).integers(0, 256, (9, 32, 32, 3), dtype=np.uint8)


def test_a_node_alone_moves_its_own_colour_and_with_its_neighbours_theirs_by_the_weight() -> None:
    oracle = SeesColours()
    alone, carried = measure_do_edges(model_of(NodeMap.ranked(3)), oracle, IMAGES, oracle_model="m")
    own = 5 * 0.1  # grades for one standard deviation, which is 1 as long as nothing is calibrated
    np.testing.assert_allclose(alone.effects, own * np.eye(3), atol=0.01)
    np.testing.assert_allclose(carried.effects, own * (np.eye(3) + WEIGHTS), atol=0.01)
    assert not alone.resolved.any()
    np.testing.assert_array_equal(carried.resolved, WEIGHTS > 0)
    assert (alone.propagate, carried.propagate) == (False, True)
    assert (carried.num_images, carried.deviations, carried.oracle) == (9, 2.0, "m")
    assert {question.source for question in oracle.asked} == {"do"}, "such grades never enter the relations"
    assert sum(len(question.images) for question in oracle.asked) == 2 * 2 * 9 * 3


def test_the_sign_of_a_node_is_which_way_up_is() -> None:
    flipped = model_of(NodeMap((0, 1, 2), (-1, 1, 1)))
    alone, _ = measure_do_edges(flipped, SeesColours(), IMAGES)
    assert alone.effects[0, 0] == pytest.approx(-0.5, abs=0.01)  # up is down along the dimension


def test_an_attribute_that_no_node_shows_is_not_moved() -> None:
    oracle = SeesColours()
    alone, _ = measure_do_edges(model_of(NodeMap((0, -1, 2), (1, 1, 1))), oracle, IMAGES)
    assert np.isnan(alone.effects[1]).all()
    np.testing.assert_allclose(alone.effects[[0, 2]], 0.5 * np.eye(3)[[0, 2]], atol=0.01)
    assert len(oracle.asked) == 2 * 2


def test_a_model_without_two_nodes_has_no_do_edges() -> None:
    with pytest.raises(ValueError, match="this model has 1"):
        measure_do_edges(model_of(NodeMap((0, -1, -1), (1, 1, 1))), SeesColours(), IMAGES)
