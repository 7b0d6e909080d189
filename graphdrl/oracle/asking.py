"""Many questions to any oracle, and their answers as they come: as an iterator, or as one to `async for` over."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Generic

import numpy as np

from graphdrl.oracle.protocol import Busy, Oracle
from graphdrl.oracle.questions import A, Ask, Question, ScoreSource

_GRADED_AT_ONCE = 32
_BUSY_S = 0.5
"""How long nothing is asked after the oracle said that it is busy."""


def as_answered(oracle: Oracle, questions: Iterable[Ask[A]], max_in_flight: int = 4) -> Iterator[tuple[int, A]]:
    """(number of the question, its answer), in the order in which the answers come.

    questions: read one by one, when there is room for the next. A busy oracle is waited for.
    Raises what the first question ends in that is not answered. Whatever is in flight is given up when the iterator is
    closed, or left behind.
    """
    flights = _Flights(oracle, questions, max_in_flight)
    try:
        while flights.go_on():
            if flights.in_flight:
                done, _ = wait(flights.in_flight, flights.busy_s, FIRST_COMPLETED)
                yield from flights.answered(done)
            else:
                time.sleep(flights.busy_s or 0.0)
    finally:
        flights.cancel()


async def stream(oracle: Oracle, questions: Iterable[Ask[A]], max_in_flight: int = 4) -> AsyncIterator[tuple[int, A]]:
    """The same for `async for`; the event loop goes on while the oracle answers."""
    loop, came = asyncio.get_running_loop(), asyncio.Event()
    flights = _Flights(oracle, questions, max_in_flight, lambda _: loop.call_soon_threadsafe(came.set))
    try:
        while flights.go_on():
            came.clear()
            if not flights.done():
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(came.wait(), flights.busy_s)
            for answered in flights.answered(flights.done()):
                yield answered
    finally:
        flights.cancel()


def grader(
    oracle: Oracle, attributes: tuple[str, ...], source: ScoreSource = "traversal", client: str = ""
) -> Callable[[np.ndarray], np.ndarray]:
    """An oracle as a function: pictures uint8 [N, H, W, 3] to expected grades float32 [N, K], NaN where malformed.

    It waits for the answers, and asks a busy oracle again; raises OracleError when the oracle fails.
    """

    def grade(images: np.ndarray) -> np.ndarray:
        parts = range(0, len(images), _GRADED_AT_ONCE)
        questions = [Question(images[start : start + _GRADED_AT_ONCE], attributes, source, client) for start in parts]
        answers = dict(as_answered(oracle, questions))
        return np.concatenate([answers[number].expected for number in range(len(questions))])

    return grade


class _Flights(Generic[A]):
    """Numbered questions: those that wait (read when there is room), and those in flight.

    tell: called in some thread with every future that is done.
    """

    def __init__(
        self,
        oracle: Oracle,
        questions: Iterable[Ask[A]],
        max_in_flight: int,
        tell: "Callable[[Future[A]], object] | None" = None,
    ) -> None:
        if max_in_flight < 1:
            raise ValueError(f"max_in_flight is {max_in_flight}: at least one question must be in flight")
        self._oracle, self._new, self._most, self._tell = oracle, enumerate(questions), max_in_flight, tell
        self._again: list[tuple[int, Ask[A]]] = []
        self._ask_at = 0.0
        self.in_flight: dict[Future[A], tuple[int, Ask[A]]] = {}

    def go_on(self) -> bool:
        """Ask as many as there is room for; whether anything is still to be answered."""
        while len(self.in_flight) < self._most and time.monotonic() >= self._ask_at:
            numbered = self._again.pop() if self._again else next(self._new, None)
            if numbered is None:
                break
            self._ask(numbered)
        return bool(self.in_flight or self._again)

    @property
    def busy_s(self) -> float | None:
        """Seconds until what the oracle was too busy for may be asked again; None when that takes an answer first."""
        if not self._again or len(self.in_flight) >= self._most:
            return None
        return max(0.0, self._ask_at - time.monotonic())

    def done(self) -> list[Future[A]]:
        return [future for future in self.in_flight if future.done()]

    def answered(self, futures: "Iterable[Future[A]]") -> Iterator[tuple[int, A]]:
        """The answers that came, each once; raises what a question ended in."""
        for future in futures:
            numbered = self.in_flight.pop(future)
            try:
                answer = future.result()
            except Busy:
                self._put_off(numbered)
            else:
                yield numbered[0], answer

    def cancel(self) -> None:
        for future in self.in_flight:
            future.cancel()

    def _ask(self, numbered: tuple[int, Ask[A]]) -> None:
        try:
            future = self._oracle.submit(numbered[1])
        except Busy:
            self._put_off(numbered)
            return
        self.in_flight[future] = numbered
        if self._tell is not None:
            future.add_done_callback(self._tell)

    def _put_off(self, numbered: tuple[int, Ask[A]]) -> None:
        self._again.append(numbered)
        self._ask_at = time.monotonic() + _BUSY_S
