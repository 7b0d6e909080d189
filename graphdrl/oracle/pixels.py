"""Images on their way through JSON: lossless PNG files in base64 out, any vetted image file in, limits first."""

import base64
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from graphdrl.images.checks import ImageLimits, decode_image

LIMITS = ImageLimits(file_bytes=4 << 20, pixels=4_000_000, smallest_side=1)
"""Of one image."""

MOST_PIXELS = 16_000_000
"""Of all images of one question, about what its bytes can hold as photographs without loss."""

LONGEST_BASE64 = -(-LIMITS.file_bytes // 3) * 4
"""Characters of the largest file."""


class TooLarge(ValueError):  # noqa: N818 - it names the question's state
    """A question beyond a limit; the message says which, and how to ask instead."""


def to_base64(images: np.ndarray) -> tuple[str, ...]:
    """Images uint8 [B, H, W, 3] as PNG files in base64."""
    return tuple(base64.b64encode(_png(image)).decode() for image in images)


def from_base64(texts: Sequence[str]) -> np.ndarray:
    """Image files in base64, all of one size, as uint8 [B, H, W, 3]; whole images, upright, RGB.

    The first image's size tells how much memory all of them need, before the others are decoded.
    Raises ValueError naming the image, and TooLarge when they are too many pixels together.
    """
    first = _image(0, texts[0])
    height, width = first.shape[:2]
    if len(texts) * height * width > MOST_PIXELS:
        raise TooLarge(
            f"{len(texts)} images of {width} x {height} pixels are more than the {MOST_PIXELS:,} pixels of one "
            "question: ask about fewer images at once"
        )
    images = np.empty((len(texts), *first.shape), np.uint8)
    images[0] = first
    for number, text in enumerate(texts[1:], 1):
        image = _image(number, text)
        if image.shape != first.shape:
            raise ValueError("the images of one question are of one size: ask about each size by itself")
        images[number] = image
    return images


def _png(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "png", compress_level=1)
    return file.getvalue()


def _image(number: int, text: str) -> np.ndarray:
    try:
        content = base64.b64decode(text, validate=True)
    except ValueError:
        raise ValueError(f"image {number} is not base64") from None
    try:
        return decode_image(content, None, LIMITS)
    except ValueError as error:
        raise ValueError(f"image {number} {error}") from None
