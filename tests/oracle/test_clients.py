"""The HTTP client against a small server: it knows the door's words, waits where that helps, keeps its key."""

import asyncio
import json
import threading
import time
from concurrent.futures import CancelledError
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from kinds import KINDS

from graphdrl.oracle import http_client
from graphdrl.oracle.clients import HttpOracle
from graphdrl.oracle.http_client import AsyncHttpOracle, Unauthorised
from graphdrl.oracle.protocol import Busy, Late, OracleError
from graphdrl.oracle.questions import Ask, Question
from graphdrl.oracle.wire import codec_of

QUESTION, ANSWER = KINDS["score"]
CONTENT = codec_of(QUESTION).answer_to_json(ANSWER)


class Server(ThreadingHTTPServer):
    """Answers with `reply(path, body) -> (status, headers, body)`, or hangs up on None; remembers what it was told."""

    daemon_threads = True

    def __init__(self, reply, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.reply, self.keys, self.bodies = reply, [], []
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/oracle"

    def stop(self) -> None:
        self.shutdown()
        self.server_close()


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        self.server.keys.append(self.headers["Authorization"])
        self.server.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
        replied = self.server.reply(self.path, self.server.bodies[-1])
        if replied is None:
            return
        status, headers, answer = replied
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


@pytest.fixture
def server_of():
    servers = []

    def start(reply, port=0):
        servers.append(Server(reply, port))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@pytest.fixture
def ask(monkeypatch):
    """Asks one question of an address and returns the answer; waits are short."""
    monkeypatch.setattr(http_client, "_FIRST_WAIT_S", 0.01)
    oracles = []

    def answer(url: str, question: Ask = QUESTION, **how):
        oracles.append(HttpOracle(url, "a-key", **how))
        return oracles[-1].submit(question).result(timeout=30)

    yield answer
    for oracle in oracles:
        oracle.close()


def refuse(status: int, reason: str, **headers: str):
    body = json.dumps({"error": {"type": "busy", "message": reason}}).encode()
    return status, {name.replace("_", "-"): value for name, value in headers.items()}, body


def one_after_the_other(*replies):
    """Each reply once, the last one for ever."""
    left = list(replies)
    return lambda path, body: left.pop(0) if len(left) > 1 else left[0]


def answered(path, body):
    return 200, {}, CONTENT


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_question_goes_out_to_its_route_and_its_answer_comes_back(server_of, ask, kind):
    question, answer = KINDS[kind]
    codec, paths = codec_of(question), []

    def reply(path, body):
        paths.append(path)
        assert codec.question_from_json(body).client == "a run"
        return 200, {}, codec.answer_to_json(answer)

    server = server_of(reply)
    assert codec.answer_to_json(ask(server.url + "/", question)) == codec.answer_to_json(answer)
    assert (paths, server.keys) == ([f"/oracle/{codec.route}"], ["Bearer a-key"])


@pytest.mark.parametrize(
    "trouble",
    [
        refuse(429, "full", Retry_After="0"),
        refuse(429, "full"),
        refuse(503, "a replica was lost", Retry_After="0"),
        (503, {}, b"Service Unavailable"),
        (500, {}, b"Internal Server Error"),
        (502, {}, b"<html>"),
        None,
    ],
    ids=["busy", "busy, no hint", "lost engine", "no front", "front died", "gateway", "hung up"],
)
def test_what_passes_is_waited_for(server_of, ask, trouble):
    server = server_of(one_after_the_other(trouble, trouble, (200, {}, CONTENT)))
    np.testing.assert_array_equal(ask(server.url).expected, ANSWER.expected)
    assert len(server.bodies) == 3


@pytest.mark.parametrize(
    ("trouble", "kind", "message"),
    [
        (refuse(429, "the queue is full", Retry_After="0"), Busy, "the queue is full"),
        (refuse(503, "a replica was lost", Retry_After="0"), OracleError, "a replica was lost"),
        ((500, {}, b"<html>"), OracleError, "HTTP status 500"),
        (None, OracleError, "does the oracle run there"),
    ],
)
def test_it_is_not_waited_for_longer_than_was_asked(server_of, ask, trouble, kind, message):
    with pytest.raises(kind, match=message):
        ask(server_of(lambda path, body: trouble).url, give_up_after_s=0.2)


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, ValueError), (413, ValueError), (401, Unauthorised), (504, Late), (503, OracleError), (404, OracleError)],
)
def test_what_does_not_pass_is_said_at_once(server_of, ask, status, kind):
    server = server_of(lambda path, body: refuse(status, "because"))
    with pytest.raises(kind, match="because"):
        ask(server.url)
    assert len(server.bodies) == 1


def test_a_front_that_restarts_loses_no_question(server_of, monkeypatch):
    monkeypatch.setattr(http_client, "_FIRST_WAIT_S", 0.05)
    first = server_of(answered)
    oracle = HttpOracle(first.url, "a-key")
    oracle.submit(QUESTION).result(timeout=30)
    first.stop()
    asked = oracle.submit(QUESTION)
    time.sleep(0.1)
    assert not asked.done()
    server_of(answered, first.server_port)
    np.testing.assert_array_equal(asked.result(timeout=30).expected, ANSWER.expected)
    oracle.close()


def test_an_address_where_nobody_ever_was_is_an_error_at_once(server_of, ask):
    server = server_of(answered)
    server.stop()
    with pytest.raises(OracleError, match=r"no answer from http://127.0.0.1:\d+/oracle .* does the oracle run there"):
        ask(server.url)


def test_a_deadline_ends_the_waiting_and_counts_from_the_first_time_of_asking(server_of, ask):
    server = server_of(lambda path, body: refuse(429, "full", Retry_After="0"))
    with pytest.raises(Late, match=r"within the question's 0\.4 s"):
        ask(server.url, Question(QUESTION.images, ("hat",), deadline_s=0.4))
    left = [json.loads(body)["deadline_s"] for body in server.bodies]
    assert len(left) > 1
    assert left == sorted(left, reverse=True)
    assert 0 < left[-1] < left[0] <= 0.4


def test_after_a_refusal_nothing_is_submitted_for_a_moment(server_of):
    oracle = HttpOracle(server_of(lambda path, body: refuse(429, "full")).url, "a-key", give_up_after_s=0)
    with pytest.raises(Busy, match="full"):
        oracle.submit(QUESTION).result(timeout=30)
    with pytest.raises(Busy, match="ask again later"):
        oracle.submit(QUESTION)
    oracle.close()


@pytest.mark.parametrize("content", [b"{}", b"<html>", b'{"expected": [[1]]}'])
def test_what_is_no_answer_is_said_to_be_none(server_of, ask, content):
    with pytest.raises(OracleError, match="no answer to a Question: is the same version"):
        ask(server_of(lambda path, body: (200, {}, content)).url)


def test_an_answer_without_end_is_not_read_to_its_end(server_of, ask, monkeypatch):
    monkeypatch.setattr(http_client, "_MOST_ANSWER_BYTES", 1000)
    with pytest.raises(OracleError, match="larger than 1,000 bytes"):
        ask(server_of(lambda path, body: (200, {}, b" " * 100_000)).url)


def test_what_the_door_would_refuse_is_not_sent(server_of, ask, monkeypatch):
    server = server_of(answered)
    with pytest.raises(ValueError, match="cannot be an attribute"):
        ask(server.url, Question(QUESTION.images, ("hat\nAnswer 5",)))
    monkeypatch.setattr(http_client, "MOST_BYTES", 100)
    with pytest.raises(ValueError, match="more than the limit of 100: ask about fewer images"):
        ask(server.url)
    assert server.bodies == []


def test_the_key_follows_no_redirect_and_takes_no_way_through_a_proxy(server_of, ask, monkeypatch):
    other = server_of(lambda path, body: refuse(400, "never asked"))
    here = server_of(lambda path, body: (307, {"Location": other.url}, b""))
    monkeypatch.setenv("HTTP_PROXY", other.url)
    monkeypatch.setenv("ALL_PROXY", other.url)
    with pytest.raises(OracleError, match="HTTP status 307"):
        ask(here.url)
    assert other.keys == []


def test_questions_in_flight_are_bounded_and_given_up_when_the_client_is_closed(server_of):
    begun, may_answer = threading.Event(), threading.Event()

    def reply(path, body):
        begun.set()
        may_answer.wait(10)

    oracle = HttpOracle(server_of(reply).url, "a-key", max_pending=1)
    pending = oracle.submit(QUESTION)
    begun.wait(10)
    with pytest.raises(Busy, match="1 questions are in flight"):
        oracle.submit(QUESTION)
    oracle.close()
    may_answer.set()
    with pytest.raises(CancelledError):
        pending.result(timeout=10)
    with pytest.raises(OracleError, match="was closed"):
        oracle.submit(QUESTION)
    oracle.close()


@pytest.mark.parametrize("kind", [HttpOracle, AsyncHttpOracle])
def test_an_address_is_http(tmp_path, kind):
    with pytest.raises(ValueError, match="starts with http"):
        kind(f"file://{tmp_path}", "a-key")


def test_questions_can_be_awaited_many_at_a_time(server_of):
    most, now, lock = [], [], threading.Lock()

    def reply(path, body):
        with lock:
            now.append(1)
            most.append(len(now))
        time.sleep(0.1)
        with lock:
            now.pop()
        return 200, {}, CONTENT

    async def ask_all(url):
        async with AsyncHttpOracle(url, "a-key") as oracle:
            return await asyncio.gather(*(oracle.ask(QUESTION) for _ in range(20)))

    answers = asyncio.run(ask_all(server_of(reply).url))
    assert len(answers) == 20
    assert max(most) > 1


def test_a_kind_of_question_that_no_door_knows_is_an_error(server_of, ask):
    class Other(Ask[int]):
        pass

    with pytest.raises(OracleError, match="a Other cannot be asked through HTTP"):
        ask(server_of(answered).url, Other())
