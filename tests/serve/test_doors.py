"""The HTTP door, called as an ASGI server would call it: no key, no answer; limits before parsing."""

import asyncio
import json

import numpy as np
import pytest
from starlette.requests import Request as HttpRequest

from graphdrl.oracle.protocol import Busy, OracleError
from graphdrl.oracle.questions import Answer, Question
from graphdrl.oracle.wire import MOST_BYTES, answer_from_json, question_to_json
from serve.doors import answer_http

KEY = "a-key"
QUESTION = Question(np.zeros((2, 8, 8, 3), np.uint8), ("hat",))


class Oracle:
    """Answers 3 to everything, or raises what it was given."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error, self.num_questions = error, 0

    async def answer(self, question: Question) -> Answer:
        self.num_questions += 1
        if self.error is not None:
            raise self.error
        shape = len(question.images), len(question.attributes)
        expected, ids = np.full(shape, 3, np.float32), ("0" * 32,) * shape[0]
        flags = np.zeros(shape, bool)
        return Answer(ids, question.attributes, expected, expected.astype(np.int8), expected * 0, flags, "m", "v", 2)

    async def stats(self):
        return {"questions": self.num_questions}


def call(oracle, body=b"", *, path="/oracle/answer", method="POST", key=KEY, headers=()):
    """(status, JSON body, number of body parts that were read)."""
    parts = [body[start : start + (1 << 20)] for start in range(0, len(body), 1 << 20)] or [b""]
    read = []

    async def receive():
        read.append(1)
        return {"type": "http.request", "body": parts[len(read) - 1], "more_body": len(read) < len(parts)}

    given = [(b"authorization", f"Bearer {key}".encode())] if key else []
    scope = {"type": "http", "method": method, "path": path, "query_string": b"", "headers": [*given, *headers]}
    response = asyncio.run(answer_http(HttpRequest(scope, receive), oracle, KEY))
    return response.status_code, json.loads(response.body), len(read)


def question_body() -> bytes:
    return json.dumps(question_to_json(QUESTION)).encode()


def test_a_question_is_answered():
    status, data, _ = call(Oracle(), question_body())
    assert status == 200
    answer = answer_from_json(data)
    assert answer.expected.tolist() == [[3.0], [3.0]]
    assert answer.attributes == ("hat",)


def test_the_counts_can_be_read():
    assert call(Oracle(), method="GET", path="/oracle/stats")[:2] == (200, {"questions": 0})


@pytest.mark.parametrize("key", ["", "another", KEY + "x"])
def test_without_the_key_nothing_is_read_or_asked(key):
    oracle = Oracle()
    status, data, num_read = call(oracle, question_body(), key=key)
    assert status == 401
    assert "Bearer" in data["error"]
    assert (oracle.num_questions, num_read) == (0, 0)


def test_an_announced_size_beyond_the_limit_is_not_read():
    status, data, num_read = call(Oracle(), headers=[(b"content-length", str(MOST_BYTES + 1).encode())])
    assert (status, num_read) == (413, 0)
    assert "fewer images" in data["error"]


def test_a_size_that_was_not_announced_is_cut_off():
    status, _, num_read = call(Oracle(), b"x" * (MOST_BYTES + (4 << 20)))
    assert status == 413
    assert num_read == MOST_BYTES // (1 << 20) + 1


@pytest.mark.parametrize(
    ("body", "reason"),
    [(b"{", "not JSON"), (b"[" * 100_000, "not JSON"), (b"[]", "JSON object"), (b'{"images": 1}', "attributes")],
)
def test_what_is_no_question_is_a_400(body, reason):
    oracle = Oracle()
    status, data, _ = call(oracle, body)
    assert status == 400
    assert reason in data["error"]
    assert oracle.num_questions == 0


@pytest.mark.parametrize(
    ("error", "status"), [(Busy("full"), 429), (OracleError("gone"), 503), (ValueError("no attribute"), 400)]
)
def test_what_goes_wrong_has_its_own_status_and_says_why(error, status):
    assert call(Oracle(error), question_body())[:2] == (status, {"error": str(error)})


def test_other_routes_are_named_as_missing():
    assert call(Oracle(), path="/oracle/else")[0] == 404
    assert call(Oracle(), method="GET")[0] == 404
