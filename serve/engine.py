"""The engine behind the oracle: a small protocol, and what is asked through it."""

from dataclasses import dataclass
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
    deadline_s: seconds after which the answer is of no use any more; None waits.
    """

    images: tuple[np.ndarray, ...]
    prompt: str
    allowed_tokens: tuple[str, ...] = ()
    deadline_s: float | None = None


class ScoringEngine(Protocol):
    """A multimodal model that is asked in batches: vLLM, or a fake that answers from known grades."""

    async def probabilities(self, requests: list[Request]) -> np.ndarray:
        """Float32 [N, T]: each request's distribution over its T allowed tokens.

        A request that could not be answered alone (an image that the model refuses, a deadline passed) is a row of NaN.
        Raises EngineLost when the engine broke down, OracleError when the model cannot answer such requests.
        """
        ...

    async def generate(self, requests: list[Request]) -> list[str]:
        """Free text for each request."""
        ...

    async def health(self) -> None:
        """Returns when the engine can answer; raises OracleError otherwise."""
        ...

    def close(self) -> None:
        """Let go of the model; what is still asked fails."""
        ...
