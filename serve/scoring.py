"""The two ways to grade an image: one token an attribute, or all attributes in one written answer."""

import json
import re
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from graphdrl.oracle.prompts import SCORE_PROMPTS, Prompt, ScoringWay, as_words, load_prompt
from graphdrl.oracle.questions import NUM_GRADES
from serve.engine import Request, Written

GRADE_TOKENS = tuple(str(grade) for grade in range(NUM_GRADES))

WRITE: Hashable = "write"
"""The lane of written answers; those that are weighed go by the number of their allowed tokens."""


class Scoring(Protocol):
    """How one image's grades are asked for and read."""

    prompt: Prompt
    lane: Hashable

    def requests(self, image: np.ndarray, attributes: Sequence[str], deadline_s: float | None) -> list[Request]: ...

    def read(self, replies: Sequence[Any], num_attributes: int) -> np.ndarray:
        """Probabilities float32 [K, 6] from the replies to one image's requests; NaN where malformed."""
        ...


class TokenScoring:
    """One question an attribute; its answer is the distribution of the next token over the six digits.

    The questions about one image share it through vLLM's prefix cache.
    """

    lane: Hashable = NUM_GRADES

    def __init__(self, prompt: Prompt) -> None:
        self.prompt = prompt

    def requests(self, image: np.ndarray, attributes: Sequence[str], deadline_s: float | None) -> list[Request]:
        prompts = (self.prompt.render(attribute) for attribute in attributes)
        return [Request((image,), prompt, GRADE_TOKENS, deadline_s=deadline_s) for prompt in prompts]

    def read(self, replies: Sequence[Any], num_attributes: int) -> np.ndarray:
        return np.asarray(replies, np.float32)


class StructuredScoring:
    """One question an image; the answer is a JSON object, and each digit in it has a distribution."""

    lane: Hashable = WRITE

    def __init__(self, prompt: Prompt) -> None:
        self.prompt = prompt

    def requests(self, image: np.ndarray, attributes: Sequence[str], deadline_s: float | None) -> list[Request]:
        words = [as_words(attribute) for attribute in attributes]
        pattern = ",".join(f"{re.escape(json.dumps(word, ensure_ascii=False))}:[0-5]" for word in words)
        prompt = self.prompt.fill(attributes=", ".join(words))
        most = 8 + sum(len(word.encode()) + 8 for word in words)  # a token a byte, at worst
        return [Request((image,), prompt, GRADE_TOKENS, rf"\{{{pattern}\}}", '{"a":', most, deadline_s)]

    def read(self, replies: Sequence[Written], num_attributes: int) -> np.ndarray:
        text, weights = replies[0].text, replies[0].weights
        digits = [match.start() for match in re.finditer("[0-5]", text)]
        # A digit of an attribute's own name has weights too; a grade is what stands behind a colon.
        grades = [place for place, at in enumerate(digits) if text[at - 1] == ":" and text[at + 1 : at + 2] in ",}"]
        if len(weights) != len(digits) or len(grades) != num_attributes:
            return np.full((num_attributes, NUM_GRADES), np.nan, np.float32)
        return np.asarray(weights, np.float32)[grades]


def scoring(way: ScoringWay, folder: Path | None = None) -> Scoring:
    """The way of that name, with the prompts of `folder` where it has them."""
    prompt = load_prompt(SCORE_PROMPTS[way], folder)
    return TokenScoring(prompt) if way == "tokens" else StructuredScoring(prompt)
