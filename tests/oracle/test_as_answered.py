"""Answers as they come, over any client: each question answered once, a busy oracle waited for, the rest given up."""

import asyncio
import threading
from concurrent.futures import Future
from contextlib import aclosing, closing
from types import SimpleNamespace

import numpy as np
import pytest

from graphdrl.oracle import asking
from graphdrl.oracle.asking import as_answered, grader, stream
from graphdrl.oracle.protocol import Busy, OracleError
from graphdrl.oracle.questions import RelateQuestion


class Oracle:
    """Implements `Oracle`; what it holds in flight is answered with the question's client by `answer`, or by itself.

    refuse: how many submits raise Busy; fail_late: how many questions end in Busy after they were taken.
    """

    def __init__(self, by_itself: bool = True, refuse: int = 0, fail_late: int = 0) -> None:
        self.by_itself, self.refuse, self.fail_late = by_itself, refuse, fail_late
        self.asked, self.in_flight, self.most = [], {}, 0

    def submit(self, question):
        if self.refuse:
            self.refuse -= 1
            raise Busy("full")
        future = Future()
        self.asked.append(question.client)
        self.in_flight[question.client] = future
        self.most = max(self.most, sum(not other.done() for other in self.in_flight.values()))
        if self.by_itself:
            threading.Timer(0.01, self.answer, [question.client]).start()
        return future

    def answer(self, name, error=None):
        future = self.in_flight[name]
        if self.fail_late:
            self.fail_late -= 1
            error = Busy("full")
        if not future.set_running_or_notify_cancel():
            return
        future.set_exception(error) if error else future.set_result(name)

    def close(self):
        pass


def questions(num):
    return (RelateQuestion(("hat", "age"), client=str(number)) for number in range(num))


def sync(oracle, asked, max_in_flight=4):
    return list(as_answered(oracle, asked, max_in_flight))


def awaited(oracle, asked, max_in_flight=4):
    async def collect():
        return [answered async for answered in stream(oracle, asked, max_in_flight)]

    return asyncio.run(collect())


WAYS = pytest.mark.parametrize("collect", [sync, awaited])


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    monkeypatch.setattr(asking, "_BUSY_S", 0.02)


@WAYS
@pytest.mark.parametrize(("num", "most"), [(0, 4), (1, 4), (10, 3), (10, 1)])
def test_every_question_is_answered_once_with_a_bound_on_what_is_in_flight(collect, num, most):
    oracle = Oracle()
    answers = collect(oracle, questions(num), most)
    assert sorted(answers) == sorted((number, str(number)) for number in range(num))
    assert oracle.most <= most


@WAYS
@pytest.mark.parametrize(("refuse", "fail_late"), [(3, 0), (0, 5), (2, 4)])
def test_a_busy_oracle_is_asked_again_until_all_is_answered(collect, refuse, fail_late):
    oracle = Oracle(refuse=refuse, fail_late=fail_late)
    assert sorted(collect(oracle, questions(6), 2)) == [(number, str(number)) for number in range(6)]
    assert len(oracle.asked) == 6 + fail_late


@WAYS
def test_what_a_question_ends_in_is_raised_and_the_others_are_given_up(collect):
    oracle = Oracle(by_itself=False)
    threading.Timer(0.05, oracle.answer, ["1", OracleError("no model")]).start()
    with pytest.raises(OracleError, match="no model"):
        collect(oracle, questions(8), 3)
    assert oracle.asked == ["0", "1", "2"]
    assert oracle.in_flight["0"].cancelled()
    assert oracle.in_flight["2"].cancelled()


@WAYS
def test_something_must_be_in_flight(collect):
    with pytest.raises(ValueError, match="max_in_flight is 0"):
        collect(Oracle(), questions(1), 0)


def test_answers_come_in_the_order_in_which_they_are_ready():
    oracle = Oracle(by_itself=False)
    with closing(as_answered(oracle, questions(3), 3)) as answers:
        threading.Timer(0.02, oracle.answer, ["2"]).start()
        assert next(answers) == (2, "2")
        oracle.answer("0")
        assert next(answers) == (0, "0")
    assert oracle.in_flight["1"].cancelled()


def test_questions_are_read_when_there_is_room_for_them():
    read = []

    def reading():
        for question in questions(100):
            read.append(question)
            yield question

    with closing(as_answered(Oracle(), reading(), 4)) as answers:
        next(answers)
        assert len(read) <= 8


def test_a_reader_who_stops_takes_what_is_in_flight_along():
    async def read_one(oracle):
        async with aclosing(stream(oracle, questions(5), 3)) as answers:
            return await anext(answers)

    oracle = Oracle(by_itself=False)
    threading.Timer(0.02, oracle.answer, ["1"]).start()
    assert asyncio.run(read_one(oracle)) == (1, "1")
    assert [name for name, future in oracle.in_flight.items() if future.cancelled()] == ["0", "2"]


def test_the_event_loop_goes_on_while_the_oracle_answers():
    async def both(oracle):
        ticks = 0
        async with aclosing(stream(oracle, questions(1))) as answers:
            reading = asyncio.ensure_future(anext(answers))
            while not reading.done():
                await asyncio.sleep(0.005)
                ticks += 1
                if ticks == 5:
                    oracle.answer("0")
            return ticks, reading.result()

    assert asyncio.run(both(Oracle(by_itself=False)))[1] == (0, "0")


def test_a_cancelled_reader_takes_what_is_in_flight_along():
    async def cancelled(oracle):
        async def read():
            async for _ in stream(oracle, questions(3), 3):
                pass

        task = asyncio.create_task(read())
        while len(oracle.in_flight) < 3:
            await asyncio.sleep(0.005)
        task.cancel()
        await asyncio.wait({task})

    oracle = Oracle(by_itself=False)
    asyncio.run(cancelled(oracle))
    assert all(future.cancelled() for future in oracle.in_flight.values())


def test_an_oracle_as_a_function_grades_in_parts_and_in_order():
    images = np.arange(70, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 3), np.uint8)
    asked = []

    class Echo:
        def submit(self, question):
            asked.append((len(question.images), question.source, question.attributes))
            future = Future()
            future.set_result(SimpleNamespace(expected=question.images.mean(axis=(1, 2))[:, :1].astype(np.float32)))
            return future

    grades = grader(Echo(), ("hat",))(images)
    assert grades[:, 0].tolist() == list(range(70))
    assert asked == [(32, "traversal", ("hat",)), (32, "traversal", ("hat",)), (6, "traversal", ("hat",))]
