"""The HTTP door: no key, no answer; limits before parsing and decoding; what goes wrong has a status and a type."""

import asyncio
import json

import httpx
import numpy as np
import pytest
from answering import KEY, KINDS, QUESTION, Oracle, answer_to, body_of, call, refused

from graphdrl.oracle.protocol import Busy, Late, OracleError
from graphdrl.oracle.questions import Question
from graphdrl.oracle.wire import CODECS, MOST_BYTES, codec_of
from serve import doors
from serve.doors import make_app
from serve.engine import EngineLost


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
