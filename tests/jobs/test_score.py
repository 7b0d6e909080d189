"""Scoring without training: every image once and in order, however busy the oracle is."""

from concurrent.futures import Future
from pathlib import Path

import numpy as np
import pytest
from small_jobs import ReadyOracle, colours, tiny

from graphdrl.images import ImageSet
from graphdrl.images.ids import image_ids
from graphdrl.oracle import Answer, Busy, Question
from jobs import score_images, scores_of, subset

ATTRIBUTES = ("bald", "beard")


class BusyOracle(ReadyOracle):
    """Refuses every other question at its door, and every third that it took from its queue."""

    def __init__(self) -> None:
        super().__init__(colours)
        self._num_knocks = self._num_taken = 0

    def submit(self, question: Question) -> "Future[Answer]":
        self._num_knocks += 1
        if self._num_knocks % 2:
            raise Busy("the queue is full")
        self._num_taken += 1
        if self._num_taken % 3 == 0:
            refused: Future[Answer] = Future()
            refused.set_exception(Busy("the front's queue is full"))
            return refused
        return super().submit(question)


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (37, 8, 8, 3), np.uint8)


def test_a_busy_oracle_is_asked_again_and_the_answers_keep_their_order(
    tmp_path: Path, images: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("graphdrl.oracle.asking._BUSY_S", 0.0)
    said: list[str] = []
    config = tiny(tmp_path, "oracle.images_per_question=5", "oracle.max_in_flight=3")
    answers = score_images(BusyOracle(), images, ATTRIBUTES, config, said.append)
    ids = [image for answer in answers for image in answer.image_ids]
    assert ids == list(image_ids(images))
    expected = np.concatenate([answer.expected for answer in answers])
    np.testing.assert_allclose(expected, colours(images, ATTRIBUTES), rtol=1e-6)
    assert said[-1] == "scored 37 of 37 images"


def test_the_table_holds_an_image_once_and_how_likely_it_was_chosen(tmp_path: Path, images: np.ndarray) -> None:
    twice = np.concatenate([images, images[:9]])
    config = tiny(tmp_path, "oracle.images_per_question=10")
    scores = scores_of(score_images(ReadyOracle(colours), twice, ATTRIBUTES, config, len), chosen=46, of=92)
    assert sorted(scores.image_ids) == sorted(image_ids(images))
    assert (scores.inclusion_probability == 0.5).all()


def test_a_subset_is_a_function_of_the_seed(images: np.ndarray) -> None:
    own = ImageSet(images, image_ids(images))
    chosen = subset(own, 10, seed=1)
    assert len(set(chosen)) == 10
    np.testing.assert_array_equal(chosen, subset(own, 10, seed=1))
    assert not np.array_equal(chosen, subset(own, 10, seed=2))
    np.testing.assert_array_equal(subset(own, 40, seed=1), np.arange(37))
