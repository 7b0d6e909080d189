"""The HTTP client against a small server: it speaks the protocol's words, and keeps its key to itself."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import pytest

from graphdrl.oracle.clients import HttpOracle
from graphdrl.oracle.protocol import Busy, OracleError
from graphdrl.oracle.questions import Answer, Question
from graphdrl.oracle.wire import answer_to_json, question_from_json

QUESTION = Question(np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3), ("hat", "age"))


def answer_all(question: Question) -> Answer:
    """The images' first pixel as the grade of everything."""
    grades = np.repeat(question.images[:, 0, 0, :1].astype(np.float32) % 5, len(question.attributes), axis=1)
    flags = np.zeros(grades.shape, bool)
    ids = tuple("ab" * 16 for _ in question.images)
    return Answer(ids, question.attributes, grades, grades.astype(np.int8), grades * 0, flags, "m", "v", 4)


class Server(HTTPServer):
    """Answers with `reply(path, body) -> (status, headers, body)` and remembers the keys it was shown."""

    def __init__(self, reply) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.reply, self.keys = reply, []
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/oracle"


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        self.server.keys.append(self.headers["Authorization"])
        body = self.rfile.read(int(self.headers["Content-Length"]))
        status, headers, answer = self.server.reply(self.path, body)
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

    def start(reply):
        servers.append(Server(reply))
        return servers[-1]

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def refuse(status: int, reason: str):
    return lambda path, body: (status, {}, json.dumps({"error": reason}).encode())


def test_a_question_goes_out_and_its_answer_comes_back(server_of):
    def reply(path, body):
        assert path == "/oracle/answer"
        return 200, {}, json.dumps(answer_to_json(answer_all(question_from_json(json.loads(body))))).encode()

    server = server_of(reply)
    oracle = HttpOracle(server.url, "a-key")
    answer = oracle.submit(QUESTION).result(timeout=10)
    np.testing.assert_array_equal(answer.expected, answer_all(QUESTION).expected)
    assert server.keys == ["Bearer a-key"]
    oracle.close()


def test_a_full_queue_is_busy_and_holds_the_next_question_off(server_of):
    oracle = HttpOracle(server_of(refuse(429, "the queue is full")).url, "a-key")
    with pytest.raises(Busy, match="the queue is full"):
        oracle.submit(QUESTION).result(timeout=10)
    with pytest.raises(Busy, match="ask again later"):
        oracle.submit(QUESTION)
    oracle.close()


@pytest.mark.parametrize(
    ("status", "kind"), [(400, ValueError), (413, ValueError), (401, OracleError), (503, OracleError)]
)
def test_a_refusal_carries_its_reason(server_of, status, kind):
    oracle = HttpOracle(server_of(refuse(status, "because")).url, "a-key")
    with pytest.raises(kind, match="because"):
        oracle.submit(QUESTION).result(timeout=10)
    oracle.close()


def test_something_else_at_the_address_is_an_oracle_error(server_of):
    oracle = HttpOracle(server_of(lambda path, body: (500, {}, b"<html>")).url, "a-key")
    with pytest.raises(OracleError, match="HTTP status 500"):
        oracle.submit(QUESTION).result(timeout=10)
    oracle.close()


def test_the_key_does_not_follow_a_redirect(server_of):
    other = server_of(refuse(400, "never asked"))
    here = server_of(lambda path, body: (307, {"Location": other.url}, b""))
    oracle = HttpOracle(here.url, "a-key")
    with pytest.raises(OracleError, match="HTTP status 307"):
        oracle.submit(QUESTION).result(timeout=10)
    assert other.keys == []
    oracle.close()


def test_questions_in_flight_are_bounded_and_given_up_when_the_client_is_closed(server_of):
    begun, may_answer = threading.Event(), threading.Event()

    def reply(path, body):
        begun.set()
        may_answer.wait(10)
        return 503, {}, b"{}"

    oracle = HttpOracle(server_of(reply).url, "a-key", max_pending=1)
    oracle.submit(QUESTION)
    begun.wait(10)
    with pytest.raises(Busy, match="1 questions are in flight"):
        oracle.submit(QUESTION)
    may_answer.set()
    oracle.close()
    with pytest.raises(OracleError, match="was closed"):
        oracle.submit(QUESTION)


def test_an_address_is_http(tmp_path):
    with pytest.raises(ValueError, match="starts with http"):
        HttpOracle(f"file://{tmp_path}", "a-key")
