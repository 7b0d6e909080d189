"""What may be said through the OpenAI-compatible door, and what comes back: a closed part of that interface."""

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, Tag

from graphdrl.oracle.bodies import AS_INTEGER
from graphdrl.oracle.pixels import LONGEST_BASE64

MOST_MESSAGES, MOST_PARTS, MOST_TOKENS, MOST_CHOICES, MOST_STOPS, MOST_BIASES = 256, 256, 1024, 8, 16, 300
"""Of one request; what has to be counted over all its messages, `serve.chat` counts."""

LONGEST_TEXT, LONGEST_NAME, LONGEST_STOP = 32_768, 512, 256

_DATA_URL = r"^data:image/(png|jpeg|jpg|webp|bmp|gif);base64,"
_EXAMPLE: Any = {
    "model": "builtin",
    "messages": [{"role": "user", "content": "Rate the image with one digit, from 0 to 5. Attribute: beard"}],
    "max_tokens": 1,
}


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class TextPart(_Part):
    type: Literal["text"]
    text: str = Field(max_length=LONGEST_TEXT)


def _inside(url: str) -> str:
    if not re.match(_DATA_URL, url):
        raise ValueError("an image is inside the request, as data:image/...;base64,...: nothing is fetched from a URL")
    return url


class ImageUrl(_Part):
    url: Annotated[
        str,
        Field(
            max_length=LONGEST_BASE64 + 32,
            description="the image itself, as data:image/png;base64,...",
            json_schema_extra={"format": "image-data-url", "pattern": _DATA_URL},
        ),
        AfterValidator(_inside),
    ]
    detail: Literal["auto", "low", "high"] | None = None


class ImagePart(_Part):
    type: Literal["image_url"]
    image_url: ImageUrl


class Message(_Part):
    role: Literal["system", "user", "assistant"]
    content: Annotated[
        Annotated[str, Field(max_length=LONGEST_TEXT), Tag("text")]
        | Annotated[
            tuple[Annotated[TextPart | ImagePart, Field(discriminator="type")], ...],
            Field(min_length=1, max_length=MOST_PARTS),
            Tag("parts"),
        ],
        Discriminator(lambda content: "parts" if isinstance(content, list | tuple) else "text"),
    ]


class ResponseFormat(_Part):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: dict[str, Any] | None = None


class StreamOptions(_Part):
    include_usage: bool = False


_CLOSED: Any = {"additionalProperties": False}
_Token = Annotated[str, Field(pattern=r"^[0-9]{1,9}$")]
_Bias = Annotated[float, Field(ge=-100, le=100)]
_Stop = Annotated[str, Field(min_length=1, max_length=LONGEST_STOP)]


class ChatBody(_Part):
    """One conversation to go on with."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    model: str = Field(min_length=1, max_length=LONGEST_NAME, description="as GET /v1/models names it")
    messages: tuple[Message, ...] = Field(min_length=1, max_length=MOST_MESSAGES)
    max_tokens: Annotated[int, Field(ge=1, le=MOST_TOKENS), AS_INTEGER] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1, le=MOST_TOKENS), AS_INTEGER] | None = None
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    n: Annotated[int, Field(ge=1, le=MOST_CHOICES), AS_INTEGER] | None = None
    seed: Annotated[int, Field(ge=0, lt=1 << 63), AS_INTEGER] | None = None
    stop: _Stop | Annotated[tuple[_Stop, ...], Field(max_length=MOST_STOPS)] | None = None
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    logit_bias: Annotated[dict[_Token, _Bias], Field(max_length=MOST_BIASES, json_schema_extra=_CLOSED)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20), AS_INTEGER] | None = None
    response_format: ResponseFormat | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: str | None = Field(None, max_length=LONGEST_NAME)


class Choice(BaseModel):
    model_config = ConfigDict(extra="allow")

    index: int
    message: dict[str, Any]
    finish_reason: str | None = None


class ChatCompletion(BaseModel):
    """As OpenAI's interface has it."""

    model_config = ConfigDict(extra="allow")

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[Choice]


class ModelCard(BaseModel):
    model_config = ConfigDict(extra="allow")

    id: str
    object: Literal["model"]


class ModelList(BaseModel):
    """As OpenAI's interface has it."""

    object: Literal["list"]
    data: list[ModelCard]
