"""What the clients of an oracle share: a bound on what is in flight, and a thread in which they wait for answers."""

import asyncio
import threading
import time
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any

from graphdrl.oracle.protocol import Busy, OracleError
from graphdrl.oracle.questions import A

_HOLD_OFF_S = 0.5
"""How long nothing is submitted after the oracle said that it is busy."""

_CLOSE_S = 10.0


class Pending:
    """What one client has in flight, and whether it may ask more.

    most: questions in flight at once.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._futures: set[Future[Any]] = set()
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

    def add(self, future: "Future[A]") -> "Future[A]":
        """Count a question in until it is answered, refused or given up."""
        with self._lock:
            self._futures.add(future)
        future.add_done_callback(self._remove)
        return future

    def cancel_all(self) -> None:
        """Give up what is in flight; nothing more may be asked."""
        self._is_closed = True
        with self._lock:
            futures = list(self._futures)
        for future in futures:
            future.cancel()

    def _remove(self, future: "Future[Any]") -> None:
        if not future.cancelled() and isinstance(future.exception(), Busy):
            self._hold_off_until = time.monotonic() + _HOLD_OFF_S
        with self._lock:
            self._futures.discard(future)


class Background:
    """An event loop in a thread of its own, for clients that must not make their caller wait."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)
        self._thread.start()

    @property
    def is_closed(self) -> bool:
        return self._loop.is_closed()

    def start(self, coroutine: "Coroutine[Any, Any, A]") -> "Future[A]":
        """Run a coroutine there; cancelling the future cancels it."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def close(self) -> None:
        """Wait for what was cancelled to end, then end the thread."""
        if self.is_closed:
            return
        self.start(_all_others()).result(timeout=_CLOSE_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=_CLOSE_S)
        self._loop.close()


async def _all_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    await asyncio.gather(*others, return_exceptions=True)
