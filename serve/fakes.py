"""A whole engine without a model: it answers from known grades, and can be slow, broken or wrong on demand."""

import asyncio
from collections.abc import Callable, Sequence

import numpy as np

from graphdrl.images.ids import image_id
from graphdrl.oracle.prompts import Prompt
from graphdrl.oracle.questions import HIGHEST_GRADE
from serve.engine import EngineLost, Request, Usage, Written


class FakeEngine:
    """Implements `ScoringEngine` for the attributes that it knows.

    grade: what to answer about an image's id and an attribute, a real number in 0..5.
    gate: calls wait until it is set, so that a test decides how slow the engine is.
    num_losses: how many calls end in EngineLost before one succeeds.
    error: raised by every call; malformed: image ids that it cannot answer about.
    weigh, write: what it answers to questions that ask for no grade, from the request.
    `asked` lists the (image id, attribute) of every call that was begun; `num_cancelled` counts those given up.
    """

    def __init__(
        self,
        prompt: Prompt,
        attributes: Sequence[str],
        grade: Callable[[str, str], float],
        *,
        gate: asyncio.Event | None = None,
        num_losses: int = 0,
        error: Exception | None = None,
        malformed: Sequence[str] = (),
        weigh: Callable[[Request], Sequence[float]] | None = None,
        write: Callable[[Request], Written] | None = None,
    ) -> None:
        self._attributes = {prompt.render(attribute): attribute for attribute in attributes}
        self._grade = grade
        self.gate, self.num_losses, self.error = gate, num_losses, error
        self.malformed = set(malformed)
        self._weigh, self._write = weigh, write
        self.num_cancelled = self._num_answered = 0
        self.asked: list[list[tuple[str, str]]] = []
        self.is_closed = False

    async def probabilities(self, requests: list[Request]) -> np.ndarray:
        await self._begin(requests)
        return np.array([self._weighed(request) for request in requests], np.float32)

    async def generate(self, requests: list[Request]) -> list[Written]:
        await self._begin(requests)
        if self._write is None:
            raise ValueError("this fake was not told what to write")
        return [self._write(request) for request in requests]

    async def _begin(self, requests: list[Request]) -> None:
        self.asked.append([self._key(request) for request in requests])
        if self.gate is not None:
            try:
                await self.gate.wait()
            except asyncio.CancelledError:
                self.num_cancelled += 1
                raise
        await self.health()
        self._num_answered += len(requests)

    def _key(self, request: Request) -> tuple[str, str]:
        about = image_id(request.images[0]) if request.images else ""
        return about, self._attributes.get(request.prompt, request.prompt)

    def _weighed(self, request: Request) -> Sequence[float] | np.ndarray:
        image, attribute = self._key(request)
        if attribute == request.prompt:
            if self._weigh is None:
                raise ValueError(f"this fake was not told what to answer to {request.prompt!r}")
            return self._weigh(request)
        if image in self.malformed:
            return np.full(len(request.allowed_tokens), np.nan)
        return two_hot(self._grade(image, attribute), len(request.allowed_tokens))

    async def health(self) -> None:
        if self.error is not None:
            raise self.error
        if self.num_losses > 0:
            self.num_losses -= 1
            raise EngineLost("the fake engine broke down")

    def usage(self) -> Usage:
        """One prompt token a question, none written."""
        return Usage(prompt_tokens=self._num_answered)

    def close(self) -> None:
        self.is_closed = True


def two_hot(grade: float, num_tokens: int = HIGHEST_GRADE + 1) -> np.ndarray:
    """The distribution over neighbouring grades whose mean is `grade`: float32 [T]."""
    row = np.zeros(num_tokens, np.float32)
    low = min(int(grade), num_tokens - 2)
    row[low + 1] = grade - low
    row[low] = 1 - row[low + 1]
    return row
