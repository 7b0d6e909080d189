"""The oracle in this process: transformers, without Ray and without vLLM."""

import threading

import numpy as np
import pytest
import torch

from graphdrl.oracle.prompts import load_prompt
from graphdrl.oracle.protocol import Busy, OracleError
from graphdrl.oracle.questions import NameQuestion, Question
from graphdrl.oracle.scores import ScoreStore
from graphdrl.oracle.tiny.data import (
    ATTRIBUTES,
    draw_faces,
)
from graphdrl.oracle.tiny.local import Grader, TransformersOracle


@pytest.fixture(scope="module")
def grader():
    return Grader("builtin")


@pytest.fixture
def oracle(tmp_path):
    oracle = TransformersOracle(store=ScoreStore(tmp_path))
    yield oracle
    oracle.close()


def questions(attributes):
    return [load_prompt("score").render(attribute) for attribute in attributes]


# --- the oracle in this process


def test_packing_gives_what_plain_questions_give(grader):
    images = draw_faces(3, 9).images
    packed = grader._ask_packed(images, questions(ATTRIBUTES[:3]))
    plain = grader._ask_plainly(images, questions(ATTRIBUTES[:3]))
    torch.testing.assert_close(packed, plain, atol=1e-3, rtol=1e-4)


def test_answers_hold_every_image_and_attribute(oracle):
    images = draw_faces(5, 11).images
    answer = oracle.submit(Question(images, ("hat", "skin"))).result(60)
    assert answer.expected.shape == (5, 2)
    assert answer.num_asked == 10
    assert answer.model == oracle.model
    assert not answer.malformed.any()


def test_nothing_is_asked_twice(oracle):
    images = draw_faces(4, 12).images
    first = oracle.submit(Question(images, ("hat", "skin"))).result(60)
    again = oracle.submit(Question(images[::-1], ("skin", "hat"))).result(60)
    assert again.num_asked == 0
    np.testing.assert_allclose(again.expected, first.expected[::-1, ::-1], rtol=1e-6)


def test_full_queue_is_busy_and_closing_cancels(oracle, monkeypatch):
    held, started = threading.Event(), threading.Event()

    def wait(question, asked_at):
        started.set()
        held.wait(30)
        raise OracleError("held")

    monkeypatch.setattr(oracle, "_answer", wait)
    question = Question(draw_faces(1, 13).images, ("hat",))
    running = oracle.submit(question)
    assert started.wait(30)
    waiting = [oracle.submit(question) for _ in range(64)]
    with pytest.raises(Busy, match="ask again later"):
        oracle.submit(question)
    threading.Timer(0.2, held.set).start()
    oracle.close()
    assert all(future.cancelled() for future in waiting)
    with pytest.raises(OracleError, match="held"):
        running.result(0)


def test_a_question_after_its_deadline_gets_no_answer(oracle):
    with pytest.raises(OracleError, match="did not come to this question"):
        oracle.submit(Question(draw_faces(1, 14).images, ("hat",), deadline_s=-1.0)).result(60)


def test_the_local_oracle_says_who_answers_other_kinds(oracle):
    with pytest.raises(OracleError, match="only scores: take"):
        oracle.submit(NameQuestion(draw_faces(2, 15).images[None]))


def test_a_bad_name_is_refused_before_it_is_asked(oracle):
    with pytest.raises(ValueError, match="cannot be an attribute"):
        oracle.submit(Question(draw_faces(1, 15).images, ("hat\n5",)))


def test_a_folder_that_holds_no_loadable_model_is_one_sentence(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(OracleError, match="cannot load the oracle's model"):
        TransformersOracle(str(tmp_path))
