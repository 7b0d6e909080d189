"""Questions and answers as JSON, for clients that are not in the cluster; images travel as lossless PNG files."""

import base64
import binascii
import io
from collections.abc import Mapping
from typing import Any, get_args

import numpy as np
from PIL import Image

from graphdrl.images.checks import ImageLimits, decode_image
from graphdrl.oracle.questions import Answer, Question, ScoreSource

MOST_BYTES = 32 << 20
"""Of a whole question; whoever reads it counts before parsing."""

MOST_IMAGES, MOST_ATTRIBUTES = 1024, 64

_LIMITS = ImageLimits(file_bytes=4 << 20, pixels=4_000_000, smallest_side=1)
_FIELDS = {"images", "attributes", "source", "client", "deadline_s"}
_ARRAYS = ("expected", "argmax", "entropy", "malformed")


def question_to_json(question: Question) -> dict[str, Any]:
    return {
        "images": [_png(image) for image in question.images],
        "attributes": list(question.attributes),
        "source": question.source,
        "client": question.client,
        "deadline_s": question.deadline_s,
    }


def question_from_json(data: Any) -> Question:
    """A stranger's question, checked before its images are decoded; raises ValueError, in one sentence."""
    if not isinstance(data, Mapping):
        raise ValueError("a question is a JSON object with images and attributes")
    unknown = sorted(set(data) - _FIELDS)
    if unknown:
        raise ValueError(f"a question has no field {unknown[0]!r}: its fields are {', '.join(sorted(_FIELDS))}")
    deadline_s = data.get("deadline_s")
    if deadline_s is not None and (not isinstance(deadline_s, int | float) or not 0 < deadline_s < 1e6):
        raise ValueError("deadline_s is a number of seconds above 0, or null")
    source = data.get("source", "data")
    if source not in get_args(ScoreSource):
        raise ValueError(f"source is one of {', '.join(get_args(ScoreSource))}")
    attributes = _texts(data.get("attributes"), "attributes", MOST_ATTRIBUTES)
    images = _images(_texts(data.get("images"), "images", MOST_IMAGES))
    return Question(images, attributes, source, str(data.get("client", ""))[:128], deadline_s)


def answer_to_json(answer: Answer) -> dict[str, Any]:
    """NaN, which JSON does not have, becomes null."""
    arrays: dict[str, Any] = {name: _nested(getattr(answer, name)) for name in _ARRAYS}
    return arrays | {
        "image_ids": list(answer.image_ids),
        "attributes": list(answer.attributes),
        "model": answer.model,
        "prompt_version": answer.prompt_version,
        "num_asked": answer.num_asked,
    }


def answer_from_json(data: Mapping[str, Any]) -> Answer:
    image_ids, attributes = tuple(data["image_ids"]), tuple(data["attributes"])
    shape = len(image_ids), len(attributes)

    def array(name: str, dtype: type[np.generic]) -> np.ndarray:
        return np.array(data[name], dtype).reshape(shape)

    return Answer(
        image_ids,
        attributes,
        expected=array("expected", np.float32),
        argmax=array("argmax", np.int8),
        entropy=array("entropy", np.float32),
        malformed=array("malformed", np.bool_),
        model=data["model"],
        prompt_version=data["prompt_version"],
        num_asked=data["num_asked"],
    )


def _png(image: np.ndarray) -> str:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "png", compress_level=1)
    return base64.b64encode(file.getvalue()).decode()


def _texts(value: Any, name: str, most: int) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or not all(isinstance(text, str) for text in value):
        raise ValueError(f"{name} is a list of texts, at least one")
    if len(value) > most:
        raise ValueError(f"{len(value)} {name} are too many for one question: ask about {most} at most")
    return tuple(value)


def _images(texts: tuple[str, ...]) -> np.ndarray:
    """Base64 image files of one size as uint8 [B, H, W, 3]."""
    images = [_image(number, text) for number, text in enumerate(texts)]
    sizes = {image.shape for image in images}
    if len(sizes) > 1:
        raise ValueError("the images of one question are of one size: ask about each size by itself")
    return np.stack(images)


def _image(number: int, text: str) -> np.ndarray:
    if len(text) > _LIMITS.file_bytes * 4 // 3 + 4:
        raise ValueError(f"image {number} is larger than the limit of {_LIMITS.file_bytes:,} bytes")
    try:
        content = base64.b64decode(text, validate=True)
    except binascii.Error:
        raise ValueError(f"image {number} is not base64") from None
    try:
        return decode_image(content, None, _LIMITS)
    except ValueError as error:
        raise ValueError(f"image {number} {error}") from None


def _nested(array: np.ndarray) -> list[list[Any]]:
    if array.dtype.kind != "f":
        return array.tolist()
    return [[None if np.isnan(value) else round(float(value), 6) for value in row] for row in array]
