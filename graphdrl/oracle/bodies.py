"""The JSON documents that go through the HTTP door: typed, closed, bounded. The published schema is made of them."""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from graphdrl.oracle.pixels import LONGEST_BASE64, from_base64, to_base64
from graphdrl.oracle.prompts import LONGEST_ATTRIBUTE, check_attribute
from graphdrl.oracle.questions import (
    Answer,
    NameAnswer,
    NameQuestion,
    ProposeAnswer,
    ProposeQuestion,
    Question,
    RankAnswer,
    RankQuestion,
    RelateAnswer,
    RelateQuestion,
    ScoreSource,
    Wording,
)

MOST_IMAGES, MOST_ATTRIBUTES, MOST_STRIPS, LONGEST_STRIP = 1024, 64, 64, 32
LONGEST_CLIENT = 128
LONGEST_DEADLINE_S = 1e6

_EXAMPLE_IMAGE = to_base64(np.full((1, 8, 8, 3), 128, np.uint8))[0]


_CLIENT = r"^[^\u0000-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]*$"
"""No control characters, line ends or marks of direction: the name is written into logs and metrics."""


def _printable(client: str) -> str:
    if not re.fullmatch(_CLIENT, client):
        raise ValueError(f"client is a name of at most {LONGEST_CLIENT} printable characters")
    return client


def _distinct(attributes: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(attributes)) < len(attributes):
        raise ValueError(f"an attribute is asked twice in one question: {', '.join(attributes)}")
    return attributes


def _as_integer(value: Any) -> Any:
    """JSON has one kind of number: 5.0 is an integer there."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


AS_INTEGER = BeforeValidator(_as_integer)
Image = Annotated[
    str,
    Field(
        min_length=1,
        max_length=LONGEST_BASE64,
        description="an image file in base64: PNG, JPEG, WEBP, BMP or GIF, not animated",
        examples=[_EXAMPLE_IMAGE],
        json_schema_extra={"format": "image-file", "contentEncoding": "base64"},
    ),
]
Attribute = Annotated[
    str,
    Field(
        min_length=1,
        max_length=LONGEST_ATTRIBUTE,
        description="letters, digits, spaces, - and _",
        examples=["beard"],
        json_schema_extra={"pattern": r"^[\w\- ]*[^\W_][\w\- ]*$"},
    ),
    AfterValidator(check_attribute),
]
_UNIQUE: Any = {"uniqueItems": True}
Attributes = Annotated[
    tuple[Attribute, ...],
    Field(min_length=1, max_length=MOST_ATTRIBUTES, examples=[["beard", "long_hair"]], json_schema_extra=_UNIQUE),
    AfterValidator(_distinct),
]
TwoAttributes = Annotated[
    tuple[Attribute, ...],
    Field(min_length=2, max_length=MOST_ATTRIBUTES, examples=[["beard", "long_hair"]], json_schema_extra=_UNIQUE),
    AfterValidator(_distinct),
]
"""Two of them or more: what hangs together."""

Images = Annotated[
    tuple[Image, ...],
    Field(min_length=1, max_length=MOST_IMAGES, description="all of one size", examples=[[_EXAMPLE_IMAGE]]),
]
Client = Annotated[
    str,
    Field(
        max_length=LONGEST_CLIENT,
        description="who asks, in printable characters; each client has its turn",
        examples=["a run"],
        json_schema_extra={"pattern": _CLIENT},
    ),
    AfterValidator(_printable),
]
Deadline = Annotated[
    Annotated[float, Field(gt=0, lt=LONGEST_DEADLINE_S)] | None,
    Field(description="seconds after which the answer is of no use any more; null waits"),
]
Row = list[float | None]
Rows = list[Row]


class QuestionBody(BaseModel, ABC):
    """What every kind of question has besides its own fields."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    client: Client = ""
    deadline_s: Deadline = None

    @classmethod
    def of(cls, question: Any) -> Self:
        """A question's document; raises pydantic's ValidationError for what the door would refuse."""
        return cls(**{name: _as_json(getattr(question, name), _images_as_json) for name in cls.model_fields})

    @abstractmethod
    def question(self) -> Any:
        """The question, its images decoded; raises ValueError for images that are refused."""


class AnswerBody(BaseModel, ABC):
    """What answers a question. Fields that a later version adds are passed over; missing numbers are null."""

    model_config = ConfigDict(frozen=True, protected_namespaces=())

    @classmethod
    def of(cls, answer: Any) -> Self:
        return cls(**{name: _as_json(getattr(answer, name), numbers) for name in cls.model_fields})

    @abstractmethod
    def answer(self) -> Any:
        """The answer; raises ValueError when its numbers do not fit together."""


class ModelAnswerBody(AnswerBody, ABC):
    """What the model's own answers have besides their fields."""

    model: str = Field(description="the model and its weights, under which grades are kept")
    prompt_version: str
    num_asked: int = Field(ge=0, description="what went to the model; the rest was known")


def numbers(values: np.ndarray) -> Any:
    """Nested lists of an array's numbers, as short as they are exact; what is not finite becomes None."""
    if values.dtype.kind != "f":
        return values.tolist()
    exact = values.astype("U").astype(np.float64).astype(object)
    exact[~np.isfinite(values)] = None
    return exact.tolist()


def array(rows: Sequence[Any], dtype: type[np.generic], *shape: int) -> np.ndarray:
    """The other way round: None becomes NaN. Raises ValueError when there are other than `shape` numbers."""
    return np.array(rows, dtype).reshape(shape)


def _as_json(value: Any, of_array: Callable[[np.ndarray], Any]) -> Any:
    return of_array(value) if isinstance(value, np.ndarray) else value


def _images_as_json(images: np.ndarray) -> tuple[Any, ...]:
    """Images [B, H, W, 3], or strips of them [B, S, H, W, 3]."""
    return to_base64(images) if images.ndim == 4 else tuple(map(to_base64, images))


class ScoreQuestionBody(QuestionBody):
    """How strongly does each attribute show in each image?"""

    images: Images
    attributes: Attributes
    source: ScoreSource = Field("data", description="what the images are; only scores of data enter relations")
    wording: Wording = Field("usual", description="second: in other words, to see whether answers depend on them")

    def question(self) -> Question:
        images = from_base64(self.images)
        return Question(images, self.attributes, self.source, self.client, self.deadline_s, self.wording)


class ScoreAnswerBody(ModelAnswerBody):
    """Grades of each image (row) on each attribute (column)."""

    image_ids: tuple[str, ...] = Field(description="hashes of the images' pixels")
    attributes: tuple[str, ...]
    expected: Rows = Field(description="mean grades, 0 to 5; null where malformed")
    argmax: list[list[int]] = Field(description="most probable grades; -1 where malformed")
    entropy: Rows = Field(description="in nats; null where malformed")
    malformed: list[list[bool]] = Field(description="no grade could be read")
    flagged: list[bool] = Field(description="images of a kind that the model does not know")

    def answer(self) -> Answer:
        shape = len(self.image_ids), len(self.attributes)
        return Answer(
            self.image_ids,
            self.attributes,
            expected=array(self.expected, np.float32, *shape),
            argmax=array(self.argmax, np.int8, *shape),
            entropy=array(self.entropy, np.float32, *shape),
            malformed=array(self.malformed, np.bool_, *shape),
            flagged=array(self.flagged, np.bool_, shape[0]),
            model=self.model,
            prompt_version=self.prompt_version,
            num_asked=self.num_asked,
        )


class RankQuestionBody(QuestionBody):
    """Which of two images shows more of each attribute?"""

    first: Images = Field(description="the first of each pair; all images are of one size")
    second: Images = Field(description="the second of each pair, as many")
    attributes: Attributes
    way: Literal["scores", "direct"] = Field("scores", description="compare grades, or show both images at once")

    def question(self) -> RankQuestion:
        if len(self.first) != len(self.second):
            raise ValueError(f"{len(self.first)} images cannot be paired with {len(self.second)}: give as many of each")
        first, second = np.split(from_base64(self.first + self.second), 2)
        return RankQuestion(first, second, self.attributes, self.way, self.client, self.deadline_s)


class RankAnswerBody(ModelAnswerBody):
    """For each pair (row) and attribute (column) whether the first image shows more."""

    attributes: tuple[str, ...]
    first_shows_more: Rows = Field(description="probabilities; 0.5 is a tie, null malformed")
    way: Literal["scores", "direct"]

    def answer(self) -> RankAnswer:
        more = array(self.first_shows_more, np.float32, len(self.first_shows_more), len(self.attributes))
        return RankAnswer(self.attributes, more, self.way, self.model, self.prompt_version, self.num_asked)


class RelateQuestionBody(QuestionBody):
    """What does the model believe of every pair of attributes, without any image?"""

    attributes: TwoAttributes

    def question(self) -> RelateQuestion:
        return RelateQuestion(self.attributes, self.client, self.deadline_s)


class RelateAnswerBody(ModelAnswerBody):
    """Beliefs; entry [i][j] is what attribute i tells of attribute j. Nothing here was measured."""

    attributes: tuple[str, ...]
    strength: Rows = Field(description="mean grades, 0 to 5")
    sign: Rows = Field(description="from -1, less likely, to 1, more likely")
    entropy: Rows = Field(description="in nats, of the strength's grades")

    def answer(self) -> RelateAnswer:
        shape = len(self.attributes), len(self.attributes)
        return RelateAnswer(
            self.attributes,
            strength=array(self.strength, np.float32, *shape),
            sign=array(self.sign, np.float32, *shape),
            entropy=array(self.entropy, np.float32, *shape),
            model=self.model,
            prompt_version=self.prompt_version,
            num_asked=self.num_asked,
        )


class NameQuestionBody(QuestionBody):
    """What changes along each strip of images?"""

    strips: tuple[Annotated[tuple[Image, ...], Field(min_length=2, max_length=LONGEST_STRIP)], ...] = Field(
        min_length=1,
        max_length=MOST_STRIPS,
        description="strips of one length; all images are of one size",
        examples=[[[_EXAMPLE_IMAGE, _EXAMPLE_IMAGE]]],
    )

    def question(self) -> NameQuestion:
        lengths = {len(strip) for strip in self.strips}
        if len(lengths) > 1:
            raise ValueError("the strips of one question are of one length: ask about each length by itself")
        images = from_base64([image for strip in self.strips for image in strip])
        strips = images.reshape(len(self.strips), lengths.pop(), *images.shape[1:])
        return NameQuestion(strips, self.client, self.deadline_s)


class NameAnswerBody(ModelAnswerBody):
    """For each strip an attribute, and which way it changes."""

    names: tuple[str, ...] = Field(description="empty where none could be read")
    directions: list[int] = Field(description="1: it grows from the first image to the last; -1: it fades; 0: unclear")

    def answer(self) -> NameAnswer:
        directions = array(self.directions, np.int8, len(self.names))
        return NameAnswer(self.names, directions, self.model, self.prompt_version, self.num_asked)


class ProposeQuestionBody(QuestionBody):
    """Which attributes vary in a sample of images?"""

    images: Images
    most: Annotated[int, Field(ge=1, le=MOST_ATTRIBUTES, description="how many to propose"), AS_INTEGER] = 12

    def question(self) -> ProposeQuestion:
        return ProposeQuestion(from_base64(self.images), self.most, self.client, self.deadline_s)


class ProposeAnswerBody(ModelAnswerBody):
    """Attributes that vary, the most varied first."""

    attributes: tuple[str, ...]
    mentioned: Row = Field(description="share of the images that the model describes with it")
    spread: Row = Field(description="standard deviation of its grades over the images")

    def answer(self) -> ProposeAnswer:
        size = len(self.attributes)
        return ProposeAnswer(
            self.attributes,
            mentioned=array(self.mentioned, np.float32, size),
            spread=array(self.spread, np.float32, size),
            model=self.model,
            prompt_version=self.prompt_version,
            num_asked=self.num_asked,
        )
