"""Asks the oracle about the images chosen for scoring while training goes on, and never waits for an answer."""

import logging
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future

import numpy as np

from graphdrl.oracle.protocol import Busy, Oracle, OracleError
from graphdrl.oracle.questions import Answer, Question, Scores

logger = logging.getLogger(__name__)

_MAX_ATTEMPTS = 3


def choose_for_scoring(num_images: int, num_scored: int, seed: int) -> np.ndarray:
    """Rows of the images to score, int64 [num_scored]: a simple random sample, a function of the seed alone."""
    return np.random.default_rng((seed, 2)).permutation(num_images)[: min(num_scored, num_images)]


class Asker:
    """One rank's share of the questions: a few in flight, the next when one is answered.

    images: uint8 [N, H, W, 3]; rows: which of them to ask about, in this order.
    inclusion_probability: with which each image was chosen for scoring.
    """

    def __init__(
        self,
        oracle: Oracle,
        images: np.ndarray,
        rows: np.ndarray,
        attributes: tuple[str, ...],
        *,
        client: str,
        inclusion_probability: float,
        images_per_question: int = 16,
        max_in_flight: int = 4,
    ) -> None:
        self._oracle, self._images, self._attributes, self._client = oracle, images, attributes, client
        self._inclusion_probability = inclusion_probability
        self._max_in_flight = max_in_flight
        starts = range(0, len(rows), images_per_question)
        self._waiting = deque((rows[start : start + images_per_question], 1) for start in starts)
        self._in_flight: deque[tuple[np.ndarray, int, Future[Answer]]] = deque()
        self._retry_at = 0.0
        self.images_scored = 0
        self.questions_asked = 0
        self.seconds = 0.0

    @property
    def num_waiting(self) -> int:
        """Images that are still to be answered."""
        return sum(len(rows) for rows, _ in self._waiting) + sum(len(rows) for rows, _, _ in self._in_flight)

    def pump(self, add: Callable[[Scores], None]) -> None:
        """Hand over the answers that are there, and ask more; returns at once.

        Raises OracleError when one question failed three times.
        """
        started = time.perf_counter()
        self._collect(add)
        self._ask()
        self.seconds += time.perf_counter() - started

    def close(self) -> None:
        for *_, future in self._in_flight:
            future.cancel()

    def _collect(self, add: Callable[[Scores], None]) -> None:
        for _ in range(len(self._in_flight)):
            rows, attempt, future = self._in_flight.popleft()
            if not future.done():
                self._in_flight.append((rows, attempt, future))
                continue
            error = future.exception()
            if error is not None:
                self._ask_again(rows, attempt, error)
                continue
            answer = future.result()
            probability = np.full(len(rows), self._inclusion_probability, np.float32)
            add(Scores.from_answer(answer, "data", probability))
            self.images_scored += len(rows)
            self.questions_asked += answer.num_asked

    def _ask_again(self, rows: np.ndarray, attempt: int, error: BaseException) -> None:
        if isinstance(error, Busy):
            self._waiting.appendleft((rows, attempt))
            self._retry_at = time.monotonic() + 0.5
            return
        if attempt >= _MAX_ATTEMPTS:
            raise OracleError(f"the oracle failed {attempt} times on the same {len(rows)} images: {error}") from error
        logger.warning("the oracle failed on %d images, asking again: %s", len(rows), error)
        self._waiting.append((rows, attempt + 1))

    def _ask(self) -> None:
        while self._waiting and len(self._in_flight) < self._max_in_flight and time.monotonic() >= self._retry_at:
            rows, attempt = self._waiting.popleft()
            question = Question(images=self._images[rows], attributes=self._attributes, client=self._client)
            try:
                future = self._oracle.submit(question)
            except Busy:
                self._waiting.appendleft((rows, attempt))
                self._retry_at = time.monotonic() + 0.5
                return
            self._in_flight.append((rows, attempt, future))
