"""Relation fidelity: tables worked by hand, and a model asked about through an oracle that knows what it paints."""

from concurrent.futures import Future

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from graphdrl.metrics.relation_fidelity import relation_fidelity
from graphdrl.models import GEM
from graphdrl.models.gem import GEMConfig
from graphdrl.oracle import Answer, Busy, Question
from graphdrl.training.generated import samples
from graphdrl.training.relation_fidelity import measure_relation_fidelity, shown_relations

CHANNELS = ("red", "green", "blue")


def test_the_mean_difference_off_the_diagonal_and_what_unrelated_samples_would_have() -> None:
    data = np.array([[9.0, 0.5, -0.3], [0.4, 9.0, 0.0], [0.0, 0.0, 9.0]])
    shown = np.array([[0.0, 0.2, 0.3], [0.4, 0.0, 0.0], [0.0, -0.6, 0.0]])
    figures = relation_fidelity(data, shown)
    assert figures["relation_fidelity"] == pytest.approx((0.3 + 0.6 + 0.6) / 6)
    assert figures["relation_fidelity_unrelated"] == pytest.approx((0.5 + 0.3 + 0.4) / 6)
    assert relation_fidelity(data, data)["relation_fidelity"] == 0
    nothing = relation_fidelity(data, np.zeros((3, 3)))
    assert nothing["relation_fidelity"] == nothing["relation_fidelity_unrelated"]


def test_tables_that_cannot_be_compared_are_refused() -> None:
    for data, shown, message in (
        (np.zeros((2, 2)), np.zeros((3, 3)), "of the same two attributes at least"),
        (np.zeros((1, 1)), np.zeros((1, 1)), "of the same two attributes at least"),
        (np.full((2, 2), np.nan), np.zeros((2, 2)), "not finite"),
    ):
        with pytest.raises(ValueError, match=message):
            relation_fidelity(data, shown)


class Paints(nn.Module):
    """A decoder of three colours from three codes, each a sum of codes by its row of `mix`."""

    def __init__(self, mix: list[list[float]]) -> None:
        super().__init__()
        self.register_buffer("mix", torch.tensor(mix))

    def forward(self, codes: Tensor) -> Tensor:
        colours = torch.sigmoid(codes @ self.mix.T)
        return colours[:, :, None, None].expand(-1, -1, 32, 32)


class KnowsColours:
    """Grades by the mean of each channel; the third image of a question cannot be graded. Its second knock is in vain.

    asked: all questions.
    """

    def __init__(self) -> None:
        self.asked: list[Question] = []
        self._knocks = 0

    def submit(self, question: Question) -> "Future[Answer]":
        self._knocks += 1
        if self._knocks == 2:
            raise Busy("the queue is full")
        self.asked.append(question)
        expected = (question.images.mean(axis=(1, 2)) / 255 * 5).astype(np.float32)
        expected[2:3] = np.nan
        malformed, flagged = np.isnan(expected), np.zeros(len(expected), bool)
        grades = np.rint(np.nan_to_num(expected)).astype(np.int8)
        ids = ("x",) * len(expected)
        future: Future[Answer] = Future()
        future.set_result(
            Answer(ids, question.attributes, expected, grades, expected, malformed, flagged, "a-model", "p1", 0)
        )
        return future

    def close(self) -> None: ...


def painter(mix: list[list[float]]) -> GEM:
    torch.manual_seed(0)
    shape = {"image_size": 32, "num_latents": 3, "base_channels": 4, "graph_learner": "none"}
    model = GEM(GEMConfig(attributes=CHANNELS, **shape)).eval()
    model.decoder = Paints(mix)
    return model


def test_a_model_whose_samples_have_the_relations_is_nearer_than_one_without() -> None:
    related = painter([[1.0, 0, 0], [1, 0, 0], [0, 0, 1]])
    unrelated = painter([[1.0, 0, 0], [0, 1, 0], [0, 0, 1]])
    oracle = KnowsColours()
    data = np.array([[0.0, 1, 0], [1, 0, 0], [0, 0, 0]])
    near, far = (
        measure_relation_fidelity(model, oracle, data, CHANNELS, "tau_b", num_samples=600, client="a run")
        for model in (related, unrelated)
    )
    assert near["relation_fidelity"] < 0.05
    assert far["relation_fidelity"] == pytest.approx(1 / 3, abs=0.05)
    assert near["relation_fidelity_unrelated"] == far["relation_fidelity_unrelated"] == pytest.approx(1 / 3)
    assert {(question.source, question.client) for question in oracle.asked} == {("sample", "a run")}


def test_samples_are_a_function_of_the_seed_and_differ_between_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    model = painter([[1.0, 0, 0], [0, 1, 0], [0, 0, 1]])
    monkeypatch.setattr("graphdrl.training.generated._BATCH", 8)
    drawn = samples(model, 20, seed=1)
    assert drawn.shape == (20, 32, 32, 3)
    np.testing.assert_array_equal(drawn, samples(model, 20, seed=1))
    assert len(np.unique(drawn[:, 0, 0], axis=0)) == 20
    assert (drawn != samples(model, 20, seed=2)).any()


def test_too_few_graded_images_are_refused() -> None:
    images = np.zeros((30, 32, 32, 3), np.uint8)
    with pytest.raises(ValueError, match="of 30 the oracle could grade 28"):
        shown_relations(KnowsColours(), images, CHANNELS, "tau_b", source="data")
