"""Hostile images at the HTTP door: one sentence each, hardly any memory, and no address that is fetched."""

import base64
import io
import json
import re
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from answering import CHAT, Oracle, call, refused
from PIL import Image


def file_of(image: Image.Image, kind: str = "png", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def png_that_claims(width: int, height: int) -> bytes:
    """A PNG with a header of that size and hardly any pixels."""

    def part(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(100))
    return b"\x89PNG\r\n\x1a\n" + part(b"IHDR", header) + part(b"IDAT", pixels) + part(b"IEND", b"")


def png_with_text_bomb() -> bytes:
    """A small PNG with a compressed comment of 200 MB."""
    packer = zlib.compressobj(9)
    data = b"note\0\0" + b"".join(packer.compress(bytes(1 << 20)) for _ in range(200)) + packer.flush()
    part = struct.pack(">I", len(data)) + b"zTXt" + data + struct.pack(">I", zlib.crc32(b"zTXt" + data))
    whole = file_of(Image.new("RGB", (8, 8)))
    return whole[:33] + part + whole[33:]


def animated(kind: str) -> bytes:
    frames = [Image.new("RGB", (20, 20), colour) for colour in ("red", "green", "blue")]
    return file_of(frames[0], kind, save_all=True, append_images=frames[1:])


def half(kind: str) -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    whole = file_of(Image.fromarray(noise), kind)
    return whole[: len(whole) // 2]


BAD_FILES = {
    "a bomb by its header": (lambda: png_that_claims(60_000, 60_000), "pixels"),
    "a bomb with its pixels": (lambda: file_of(Image.new("L", (12_000, 12_000))), "more than the limit of 4,000,000"),
    "a bomb in a comment": (png_with_text_bomb, "cannot be decoded"),
    "a long line": (lambda: png_that_claims(1, 100_000), "longer than 16 to 1"),
    "a long line with its pixels": (lambda: file_of(Image.new("L", (100_000, 1))), "longer than 16 to 1"),
    "a header that lies": (lambda: png_that_claims(64, 64), "cannot be decoded"),
    "an animated GIF": (lambda: animated("gif"), "is animated"),
    "an animated WEBP": (lambda: animated("webp"), "is animated"),
    "an animated PNG": (lambda: animated("png"), "is animated"),
    "half a JPEG": (lambda: half("jpeg"), "decoded"),
    "half a PNG": (lambda: half("png"), "decoded"),
    "half a WEBP": (lambda: half("webp"), "decoded|formats"),
    "half a BMP": (lambda: half("bmp"), "decoded|formats"),
    "a PostScript program": (lambda: file_of(Image.new("RGB", (20, 20)), "eps"), "accepted formats"),
    "a TIFF": (lambda: file_of(Image.new("RGB", (20, 20)), "tiff"), "accepted formats"),
    "an SVG that fetches": (lambda: b'<svg><image href="http://127.0.0.1/"/></svg>', "accepted formats"),
    "a path": (lambda: b"/etc/passwd", "accepted formats"),
    "nothing": (lambda: b"", "at least 1 character|accepted formats"),
}


def memory_bytes(what: str) -> int:
    found = re.search(rf"{what}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) << 10


@contextmanager
def within(num_bytes: int) -> Iterator[None]:
    """This process never holds more than that beyond what it holds now."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
    before = memory_bytes("VmRSS")
    yield
    assert memory_bytes("VmHWM") - before < num_bytes


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_hostile_image_is_one_sentence_and_no_memory(name):
    make, reason = BAD_FILES[name]
    image = base64.b64encode(make()).decode()
    oracle = Oracle()
    body = json.dumps({"images": [image], "attributes": ["hat"]}).encode()
    with within(100 << 20):
        status, kind, message = refused(oracle, body)
    assert (status, kind, oracle.questions) == (400, "not_a_question", [])
    assert "\n" not in message
    assert re.search(reason, message)


def test_many_images_that_are_small_as_files_only_are_refused_before_they_fill_the_memory():
    image = base64.b64encode(file_of(Image.new("L", (1900, 1900)))).decode()
    body = json.dumps({"images": [image] * 1000, "attributes": ["hat"]}).encode()
    with within(150 << 20):
        status, kind, message = refused(Oracle(), body)
    assert (status, kind) == (413, "too_large")
    assert "1000 images of 1900 x 1900 pixels" in message


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/a.png", "https://a.example/a.png", "file:///etc/passwd", "/a.png"])
@pytest.mark.parametrize("where", ["images", "chat"])
def test_no_address_is_ever_fetched(url, where):
    oracle = Oracle()
    if where == "images":
        status, _, message = refused(oracle, json.dumps({"images": [url], "attributes": ["hat"]}).encode())
        assert (status, message) == (400, "image 0 is not base64")
    else:
        part = {"type": "image_url", "image_url": {"url": url}}
        body = json.dumps(CHAT | {"messages": [{"role": "user", "content": [part]}]}).encode()
        assert call(oracle, body, path="/v1/chat/completions")[0] == 400
    assert (oracle.questions, oracle.chats) == ([], [])
