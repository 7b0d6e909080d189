"""What is asked of the oracle and what it answers: frozen, picklable values that cross process boundaries."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Generic, Literal, TypeVar

import numpy as np

HIGHEST_GRADE = 5
"""Grades run from 0 (the attribute is absent) to 5 (as strong as it gets)."""

NUM_GRADES = HIGHEST_GRADE + 1

ScoreSource = Literal["data", "traversal", "do", "sample", "gold"]

Wording = Literal["usual", "second"]


A = TypeVar("A")


class Ask(Generic[A]):
    """Anything that the oracle can be asked; its answer is an A.

    All kinds say who asks (`client`: a run's name, for fairness and for the logs) and after how many seconds the answer
    is of no use any more (`deadline_s`; None waits).
    """

    client: str
    deadline_s: float | None


@dataclass(frozen=True)
class Question(Ask["Answer"]):
    """How strongly does each attribute show in each image?

    images: uint8 [B, H, W, 3], all of one size.
    source: what the images are; only scores of "data" enter the relations.
    wording: "second" asks in other words, to see whether the answers depend on them; such scores are kept apart.
    """

    images: np.ndarray
    attributes: tuple[str, ...]
    source: ScoreSource = "data"
    client: str = ""
    deadline_s: float | None = None
    wording: Wording = "usual"


@dataclass(frozen=True)
class Answer:
    """Scores of the B images of one question on its K attributes.

    expected: float32 [B, K], the mean grade under the token probabilities, 0..5; NaN where malformed.
    argmax: int8 [B, K], the most probable grade.
    entropy: float32 [B, K], in nats, of the distribution over the six grades.
    malformed: bool [B, K], answers from which no grade could be read.
    flagged: bool [B], images on which the model shows that it does not know such images; see `oracle.doubt`.
    num_asked: how many of the B x K grades went to the engine; the rest was in the score store.
    """

    image_ids: tuple[str, ...]
    attributes: tuple[str, ...]
    expected: np.ndarray
    argmax: np.ndarray
    entropy: np.ndarray
    malformed: np.ndarray
    flagged: np.ndarray
    model: str
    prompt_version: str
    num_asked: int


@dataclass(frozen=True)
class RankQuestion(Ask["RankAnswer"]):
    """Which of two images shows more of each attribute?

    first, second: uint8 [B, H, W, 3], the two sides of B pairs.
    way: "scores" compares the grades of both; "direct" shows the model both images at once.
    """

    first: np.ndarray
    second: np.ndarray
    attributes: tuple[str, ...]
    way: Literal["scores", "direct"] = "scores"
    client: str = ""
    deadline_s: float | None = None


@dataclass(frozen=True)
class RankAnswer:
    """first_shows_more: float32 [B, K], the probability of it; 0.5 is a tie, NaN malformed."""

    attributes: tuple[str, ...]
    first_shows_more: np.ndarray
    way: Literal["scores", "direct"]
    model: str
    prompt_version: str
    num_asked: int


@dataclass(frozen=True)
class RelateQuestion(Ask["RelateAnswer"]):
    """What does the model believe of every pair of attributes, in both directions, without any image?"""

    attributes: tuple[str, ...]
    client: str = ""
    deadline_s: float | None = None


@dataclass(frozen=True)
class RelateAnswer:
    """Beliefs about K attributes; entry [i, j] is what i tells of j, diagonals are 0. Nothing here was measured.

    strength: float32 [K, K], the mean grade 0..5. sign: float32 [K, K] in [-1, 1], how much more than less likely.
    entropy: float32 [K, K], in nats, of the strength's grades. Entries that could not be read are NaN.
    """

    attributes: tuple[str, ...]
    strength: np.ndarray
    sign: np.ndarray
    entropy: np.ndarray
    model: str
    prompt_version: str
    num_asked: int

    @property
    def weights(self) -> np.ndarray:
        """Float32 [K, K] in [-1, 1], to be shown beside the weights that were measured."""
        return self.sign * self.strength / HIGHEST_GRADE


@dataclass(frozen=True)
class NameQuestion(Ask["NameAnswer"]):
    """What changes along each traversal, in the model's own words?

    strips: uint8 [B, S, H, W, 3], B traversals of S >= 2 images each; their ends are shown to the model.
    """

    strips: np.ndarray
    client: str = ""
    deadline_s: float | None = None


@dataclass(frozen=True)
class NameAnswer:
    """names: for each of B strips an attribute, "" where none could be read.

    directions: int8 [B], 1 where it grows from the first image to the last, -1 where it fades, 0 where that is unclear.
    """

    names: tuple[str, ...]
    directions: np.ndarray
    model: str
    prompt_version: str
    num_asked: int


@dataclass(frozen=True)
class ProposeQuestion(Ask["ProposeAnswer"]):
    """Which attributes vary in a sample of images? images: uint8 [B, H, W, 3]; most: how many to propose."""

    images: np.ndarray
    most: int = 12
    client: str = ""
    deadline_s: float | None = None


@dataclass(frozen=True)
class ProposeAnswer:
    """Attributes that vary, the most varied first.

    mentioned: float32 [K], share of the images that the model describes with it.
    spread: float32 [K], standard deviation of its grades over the images.
    """

    attributes: tuple[str, ...]
    mentioned: np.ndarray
    spread: np.ndarray
    model: str
    prompt_version: str
    num_asked: int


@dataclass(frozen=True)
class Scores:
    """Scores of N distinct images on K attributes, with all that is needed to use them as data.

    inclusion_probability: float32 [N], the probability with which each image was chosen for scoring.
    flagged: bool [N], images that the model does not know, by its own grades; see `oracle.doubt`.
    The other arrays are as in `Answer`, with N for B.
    """

    image_ids: tuple[str, ...]
    attributes: tuple[str, ...]
    expected: np.ndarray
    argmax: np.ndarray
    entropy: np.ndarray
    inclusion_probability: np.ndarray
    flagged: np.ndarray
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
            flagged=answer.flagged[whole],
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
            flagged=self.flagged[chosen],
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
            flagged=np.concatenate([self.flagged, new.flagged]),
        )
