"""Oracle disentanglement: tables worked by hand, and a model asked about through an oracle that knows the factors."""

from concurrent.futures import Future

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from graphdrl.metrics.oracle_disentanglement import moves, oracle_disentanglement
from graphdrl.models import GEM
from graphdrl.models.gem import GEMConfig
from graphdrl.oracle import Answer, Busy, OracleError, Question
from graphdrl.training import measure_oracle_disentanglement
from graphdrl.training.oracle_disentanglement import traversals

CHANNELS = ("red", "green", "blue")


def test_moves_are_mean_distances_over_the_images_that_were_graded() -> None:
    expected = np.zeros((1, 2, 3, 2))
    expected[0, 0, :, 0], expected[0, 1, :, 0] = [1, 5, 0], [3, 4, 0]
    expected[0, 1, :, 1] = [2, np.nan, np.nan]
    np.testing.assert_allclose(moves(expected), [[1.0, 2.0]])
    assert moves(np.full((1, 2, 3, 2), np.nan)).tolist() == [[0, 0]], "nothing was graded, nothing was seen to move"
    with pytest.raises(ValueError, match="V >= 2"):
        moves(np.zeros((1, 1, 3, 2)))


def test_each_node_its_own_attribute_is_1() -> None:
    figures = oracle_disentanglement(np.array([[0.0, 3.0], [2.0, 0.0]]), owners=(1, 0))
    assert figures["oracle_disentanglement"] == pytest.approx(1)
    assert figures["oracle_completeness"] == pytest.approx(1)
    assert figures["oracle_own_share"] == 1
    assert (figures["oracle_coverage"], figures["oracle_moved"]) == (1, 2.5)


def test_exclusive_nodes_with_the_wrong_names_have_no_share_of_their_own() -> None:
    figures = oracle_disentanglement(np.array([[0.0, 3.0], [2.0, 0.0]]), owners=(0, 1))
    assert figures["oracle_disentanglement"] == pytest.approx(1)
    assert figures["oracle_own_share"] == 0


def test_nodes_count_by_how_far_they_move() -> None:
    moved = np.array([[3.0, 1.0], [0.0, 4.0], [0.0, 0.0]])
    clarity = 1 + (0.75 * np.log2(0.75) + 0.25 * np.log2(0.25))
    figures = oracle_disentanglement(moved, owners=(0, -1))
    assert figures["oracle_disentanglement"] == pytest.approx(0.5 * clarity + 0.5, abs=1e-6)
    assert figures["oracle_own_share"] == pytest.approx(0.75 / 2), "the unnamed attribute counts 0"


def test_a_node_that_moves_all_alike_is_0_and_so_is_a_model_that_moves_nothing() -> None:
    assert oracle_disentanglement(np.ones((3, 4)))["oracle_disentanglement"] == pytest.approx(0, abs=1e-9)
    still = oracle_disentanglement(np.zeros((3, 4)), owners=(0, 1, 2, -1))
    assert set(still.values()) == {0.0}


def test_what_hardly_moves_earns_nothing_however_exclusive_it_is() -> None:
    figures = oracle_disentanglement(np.array([[0.02, 0.0], [0.0, 0.7]]))
    assert figures["oracle_exclusivity"] == pytest.approx(1, abs=1e-6)
    assert figures["oracle_coverage"] == 0.5
    assert figures["oracle_disentanglement"] == pytest.approx(0.5, abs=1e-6)
    collapsed = oracle_disentanglement(np.diag([0.04, 0.05, 0.03]))
    assert (collapsed["oracle_exclusivity"], collapsed["oracle_disentanglement"]) == (pytest.approx(1, abs=1e-6), 0)
    assert "oracle_own_share" not in figures


@pytest.mark.parametrize(
    ("moved", "owners", "said"),
    [
        (np.ones((2, 1)), (), "two attributes"),
        (np.ones((0, 2)), (), "at least one node"),
        (np.full((2, 2), np.nan), (), "none is negative"),
        (-np.ones((2, 2)), (), "none is negative"),
        (np.ones((2, 2)), (0,), "owners name"),
        (np.ones((2, 2)), (0, 2), "owners name"),
    ],
)
def test_what_has_no_figures_is_refused(moved: np.ndarray, owners: tuple[int, ...], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        oracle_disentanglement(moved, owners)


class Paints(nn.Module):
    """A decoder that draws one colour: [B, Z] codes to channels by a matrix [Z, 3]."""

    def __init__(self, mix: Tensor) -> None:
        super().__init__()
        self.register_buffer("mix", mix)

    def forward(self, codes: Tensor) -> Tensor:
        return (0.5 + 0.1 * codes @ self.mix).clamp(0, 1)[:, :, None, None].expand(-1, 3, 32, 32)


class KnowsColours:
    """An oracle that grades the channels, and is busy every other time."""

    def __init__(self) -> None:
        self.asked: list[Question] = []
        self._knocks = 0

    def submit(self, question: Question) -> Future:
        self._knocks += 1
        future: Future = Future()
        if self._knocks == 2:
            raise Busy("the queue is full")
        self.asked.append(question)
        expected = (question.images.mean(axis=(1, 2)) / 255 * 5).astype(np.float32)
        nothing, malformed = np.zeros_like(expected), np.zeros(expected.shape, bool)
        flagged, grades = np.zeros(len(expected), bool), np.rint(expected).astype(np.int8)
        ids = ("x",) * len(expected)
        args = (expected, grades, nothing, malformed, flagged, "a-model", "p1", expected.size)
        future.set_result(Answer(ids, question.attributes, *args))
        return future

    def close(self) -> None: ...


def painter(mix: list[list[float]]) -> GEM:
    torch.manual_seed(0)
    shape = {"image_size": 32, "num_latents": 4, "base_channels": 4, "graph_learner": "none"}
    model = GEM(GEMConfig(attributes=CHANNELS, **shape)).eval()
    model.decoder = Paints(torch.tensor(mix))
    return model


def images(num: int = 2) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (num, 32, 32, 3), dtype=np.uint8)


IDENTITY = [[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0]]
MIXTURE = [[1.0, 1, 0], [0, 1, 1], [1, 0, 1], [0, 0, 0]]


def test_a_model_whose_nodes_paint_one_channel_each_is_above_one_that_mixes() -> None:
    oracle = KnowsColours()
    pure = measure_oracle_disentanglement(painter(IDENTITY), oracle, images(), CHANNELS, client="a run")
    mixed = measure_oracle_disentanglement(painter(MIXTURE), KnowsColours(), images(), CHANNELS)
    assert pure["oracle_disentanglement"] == pytest.approx(1, abs=1e-3)
    assert pure["oracle_own_share"] == pytest.approx(1, abs=1e-3)
    assert pure["oracle_coverage"] == 1
    assert pure["oracle_moved"] == pytest.approx(2.0, abs=0.05), "4 deviations of a tenth of 5 grades"
    assert mixed["oracle_disentanglement"] == pytest.approx(1 - np.log(2) / np.log(3), abs=0.01)
    assert mixed["oracle_own_share"] == pytest.approx(0.5, abs=0.01)
    assert len(oracle.asked) == 4, "one question a dimension, also where the oracle was busy"
    assert {(question.source, question.client) for question in oracle.asked} == {("traversal", "a run")}


def test_nodes_are_moved_in_units_of_the_aggregate_code() -> None:
    model = painter(IDENTITY)
    plain = traversals(model, images())
    assert plain.shape == (4, 2, 2, 32, 32, 3)
    model.code_scale.fill_(0.5)
    halved = traversals(model, images())
    red = [strips[0, 1, 0, 0, 0, 0].astype(int) - strips[0, 0, 0, 0, 0, 0] for strips in (plain, halved)]
    assert red == pytest.approx([0.4 * 255, 0.2 * 255], abs=1.5)


def test_an_oracle_that_fails_is_heard_and_one_attribute_is_refused() -> None:
    class Broken(KnowsColours):
        def submit(self, question: Question) -> Future:
            raise OracleError("no model is loaded")

    with pytest.raises(OracleError, match="no model"):
        measure_oracle_disentanglement(painter(IDENTITY), Broken(), images(), CHANNELS)
    with pytest.raises(ValueError, match="name two at least"):
        measure_oracle_disentanglement(painter(IDENTITY), KnowsColours(), images(), ("red",))
