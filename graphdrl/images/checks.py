"""Opening image files that nobody has vetted: limits before decoding, one reason for each file that is refused."""

import io
import os
import stat
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF")
"""What is decoded, told by a file's content; decoders that are not named here are never tried."""

SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".png", ".webp", ".bmp", ".gif"})
"""Which files of a folder are looked at; what they hold is decided by their content."""

_BEHIND_TRANSPARENT = (255, 255, 255)


class UnreadableImage(ValueError):  # noqa: N818 - it names the file's state, not a failure of the program
    """An image file that is refused; the message is the reason."""


@dataclass(frozen=True)
class ImageLimits:
    """What a file may hold, checked before its pixels are decoded."""

    file_bytes: int = 64 << 20
    pixels: int = 50_000_000
    smallest_side: int = 8
    aspect: float = 16.0


def read_image(path: Path, size: int | None, limits: ImageLimits | None = None) -> np.ndarray:
    """An image file as uint8 [size, size, 3]: upright (EXIF), RGB, transparent parts white, centre square, resized.

    size: None keeps the whole image, uint8 [H, W, 3].
    Raises UnreadableImage with the reason when the file is not a single still image within the limits.
    """
    limits = limits or ImageLimits()
    return decode_image(_read_bytes(path, limits), size, limits)


def decode_image(content: bytes, size: int | None, limits: ImageLimits | None = None) -> np.ndarray:
    """The same for a file's content; its bytes have been counted by whoever read them."""
    try:
        image = _open(content, limits or ImageLimits())
        return np.asarray(_upright_rgb(image)) if size is None else _square(image, size)
    except (UnreadableImage, MemoryError):
        raise
    except Exception as error:  # decoders meet broken data with errors of every kind: to us they all mean one thing
        raise UnreadableImage(f"cannot be decoded ({type(error).__name__}: {error})") from error


def find_image_files(folder: Path) -> list[str]:
    """Image files under a folder by suffix, as sorted paths relative to it; hidden ones and linked folders left out.

    Raises ValueError when the folder does not exist.
    """
    if not folder.is_dir():
        raise ValueError(f"there is no folder {str(folder)!r}: give the path of a folder with image files")
    found = []
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [
            (Path(parent) / name).relative_to(folder).as_posix()
            for name in files
            if not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES
        ]
    return sorted(found)


def read_images(
    folder: Path, names: Sequence[str], size: int, limits: ImageLimits | None = None, num_threads: int = 4
) -> tuple[np.ndarray, list[str], list[tuple[str, str]]]:
    """The readable ones among a folder's files.

    Returns the images uint8 [N, size, size, 3], their names, and (name, reason) of every file that was refused.
    """
    images = np.empty((len(names), size, size, 3), np.uint8)

    def read_into(row: int) -> str | None:
        try:
            images[row] = read_image(folder / names[row], size, limits)
        except UnreadableImage as error:
            return str(error)
        return None

    with ThreadPoolExecutor(num_threads) as pool:
        reasons = list(pool.map(read_into, range(len(names))))
    skipped = [(name, reason) for name, reason in zip(names, reasons, strict=True) if reason is not None]
    kept = [row for row, reason in enumerate(reasons) if reason is None]
    return (images[kept] if skipped else images), [names[row] for row in kept], skipped


def _read_bytes(path: Path, limits: ImageLimits) -> bytes:
    """The content of a regular file; a pipe or a device would block or never end."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise UnreadableImage("is not a regular file")
        with path.open("rb") as file:
            content = file.read(limits.file_bytes + 1)
    except OSError as error:
        raise UnreadableImage(f"cannot be read ({error.strerror})") from error
    if not content:
        raise UnreadableImage("is empty")
    if len(content) > limits.file_bytes:
        raise UnreadableImage(f"is larger than the limit of {limits.file_bytes:,} bytes")
    return content


def _open(content: bytes, limits: ImageLimits) -> Image.Image:
    """The image behind a file's header, its pixels not decoded yet."""
    try:
        image = Image.open(io.BytesIO(content), formats=FORMATS)
    except Image.UnidentifiedImageError:
        raise UnreadableImage(f"holds none of the accepted formats ({', '.join(FORMATS)})") from None
    except Image.DecompressionBombError as error:
        raise UnreadableImage(f"has more than the limit of {limits.pixels:,} pixels") from error
    width, height = image.size
    if width * height > limits.pixels:
        raise UnreadableImage(f"has {width} x {height} pixels, more than the limit of {limits.pixels:,}")
    if min(width, height) < limits.smallest_side:
        raise UnreadableImage(f"has {width} x {height} pixels; each side needs {limits.smallest_side} or more")
    if max(width, height) > limits.aspect * min(width, height):
        raise UnreadableImage(f"has {width} x {height} pixels, a shape longer than {limits.aspect:g} to 1")
    # Telephones keep a second picture inside a JPEG ("MPO"): the first one is the photograph.
    if image.format != "MPO" and getattr(image, "is_animated", False):
        raise UnreadableImage("is animated: still images only")
    return image


def _square(image: Image.Image, size: int) -> np.ndarray:
    """The centre square of an image at `size` x `size`; a large JPEG is decoded at a fraction of its size."""
    image.draft("RGB", (2 * size, 2 * size))
    image = _upright_rgb(image)
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    box = (left, top, left + side, top + side)
    return np.asarray(image.resize((size, size), Image.Resampling.LANCZOS, box=box, reducing_gap=3.0))


def _upright_rgb(image: Image.Image) -> Image.Image:
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # 16 bits a pixel: keep the high eight
        return Image.fromarray((np.asarray(image, np.uint32) >> 8).clip(0, 255).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        ground = Image.new("RGBA", image.size, _BEHIND_TRANSPARENT)
        image = Image.alpha_composite(ground, image)
    return image.convert("RGB")
