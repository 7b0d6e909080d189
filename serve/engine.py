"""The engine behind the oracle: a small protocol, and what is asked through it."""

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from graphdrl.oracle.protocol import OracleError


class EngineLost(OracleError):  # noqa: N818 - it names what happened
    """An engine died with the requests that it held; another, or the same one restarted, may answer them."""


@dataclass(frozen=True, eq=False)
class Request:
    """One question to the model.

    images: none, one or two, each uint8 [H, W, 3].
    allowed_tokens: the answers to weigh against each other, each one token; empty for free text.
    pattern: regular expression that a written answer has to match as a whole; "" leaves it free.
    stem: how a written answer may begin, right before an allowed token (a token can differ with what precedes it).
    most_tokens: length of a written answer, cut off beyond.
    deadline_s: seconds after which the answer is of no use any more; None waits.
    """

    images: tuple[np.ndarray, ...]
    prompt: str
    allowed_tokens: tuple[str, ...] = ()
    pattern: str = ""
    stem: str = ""
    most_tokens: int = 64
    deadline_s: float | None = None

    def due(self, deadline_s: float | None) -> "Request":
        """The same request with that deadline."""
        return replace(self, deadline_s=deadline_s)


@dataclass(frozen=True, eq=False)
class Written:
    """An answer in text; `weights` float32 [S, T] are the distributions over the allowed tokens at the S places where
    the text has one of them, in the order of the text."""

    text: str
    weights: np.ndarray


@dataclass(frozen=True)
class Usage:
    """What an engine has done since it was made: prompt and written tokens, and seconds in which it computed."""

    prompt_tokens: int = 0
    written_tokens: int = 0
    busy_s: float = 0.0


class ScoringEngine(Protocol):
    """A multimodal model that is asked in batches: vLLM, or a fake that answers from known grades."""

    async def probabilities(self, requests: list[Request]) -> np.ndarray:
        """Float32 [N, T]: each request's distribution over its T allowed tokens.

        A request that could not be answered alone (an image that the model refuses, a deadline passed) is a row of NaN.
        Raises EngineLost when the engine broke down, OracleError when the model cannot answer such requests.
        """
        ...

    async def generate(self, requests: list[Request]) -> list[Written]:
        """A written answer for each request; empty text for one that could not be answered alone."""
        ...

    async def health(self) -> None:
        """Returns when the engine can answer; raises OracleError otherwise."""
        ...

    def usage(self) -> Usage: ...

    def close(self) -> None:
        """Let go of the model; what is still asked fails."""
        ...
