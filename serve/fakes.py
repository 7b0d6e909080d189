"""A whole engine without a model: it answers from known grades, and can be slow, broken or wrong on demand."""

import asyncio
from collections.abc import Callable, Sequence

import numpy as np

from graphdrl.images.ids import image_id
from graphdrl.oracle.prompts import Prompt
from graphdrl.oracle.questions import HIGHEST_GRADE
from serve.engine import EngineLost, Request


class FakeEngine:
    """Implements `ScoringEngine` for the attributes that it knows.

    grade: what to answer about an image's id and an attribute, a real number in 0..5.
    gate: calls wait until it is set, so that a test decides how slow the engine is.
    num_losses: how many calls end in EngineLost before one succeeds.
    error: raised by every call; malformed: image ids that it cannot answer about.
    `asked` lists the (image id, attribute) of every call that was begun.
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
    ) -> None:
        self._attributes = {prompt.render(attribute): attribute for attribute in attributes}
        self._grade = grade
        self.gate, self.num_losses, self.error = gate, num_losses, error
        self.malformed = set(malformed)
        self.asked: list[list[tuple[str, str]]] = []
        self.is_closed = False

    async def probabilities(self, requests: list[Request]) -> np.ndarray:
        keys = [(image_id(request.images[0]), self._attributes[request.prompt]) for request in requests]
        self.asked.append(keys)
        if self.gate is not None:
            await self.gate.wait()
        await self.health()
        rows = [two_hot(self._grade(*key), len(r.allowed_tokens)) for key, r in zip(keys, requests, strict=True)]
        answers = np.stack(rows)
        answers[[key[0] in self.malformed for key in keys]] = np.nan
        return answers

    async def generate(self, requests: list[Request]) -> list[str]:
        return [f"asked: {request.prompt}" for request in requests]

    async def health(self) -> None:
        if self.error is not None:
            raise self.error
        if self.num_losses > 0:
            self.num_losses -= 1
            raise EngineLost("the fake engine broke down")

    def close(self) -> None:
        self.is_closed = True


def two_hot(grade: float, num_tokens: int = HIGHEST_GRADE + 1) -> np.ndarray:
    """The distribution over neighbouring grades whose mean is `grade`: float32 [T]."""
    row = np.zeros(num_tokens, np.float32)
    low = min(int(grade), num_tokens - 2)
    row[low + 1] = grade - low
    row[low] = 1 - row[low + 1]
    return row
