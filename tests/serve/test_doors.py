"""The HTTP door: no key, no answer; limits before parsing and decoding; what goes wrong has a status and a type."""

import asyncio
import base64
import io
import json
import re
import struct
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import openai
import pytest
from answering import KEY, Oracle, answer_to, chunk, served
from PIL import Image

from graphdrl.oracle.http_client import HttpOracle
from graphdrl.oracle.pixels import to_base64
from graphdrl.oracle.protocol import Busy, Late, OracleError
from graphdrl.oracle.questions import NameQuestion, ProposeQuestion, Question, RankQuestion, RelateQuestion
from graphdrl.oracle.wire import CODECS, MOST_BYTES, codec_of
from graphdrl.relations import CorrelateQuestion
from serve import doors
from serve.doors import make_app
from serve.engine import EngineLost

IMAGES = np.random.default_rng(0).integers(0, 256, (30, 8, 8, 3), dtype=np.uint8)
QUESTION = Question(IMAGES[:2], ("hat",))
KINDS = [
    QUESTION,
    RankQuestion(IMAGES[:3], IMAGES[3:6], ("hat", "age")),
    RelateQuestion(("hat", "age")),
    NameQuestion(IMAGES[:6].reshape(2, 3, 8, 8, 3)),
    ProposeQuestion(IMAGES[:4], most=3),
    CorrelateQuestion(IMAGES, ("hat", "age")),
]
CHAT = {"model": "m", "messages": [{"role": "user", "content": "Hello"}]}


def body_of(question=QUESTION) -> bytes:
    return codec_of(question).question_to_json(question)


def call(oracle, body=b"", *, path="/answer", method="POST", key=KEY, headers=(), prefix=""):
    """(status, body, number of body parts that were read, headers), as an ASGI server sees them."""
    parts = [body[start : start + (1 << 20)] for start in range(0, len(body), 1 << 20)] or [b""]
    read, sent = [], []

    async def receive():
        if len(read) == len(parts):
            await asyncio.Event().wait()
        read.append(1)
        return {"type": "http.request", "body": parts[len(read) - 1], "more_body": len(read) < len(parts)}

    async def send(message):
        sent.append(message)

    given = [(b"authorization", f"Bearer {key}".encode())] if key else []
    scope = {"type": "http", "method": method, "path": prefix + path, "root_path": prefix, "query_string": b""}
    scope |= {"headers": [*given, *headers], "asgi": {"spec_version": "2.3"}}
    asyncio.run(make_app(oracle, KEY)(scope, receive, send))
    answer = b"".join(message.get("body", b"") for message in sent[1:])
    return sent[0]["status"], answer, len(read), {name.decode(): value.decode() for name, value in sent[0]["headers"]}


def refused(oracle, body=b"", **how):
    """(status, type, message) of a refusal, which has one shape."""
    status, answer, *_ = call(oracle, body, **how)
    error = json.loads(answer)["error"]
    assert set(error) == {"type", "message"}
    return status, error["type"], error["message"]


@pytest.mark.parametrize("question", KINDS, ids=lambda question: type(question).__name__)
@pytest.mark.parametrize("prefix", ["", "/oracle"])
def test_every_kind_of_question_has_its_route_and_is_answered(question, prefix):
    codec, oracle = codec_of(question), Oracle()
    status, answer, *_ = call(oracle, body_of(question), path=f"/{codec.route}", prefix=prefix)
    assert status == 200
    assert answer == codec.answer_to_json(answer_to(question))
    assert [type(asked) for asked in oracle.questions] == [type(question)]


def test_all_kinds_are_tried_here():
    assert {type(question) for question in KINDS} == set(CODECS)


def test_grades_are_answered_under_their_own_name_too():
    assert call(Oracle(), body_of(), path="/score")[:2] == call(Oracle(), body_of(), path="/answer")[:2]


def test_counts_and_metrics_can_be_read():
    status, counts, _, _ = call(Oracle(), method="GET", path="/stats")
    assert (status, json.loads(counts)["questions"]) == (200, 0)
    status, text, _, headers = call(Oracle(), method="GET", path="/metrics")
    assert (status, text) == (200, b"questions_total 0\n")
    assert headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"


@pytest.mark.parametrize("key", ["", "another", KEY + "x", KEY[:-1]])
@pytest.mark.parametrize("path", ["/answer", "/stats", "/metrics", "/openapi.json", "/v1/models", "/else"])
def test_without_the_key_nothing_is_read_or_asked(key, path):
    oracle = Oracle()
    status, answer, num_read, headers = call(oracle, body_of(), path=path, key=key)
    assert (status, num_read, oracle.questions) == (401, 0, [])
    assert json.loads(answer)["error"]["type"] == "unauthorised"
    assert "Bearer KEY" in json.loads(answer)["error"]["message"]
    assert headers["www-authenticate"] == "Bearer"


def test_an_announced_size_beyond_the_limit_is_not_read():
    announced = [(b"content-length", str(MOST_BYTES + 1).encode())]
    status, kind, message = refused(Oracle(), headers=announced)
    assert (status, kind) == (413, "too_large")
    assert "ask about fewer images at once" in message
    assert call(Oracle(), headers=announced)[2] == 0


@pytest.mark.parametrize("path", ["/answer", "/v1/chat/completions"])
def test_a_size_that_was_not_announced_is_cut_off(path):
    status, _, num_read, _ = call(Oracle(), b"x" * (MOST_BYTES + (4 << 20)), path=path)
    assert (status, num_read) == (413, MOST_BYTES // (1 << 20) + 1)


@pytest.mark.parametrize("body", [b"{", b"[" * 100_000, b"[]", b'{"images": 1}', b""])
@pytest.mark.parametrize("path", ["/answer", "/correlate", "/name"])
def test_what_is_no_question_is_a_400(body, path):
    oracle = Oracle()
    assert refused(oracle, body, path=path)[:2] == (400, "not_a_question")
    assert oracle.questions == []


@pytest.mark.parametrize(
    ("error", "status", "kind", "waits"),
    [
        (Busy("full"), 429, "busy", True),
        (Late("too late"), 504, "late", False),
        (OracleError("no model"), 503, "unavailable", False),
        (EngineLost("a replica was lost"), 503, "unavailable", True),
        (ValueError("no such attribute"), 400, "not_a_question", False),
    ],
)
def test_what_goes_wrong_has_its_own_status_and_says_why(error, status, kind, waits):
    assert refused(Oracle(error), body_of()) == (status, kind, str(error))
    assert call(Oracle(error), body_of())[3].get("retry-after") == ("1" if waits else None)


def test_an_error_of_ours_is_logged_and_shows_nobody_its_inside(caplog):
    status, kind, message = refused(Oracle(KeyError("/secret/path")), body_of())
    assert (status, kind) == (500, "failed")
    assert "secret" not in message
    assert "KeyError: '/secret/path'" in caplog.text


def test_other_routes_and_methods_are_named():
    assert refused(Oracle(), path="/else") == (
        404,
        "no_route",
        "there is no route /else: GET /openapi.json lists those that there are",
    )
    assert refused(Oracle(), method="GET") == (405, "no_route", "/answer is there for POST, not for GET")
    assert call(Oracle(), method="GET")[3]["allow"] == "POST"


def test_a_client_that_goes_away_takes_its_question_along():
    async def run() -> Oracle:
        oracle = Oracle(gate=asyncio.Event())
        body = iter([{"type": "http.request", "body": body_of(), "more_body": False}])

        async def receive():
            for message in body:
                return message
            while not oracle.questions:
                await asyncio.sleep(0)
            return {"type": "http.disconnect"}

        async def send(_):
            pass

        headers = [(b"authorization", f"Bearer {KEY}".encode())]
        scope = {"type": "http", "method": "POST", "path": "/answer", "query_string": b"", "headers": headers}
        await asyncio.wait_for(make_app(oracle, KEY)(scope, receive, send), 10)
        return oracle

    assert asyncio.run(run()).num_cancelled == 1


def test_what_a_server_gives_up_takes_its_question_along():
    async def run() -> Oracle:
        oracle = Oracle(gate=asyncio.Event())
        transport = httpx.ASGITransport(make_app(oracle, KEY))
        async with httpx.AsyncClient(transport=transport, base_url="http://door") as client:
            asking = client.post("/answer", content=body_of(), headers={"Authorization": f"Bearer {KEY}"})
            task = asyncio.create_task(asking)
            while not oracle.questions:
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait({task})
        return oracle

    assert asyncio.run(run()).num_cancelled == 1


def test_questions_cannot_fill_the_memory_together(monkeypatch):
    monkeypatch.setattr(doors, "MOST_HELD_BYTES", 5_000)
    large = Question(np.zeros((20, 8, 8, 3), np.uint8), ("hat",))

    async def run() -> list[int]:
        oracle = Oracle(gate=asyncio.Event())
        transport = httpx.ASGITransport(make_app(oracle, KEY))
        headers = {"Authorization": f"Bearer {KEY}"}
        async with httpx.AsyncClient(transport=transport, base_url="http://door", headers=headers) as client:
            first = asyncio.create_task(client.post("/answer", content=body_of(large)))
            while not oracle.questions:
                await asyncio.sleep(0)
            second = await client.post("/answer", content=body_of(large))
            oracle.gate.set()
            third = await client.post("/answer", content=body_of(QUESTION))
            return [(await first).status_code, second.status_code, third.status_code]

    assert asyncio.run(run()) == [200, 429, 200]


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


@pytest.fixture(scope="module")
def door():
    """A running door: its address, and the oracle behind it."""
    oracle = Oracle()
    with served(oracle) as url:
        yield url, oracle


@pytest.fixture
def behind(door):
    """The oracle behind the running door, which a test may tell what to do."""
    yield door[1]
    door[1].error = door[1].gate = None


def until(happened) -> None:
    give_up_at = time.monotonic() + 30
    while not happened():
        assert time.monotonic() < give_up_at
        time.sleep(0.01)


@pytest.fixture
def chat(door):
    with openai.OpenAI(base_url=f"{door[0]}/v1", api_key=KEY, max_retries=0) as client:
        yield client


def test_the_http_client_asks_every_kind_of_question_through_the_door(door):
    oracle = HttpOracle(door[0], KEY)
    answers = [oracle.submit(question).result(timeout=60) for question in KINDS]
    for question, answer in zip(KINDS, answers, strict=True):
        codec = codec_of(question)
        assert codec.answer_to_json(answer) == codec.answer_to_json(answer_to(question))
    assert oracle.stats()["questions"] >= len(KINDS)
    oracle.close()


def test_a_question_that_its_client_gives_up_is_cancelled_behind_the_door(behind, door):
    oracle, before, cancelled = HttpOracle(door[0], KEY), len(behind.questions), behind.num_cancelled
    behind.gate = asyncio.Event()
    future = oracle.submit(QUESTION)
    until(lambda: len(behind.questions) > before)
    future.cancel()
    until(lambda: behind.num_cancelled > cancelled)
    oracle.close()


def test_a_chat_whose_reader_goes_away_ends(door, chat, monkeypatch):
    ended = []

    async def endless(body):
        try:
            while True:
                yield chunk("3")
                await asyncio.sleep(0.01)
        finally:
            ended.append(True)

    monkeypatch.setattr(door[1], "chat_stream", endless)
    with chat.chat.completions.create(**CHAT, stream=True) as chunks:
        assert next(iter(chunks)).choices[0].delta.content == "3"
    until(lambda: ended)


def test_openai_chats_about_an_image(door, chat):
    image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{to_base64(IMAGES[:1])[0]}"}}
    text = {"type": "text", "text": "Rate the image with one digit, from 0 to 5. Attribute: hat"}
    messages = [{"role": "user", "content": [image, text]}]
    answer = chat.chat.completions.create(model="m", messages=messages, max_tokens=1, temperature=0)
    assert answer.choices[0].message.content == "3"
    assert door[1].chats[-1] == {"model": "m", "messages": messages, "max_tokens": 1, "temperature": 0}
    assert [model.id for model in chat.models.list()] == ["m"]


def test_openai_reads_an_answer_as_it_is_written(chat):
    with chat.chat.completions.create(**CHAT, stream=True) as chunks:
        assert [part.choices[0].delta.content for part in chunks] == ["3", " and", " more"]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (Busy("full"), openai.RateLimitError),
        (ValueError("no such model"), openai.BadRequestError),
        (OracleError("no model"), openai.InternalServerError),
        (KeyError("secret"), openai.InternalServerError),
    ],
)
def test_openai_raises_its_own_errors(behind, chat, error, kind, stream):
    behind.error = error
    with pytest.raises(kind) as raised:
        chat.chat.completions.create(**CHAT, stream=stream)
    assert "secret" not in str(raised.value)
    assert raised.value.code == raised.value.type


def test_openai_is_told_of_a_wrong_key_and_a_wrong_route(door, chat):
    stranger = chat.with_options(api_key="another")
    with pytest.raises(openai.AuthenticationError, match="Bearer KEY"):
        stranger.models.list()
    with pytest.raises(openai.NotFoundError, match="no route /v1/embeddings"):
        chat.embeddings.create(model="m", input="text")


@pytest.mark.parametrize("field", [{"tools": []}, {"chat_template": "{{ x }}"}, {"n": 1000}, {"max_tokens": 10**9}])
def test_what_the_chat_does_not_take_is_said(chat, field):
    with pytest.raises(openai.BadRequestError, match=next(iter(field))):
        chat.chat.completions.create(**CHAT, extra_body=field)


def test_what_goes_wrong_while_an_answer_is_written_is_told_at_its_end(door, chat, monkeypatch):
    async def broken(body):
        yield chunk("3")
        raise EngineLost("a replica was lost")

    monkeypatch.setattr(door[1], "chat_stream", broken)
    words = []
    with pytest.raises(openai.APIError, match="a replica was lost"):
        words += [part.choices[0].delta.content for part in chat.chat.completions.create(**CHAT, stream=True)]
