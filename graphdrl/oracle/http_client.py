"""The oracle behind its HTTP door, asked from anywhere: with futures, or with await. Both wait when it is busy."""

import asyncio
import json
import random
import time
from concurrent.futures import Future
from typing import Any
from urllib.parse import urlsplit

import httpx

from graphdrl.oracle.bodies import QuestionBody
from graphdrl.oracle.pending import Background, Pending
from graphdrl.oracle.protocol import Busy, Late, OracleError
from graphdrl.oracle.questions import A, Ask
from graphdrl.oracle.wire import MOST_BYTES, codec_of

_MOST_ANSWER_BYTES = 64 << 20
_CONNECT_S = 10.0
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.5, 10.0


class Unauthorised(OracleError):  # noqa: N818 - it names the status
    """The door does not take this key."""


class _Retry(Exception):  # noqa: N818 - it is caught here, never raised out of a client
    """Asking again may help; `error` is what it comes to if it does not. after_s: when the oracle wants it."""

    def __init__(self, error: OracleError, after_s: float | None = None) -> None:
        super().__init__(str(error))
        self.error, self.after_s = error, after_s


class AsyncHttpOracle:
    """The oracle behind its HTTP door, for code that awaits: `await oracle.ask(question)`, for every kind of question.

    A question that is refused because the queue is full, or that is lost with a connection or a front that restarts,
    is asked again after a while: the oracle keeps its answers, so nothing is paid for twice. That ends with the
    question's deadline (Late), or when it was asked in vain for `give_up_after_s` (Busy, or OracleError).
    Other errors: Unauthorised, ValueError for what is no question, OracleError when there is no answer. An address at
    which nobody ever answered is an OracleError at once.

    url: of the application, such as http://127.0.0.1:8000/oracle; token: the door's key.
    timeout_s: how long one request may go without a sign of life.
    """

    def __init__(self, url: str, token: str, give_up_after_s: float = 600.0, timeout_s: float = 600.0) -> None:
        scheme = urlsplit(url).scheme
        if scheme not in ("http", "https"):
            raise ValueError(f"the oracle's address starts with http:// or https://, unlike {url!r}")
        self._url, self._give_up_after_s = url.rstrip("/"), give_up_after_s
        self._client = httpx.AsyncClient(
            headers={"Authorization": f"Bearer {token}"},
            timeout=httpx.Timeout(timeout_s, connect=_CONNECT_S),
            follow_redirects=False,  # the key is for one address
            limits=httpx.Limits(max_connections=None),
            trust_env=scheme == "https",  # without TLS the key goes through nobody's proxy
        )
        self._was_there = False
        self._busy_until = 0.0

    async def ask(self, question: Ask[A]) -> A:
        codec = codec_of(question)
        started = time.monotonic()
        try:
            async with asyncio.timeout(question.deadline_s):
                body = await asyncio.to_thread(codec.body, question)
                content = await self._until_answered(codec.route, body, started)
        except TimeoutError:
            raise Late(f"the oracle did not answer within the question's {question.deadline_s} s") from None
        try:
            return await asyncio.to_thread(codec.answer_from_json, content)
        except ValueError:
            raise OracleError(
                f"what {self._url} answers is no answer to a {type(question).__name__}: is the same version of "
                "graphdrl on both sides?"
            ) from None

    async def stats(self) -> dict[str, Any]:
        """The oracle's counts; a single attempt."""
        try:
            return json.loads(await self._call("GET", "stats", b""))
        except _Retry as retry:
            raise retry.error from None

    async def close(self) -> None:
        await self._client.aclose()

    async def __aenter__(self) -> "AsyncHttpOracle":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _until_answered(self, route: str, body: QuestionBody, started: float) -> bytes:
        wait_s = _FIRST_WAIT_S
        while True:
            await asyncio.sleep(self._busy_until - time.monotonic())
            try:
                return await self._call("POST", route, _with_what_is_left(body, started))
            except _Retry as retry:
                after_s = _jittered(wait_s if retry.after_s is None else retry.after_s)
                if time.monotonic() + after_s > started + self._give_up_after_s:
                    raise retry.error from None
                if isinstance(retry.error, Busy):
                    self._busy_until = time.monotonic() + after_s  # for all the client's questions
                await asyncio.sleep(after_s)
                wait_s = min(2 * wait_s, _LONGEST_WAIT_S)

    async def _call(self, method: str, route: str, content: bytes) -> bytes:
        """The answer's content; raises _Retry when asking again may help, or what the refusal means."""
        try:
            async with self._client.stream(
                method, f"{self._url}/{route}", content=content, headers={"Content-Type": "application/json"}
            ) as response:
                self._was_there = True
                answer = await _content(response)
        except httpx.TransportError as error:
            lost = OracleError(f"there is no answer from {self._url} ({_reason(error)}): does the oracle run there?")
            if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout) and not self._was_there:
                raise lost from error
            raise _Retry(lost) from error
        if response.status_code != 200:
            raise _refused(response, answer)
        return answer


class HttpOracle:
    """The same for code that does not await; see `Oracle` and `AsyncHttpOracle`.

    `submit` returns at once, and raises Busy when `max_pending` questions are in flight.
    """

    def __init__(
        self,
        url: str,
        token: str,
        max_pending: int = 16,
        give_up_after_s: float = 600.0,
        timeout_s: float = 600.0,
    ) -> None:
        self._oracle = AsyncHttpOracle(url, token, give_up_after_s, timeout_s)
        self._pending = Pending(max_pending)
        self._background = Background("oracle client")

    def submit(self, question: Ask[A]) -> "Future[A]":
        self._pending.check()
        return self._pending.add(self._background.start(self._oracle.ask(question)))

    def stats(self) -> dict[str, Any]:
        """The oracle's counts."""
        return self._background.start(self._oracle.stats()).result()

    def close(self) -> None:
        self._pending.cancel_all()
        if not self._background.is_closed:
            self._background.start(self._oracle.close()).result()
        self._background.close()


def _with_what_is_left(body: QuestionBody, started: float) -> bytes:
    """A question as it goes out now: its deadline counts from when it was first asked."""
    if body.deadline_s is not None:
        left_s = max(body.deadline_s - (time.monotonic() - started), 1e-3)
        body = body.model_copy(update={"deadline_s": left_s})
    content = body.model_dump_json().encode()
    if len(content) > MOST_BYTES:
        raise ValueError(
            f"this question has {len(content):,} bytes, more than the limit of {MOST_BYTES:,}: ask about fewer images "
            "at once"
        )
    return content


async def _content(response: httpx.Response) -> bytes:
    parts, num_bytes = [], 0
    async for part in response.aiter_bytes():
        num_bytes += len(part)
        if num_bytes > _MOST_ANSWER_BYTES:
            raise OracleError(
                f"the oracle's answer is larger than {_MOST_ANSWER_BYTES:,} bytes: ask about less at once"
            )
        parts.append(part)
    return b"".join(parts)


def _refused(response: httpx.Response, content: bytes) -> Exception:
    """What a refusal means to whoever asked."""
    status, after_s = response.status_code, _retry_after_s(response)
    try:
        message, is_ours = str(json.loads(content)["error"]["message"]), True
    except (ValueError, KeyError, TypeError):
        message, is_ours = f"HTTP status {status}", False
    if status == 429:
        return _Retry(Busy(message), after_s)
    if status >= 500 and (after_s is not None or not is_ours):
        # What is not ours is from a proxy in between: its front was lost, and another takes its place.
        return _Retry(OracleError(message), after_s)
    kinds = {400: ValueError, 413: ValueError, 401: Unauthorised, 504: Late}
    return kinds.get(status, OracleError)(message)


def _retry_after_s(response: httpx.Response) -> float | None:
    """The seconds of Retry-After, within reason."""
    given = response.headers.get("Retry-After", "")
    return min(max(float(given), _FIRST_WAIT_S), _LONGEST_WAIT_S) if given.isdecimal() else None


def _jittered(wait_s: float) -> float:
    """Not all clients at the same moment."""
    return wait_s * random.uniform(0.75, 1.25)


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__
