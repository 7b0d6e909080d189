"""What stands behind the HTTP door in its tests - it answers every question, and does as told - and how to call it."""

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields

import numpy as np
import uvicorn

from graphdrl.images.ids import image_ids
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
    Scores,
)
from graphdrl.oracle.wire import codec_of
from graphdrl.relations import CorrelateQuestion, correlate
from serve.counts import ClientCounts
from serve.doors import make_app

KEY = "a-key"
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


def answer_to(question):
    """An answer that fits the question: numbers in bounds, the mean of its pixels among them, one grade malformed."""
    match question:
        case Question():
            shape = len(question.images), len(question.attributes)
            means = question.images.mean(axis=(1, 2, 3)) / 51
            expected = np.repeat(means[:, None], shape[1], axis=1).astype(np.float32)
            argmax, malformed = expected.round().astype(np.int8), np.zeros(shape, bool)
            expected[-1, -1], argmax[-1, -1], malformed[-1, -1] = np.nan, -1, True
            ids, flagged = tuple(image_ids(question.images)), np.zeros(shape[0], bool)
            entropy = expected / 5
            return Answer(
                ids, question.attributes, expected, argmax, entropy, malformed, flagged, "m", "v", malformed.size
            )
        case CorrelateQuestion():
            shape = len(question.images), len(question.attributes)
            grades = np.random.default_rng(0).uniform(0, 5, shape).astype(np.float32)
            ids, ones = tuple(f"{row:032x}" for row in range(shape[0])), np.ones(shape[0], np.float32)
            argmax = grades.astype(np.int8)
            scores = Scores(ids, question.attributes, grades, argmax, grades, ones, ones < 0, "data", "m", "v")
            return correlate(scores, question.estimator, min(20, question.num_bootstrap), question.seed)
        case RankQuestion():
            more = np.full((len(question.first), len(question.attributes)), 0.25, np.float32)
            return RankAnswer(question.attributes, more, question.way, "m", "v", more.size)
        case RelateQuestion():
            half = np.full((len(question.attributes),) * 2, 0.5, np.float32)
            return RelateAnswer(question.attributes, half, half, half, "m", "v", half.size)
        case NameQuestion():
            names = ("hat",) * len(question.strips)
            return NameAnswer(names, np.ones(len(names), np.int8), "m", "v", len(names))
        case ProposeQuestion():
            names = tuple("abcdefghijkl"[: question.most])
            half = np.full(len(names), 0.5, np.float32)
            return ProposeAnswer(names, half, half, "m", "v", len(question.images))
    raise AssertionError(type(question))


class Oracle:
    """Implements `Answering`. error: raised by everything that is asked; gate: what is asked waits for it."""

    def __init__(self, error: Exception | None = None, gate: asyncio.Event | None = None) -> None:
        self.error, self.gate = error, gate
        self.questions, self.chats, self.num_cancelled = [], [], 0

    async def answer(self, question):
        self.questions.append(question)
        await self._wait()
        return answer_to(question)

    async def stats(self):
        counts = {count.name: 0 for count in fields(ClientCounts) if count.name != "latencies"}
        now = {"model": "m", "queued": 0, "in_flight": 0, "stored": 0, "asked_again": 0}
        return counts | now | {"questions": len(self.questions)}

    async def metrics(self):
        return f"questions_total {len(self.questions)}\n".encode()

    async def chat(self, body):
        self.chats.append(body)
        await self._wait()
        choice = {"index": 0, "message": {"role": "assistant", "content": "3"}, "finish_reason": "stop"}
        return {"id": "c", "object": "chat.completion", "created": 1, "model": body["model"], "choices": [choice]}

    async def chat_stream(self, body):
        self.chats.append(body)
        await self._wait()
        for word in ("3", " and", " more"):
            yield chunk(word)
        yield "data: [DONE]\n\n"

    async def models(self):
        return {"object": "list", "data": [{"id": "m", "object": "model", "created": 1, "owned_by": "graphdrl"}]}

    async def _wait(self):
        try:
            if self.gate is not None:
                await self.gate.wait()
        except asyncio.CancelledError:
            self.num_cancelled += 1
            raise
        if self.error is not None:
            raise self.error


def chunk(word: str) -> str:
    return (
        'data: {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": '
        f'[{{"index": 0, "delta": {{"role": "assistant", "content": "{word}"}}, "finish_reason": null}}]}}\n\n'
    )


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


@contextmanager
def served(oracle: Oracle, key: str = KEY, port: int = 0) -> Iterator[str]:
    """The address at which the door to an oracle really is, on the loopback."""
    config = uvicorn.Config(make_app(oracle, key), "127.0.0.1", port, log_level="error", lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = server.force_exit = True
        thread.join(timeout=10)
