"""What is asked of the oracle and what it answers: frozen, picklable values that cross process boundaries."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

HIGHEST_GRADE = 5
"""Grades run from 0 (the attribute is absent) to 5 (as strong as it gets)."""

NUM_GRADES = HIGHEST_GRADE + 1

ScoreSource = Literal["data", "traversal", "do", "gold"]


@dataclass(frozen=True)
class Question:
    """How strongly does each attribute show in each image?

    images: uint8 [B, H, W, 3], all of one size.
    source: what the images are; only scores of "data" enter the relations.
    client: who asks (a run's name), for fairness and for the logs.
    deadline_s: seconds after which the answer is of no use any more; None waits.
    """

    images: np.ndarray
    attributes: tuple[str, ...]
    source: ScoreSource = "data"
    client: str = ""
    deadline_s: float | None = None


@dataclass(frozen=True)
class Answer:
    """Scores of the B images of one question on its K attributes.

    expected: float32 [B, K], the mean grade under the token probabilities, 0..5; NaN where malformed.
    argmax: int8 [B, K], the most probable grade.
    entropy: float32 [B, K], in nats, of the distribution over the six grades.
    malformed: bool [B, K], answers from which no grade could be read.
    num_asked: how many of the B x K grades went to the engine; the rest was in the score store.
    """

    image_ids: tuple[str, ...]
    attributes: tuple[str, ...]
    expected: np.ndarray
    argmax: np.ndarray
    entropy: np.ndarray
    malformed: np.ndarray
    model: str
    prompt_version: str
    num_asked: int


@dataclass(frozen=True)
class Scores:
    """Scores of N distinct images on K attributes, with all that is needed to use them as data.

    inclusion_probability: float32 [N], the probability with which each image was chosen for scoring.
    The other arrays are as in `Answer`, with N for B.
    """

    image_ids: tuple[str, ...]
    attributes: tuple[str, ...]
    expected: np.ndarray
    argmax: np.ndarray
    entropy: np.ndarray
    inclusion_probability: np.ndarray
    source: ScoreSource
    model: str
    prompt_version: str

    def __len__(self) -> int:
        return len(self.image_ids)

    @classmethod
    def from_answer(cls, answer: Answer, source: ScoreSource, inclusion_probability: np.ndarray) -> "Scores":
        """The well-formed rows of an answer: an image with a malformed grade is left out."""
        whole = np.flatnonzero(~answer.malformed.any(axis=1))
        return cls(
            image_ids=tuple(answer.image_ids[row] for row in whole),
            attributes=answer.attributes,
            expected=answer.expected[whole],
            argmax=answer.argmax[whole],
            entropy=answer.entropy[whole],
            inclusion_probability=np.asarray(inclusion_probability, np.float32)[whole],
            source=source,
            model=answer.model,
            prompt_version=answer.prompt_version,
        )

    def rows(self, index: Sequence[int] | np.ndarray) -> "Scores":
        """The scores of the images at `index`, in that order."""
        chosen = np.asarray(index, dtype=np.int64)
        return replace(
            self,
            image_ids=tuple(self.image_ids[row] for row in chosen),
            expected=self.expected[chosen],
            argmax=self.argmax[chosen],
            entropy=self.entropy[chosen],
            inclusion_probability=self.inclusion_probability[chosen],
        )

    def extended(self, other: "Scores") -> "Scores":
        """These scores and those images of `other` that are not among them.

        Raises ValueError when the two do not answer the same question (attributes, model, prompt, source).
        """
        mine = (self.attributes, self.model, self.prompt_version, self.source)
        theirs = (other.attributes, other.model, other.prompt_version, other.source)
        if mine != theirs:
            raise ValueError(f"scores of different questions cannot be joined: {mine} and {theirs}")
        known = set(self.image_ids)
        new = other.rows([row for row, image in enumerate(other.image_ids) if image not in known])
        return replace(
            self,
            image_ids=self.image_ids + new.image_ids,
            expected=np.concatenate([self.expected, new.expected]),
            argmax=np.concatenate([self.argmax, new.argmax]),
            entropy=np.concatenate([self.entropy, new.entropy]),
            inclusion_probability=np.concatenate([self.inclusion_probability, new.inclusion_probability]),
        )
