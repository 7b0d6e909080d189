"""Asking while training goes on: never waiting, each image once, and again after a failure."""

from concurrent.futures import Future

import numpy as np
import pytest

from graphdrl.oracle import Answer, Busy, OracleError, Question
from graphdrl.training import Asker, choose_for_scoring


class SlowOracle:
    """Answers when told to; can be busy, and can fail a number of times."""

    def __init__(self) -> None:
        self.asked: list[tuple[Question, Future]] = []
        self.busy = False

    def submit(self, question: Question) -> Future:
        if self.busy:
            raise Busy("the queue is full")
        future: Future = Future()
        self.asked.append((question, future))
        return future

    def close(self) -> None:
        pass

    def answer_all(self) -> None:
        for question, future in self.asked:
            if not future.done():
                future.set_result(answer_to(question))

    def fail_all(self) -> None:
        for _, future in self.asked:
            if not future.done():
                future.set_exception(RuntimeError("replica died"))


def answer_to(question: Question) -> Answer:
    shape = (len(question.images), len(question.attributes))
    ids = tuple(str(int(image[0, 0, 0])) for image in question.images)
    zeros = np.zeros(shape, np.float32)
    malformed, flagged = np.zeros(shape, bool), np.zeros(shape[0], bool)
    argmax = zeros.astype(np.int8)
    return Answer(ids, question.attributes, zeros, argmax, zeros, malformed, flagged, "m", "p", zeros.size)


def make_asker(oracle: SlowOracle, num: int = 10) -> Asker:
    images = np.arange(num, dtype=np.uint8)[:, None, None, None] * np.ones((1, 4, 4, 3), np.uint8)
    return Asker(
        oracle, images, np.arange(num), ("bald",), client="t", inclusion_probability=0.5,
        images_per_question=3, max_in_flight=2,
    )  # fmt: skip


def test_a_pump_without_answers_returns_and_keeps_two_in_flight() -> None:
    oracle, taken = SlowOracle(), []
    asker = make_asker(oracle)
    asker.pump(taken.append)
    asker.pump(taken.append)
    assert len(oracle.asked) == 2
    assert taken == []
    assert asker.num_waiting == 10


def test_every_image_is_asked_once_and_handed_over() -> None:
    oracle, taken = SlowOracle(), []
    asker = make_asker(oracle)
    for _ in range(5):
        asker.pump(taken.append)
        oracle.answer_all()
    asker.pump(taken.append)
    assert sorted(int(image) for scores in taken for image in scores.image_ids) == list(range(10))
    assert len(oracle.asked) == 4
    assert (asker.images_scored, asker.questions_asked, asker.num_waiting) == (10, 10, 0)


def test_a_failed_question_is_asked_again_and_the_third_failure_is_told() -> None:
    oracle = SlowOracle()
    asker = make_asker(oracle, num=3)
    for _ in range(2):
        asker.pump(lambda scores: None)
        oracle.fail_all()
    asker.pump(lambda scores: None)
    oracle.fail_all()
    with pytest.raises(OracleError, match="failed 3 times on the same 3 images: replica died"):
        asker.pump(lambda scores: None)


def test_a_busy_oracle_is_left_alone_for_a_while_and_nothing_is_lost(monkeypatch) -> None:
    oracle, now = SlowOracle(), [0.0]
    monkeypatch.setattr("graphdrl.training.asking.time.monotonic", lambda: now[0])
    asker = make_asker(oracle, num=3)
    oracle.busy = True
    asker.pump(lambda scores: None)
    oracle.busy = False
    asker.pump(lambda scores: None)
    assert oracle.asked == []
    now[0] = 1.0
    asker.pump(lambda scores: None)
    assert len(oracle.asked) == 1


def test_the_choice_of_images_is_a_function_of_the_seed() -> None:
    first, second = choose_for_scoring(100, 20, 3), choose_for_scoring(100, 20, 3)
    np.testing.assert_array_equal(first, second)
    assert len(set(first.tolist())) == 20
    assert choose_for_scoring(5, 20, 0).tolist() != []
    assert len(choose_for_scoring(5, 20, 0)) == 5
