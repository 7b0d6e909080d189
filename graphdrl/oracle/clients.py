"""Clients of a running oracle: through a Ray Serve handle inside the cluster, through HTTP from anywhere else."""

import asyncio
import json
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

from graphdrl.oracle.protocol import Busy, OracleError
from graphdrl.oracle.questions import Answer, Question
from graphdrl.oracle.wire import answer_from_json, question_to_json

_HOLD_OFF_S = 0.5
"""How long nothing is submitted after the oracle said that it is busy."""

_LOOK_AFTER_S = 5.0
"""How long a question may go unanswered before the application is looked at."""

_MOST_ANSWER_BYTES = 64 << 20


class _Pending:
    """What one client has in flight, and whether it may ask more."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._futures: set[Future[Answer]] = set()
        self._lock = threading.Lock()
        self._hold_off_until = 0.0
        self._is_closed = False

    def check(self) -> None:
        """Raises Busy when there is enough in flight, or the oracle has just refused a question."""
        if self._is_closed:
            raise OracleError("this client of the oracle was closed: make another")
        if len(self._futures) >= self._most:
            raise Busy(f"{len(self._futures)} questions are in flight already: ask again when one is answered")
        if time.monotonic() < self._hold_off_until:
            raise Busy("the oracle's queue is full: ask again later")

    def add(self, future: Future[Answer]) -> Future[Answer]:
        with self._lock:
            self._futures.add(future)
        future.add_done_callback(self._remove)
        return future

    def cancel_all(self) -> None:
        self._is_closed = True
        with self._lock:
            futures = list(self._futures)
        for future in futures:
            future.cancel()

    def _remove(self, future: Future[Answer]) -> None:
        if not future.cancelled() and isinstance(future.exception(), Busy):
            self._hold_off_until = time.monotonic() + _HOLD_OFF_S
        with self._lock:
            self._futures.discard(future)


class HandleOracle:
    """The oracle application of this Ray cluster, asked through its handle; see `Oracle`. Ray must be initialised.

    A question that the oracle's full queue refuses ends in Busy, and `submit` raises Busy for a moment after.
    """

    def __init__(self, application: str = "oracle", max_pending: int = 64) -> None:
        """Raises OracleError when no such application was deployed."""
        from ray import serve as ray_serve
        from ray.serve.exceptions import RayServeException

        self._application = application
        try:
            self._handle = ray_serve.get_app_handle(application).options(method_name="answer")
        except RayServeException as error:
            raise OracleError(
                f"no application {application!r} runs on this Ray cluster: start it with `graphdrl serve`"
            ) from error
        self._pending = _Pending(max_pending)
        self._looked_at = time.monotonic()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="oracle client", daemon=True)
        self._thread.start()

    def submit(self, question: Question) -> Future[Answer]:
        self._pending.check()
        return self._pending.add(asyncio.run_coroutine_threadsafe(self._ask(question), self._loop))

    def close(self) -> None:
        if self._loop.is_closed():
            return
        self._pending.cancel_all()
        asyncio.run_coroutine_threadsafe(_all_others(), self._loop).result(timeout=10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=10)
        self._loop.close()

    async def _ask(self, question: Question) -> Answer:
        from ray.exceptions import RayError, RayTaskError
        from ray.serve.exceptions import RayServeException

        response = self._handle.remote(question)
        answer = asyncio.ensure_future(response)
        try:
            while not (await asyncio.wait({answer}, timeout=_LOOK_AFTER_S))[0]:
                await self._look()
            return answer.result()
        except asyncio.CancelledError:
            response.cancel()
            raise
        except RayTaskError as error:
            raise error.cause from None
        except (RayError, RayServeException) as error:
            reason = str(error).strip().splitlines()[0]
            raise OracleError(f"the oracle {self._application!r} was lost: {reason}") from error

    async def _look(self) -> None:
        """Raises OracleError when the application will never answer. One question looks for all."""
        if time.monotonic() - self._looked_at < _LOOK_AFTER_S:
            return
        self._looked_at = time.monotonic()
        state, message = await asyncio.to_thread(self._state)
        if state not in ("RUNNING", "DEPLOYING", "UNHEALTHY"):
            raise OracleError(f"the oracle {self._application!r} cannot answer ({state}): {message}")

    def _state(self) -> tuple[str, str]:
        from ray import serve as ray_serve

        application = ray_serve.status().applications.get(self._application)
        if application is None:
            return "STOPPED", "it was stopped; start it again with `graphdrl serve`"
        return str(application.status.value), (application.message.strip().splitlines() or [""])[-1]


async def _all_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    await asyncio.gather(*others, return_exceptions=True)


class HttpOracle:
    """The oracle behind its HTTP door; see `Oracle`.

    url: of the application, such as http://127.0.0.1:8000/oracle; token: the door's key.
    """

    def __init__(self, url: str, token: str, max_pending: int = 16, timeout_s: float = 600.0) -> None:
        if urlsplit(url).scheme not in ("http", "https"):
            raise ValueError(f"the oracle's address starts with http:// or https://, unlike {url!r}")
        self._url, self._token, self._timeout_s = url.rstrip("/"), token, timeout_s
        self._pending = _Pending(max_pending)
        self._pool = ThreadPoolExecutor(min(8, max_pending), "oracle client")
        self._opener = urllib.request.build_opener(_NoRedirects)

    def submit(self, question: Question) -> Future[Answer]:
        self._pending.check()
        return self._pending.add(self._pool.submit(self._ask, question))

    def stats(self) -> dict[str, Any]:
        """The front's counts."""
        return self._call("stats", None)

    def close(self) -> None:
        self._pending.cancel_all()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _ask(self, question: Question) -> Answer:
        return answer_from_json(self._call("answer", json.dumps(question_to_json(question)).encode()))

    def _call(self, route: str, body: bytes | None) -> Any:
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
        request = urllib.request.Request(f"{self._url}/{route}", body, headers)
        try:
            with self._opener.open(request, timeout=self._timeout_s) as response:
                return json.loads(response.read(_MOST_ANSWER_BYTES))
        except urllib.error.HTTPError as error:
            raise _refused(error.code, error.read(1 << 16)) from None
        except OSError as error:
            reason = getattr(error, "reason", error)
            raise OracleError(f"there is no answer from {self._url} ({reason}): does the oracle run there?") from error


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """The key is for one address: it follows no redirect to another."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _refused(status: int, body: bytes) -> Exception:
    try:
        reason = str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        reason = f"HTTP status {status}"
    if status == 429:
        return Busy(reason)
    return ValueError(reason) if status in (400, 413) else OracleError(reason)
