"""Clients of a running oracle: through a Ray Serve handle inside the cluster, through HTTP from anywhere else."""

import asyncio
import logging
import time
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

from tenacity import AsyncRetrying, before_sleep_log, retry_if_exception_type, stop_after_delay, wait_random_exponential

from graphdrl.oracle.http_client import AsyncHttpOracle, HttpOracle
from graphdrl.oracle.pending import Background, Pending
from graphdrl.oracle.protocol import Busy, Late, OracleError
from graphdrl.oracle.questions import A, Ask

__all__ = ["AsyncHttpOracle", "HandleOracle", "HttpOracle"]

logger = logging.getLogger(__name__)

_LOOK_AFTER_S = 5.0
"""How long a question may go unanswered before the application is looked at."""


class _Lost(OracleError):  # noqa: N818 - it names what happened
    """The front died with the question; the one that takes its place will answer, from what was kept where it can."""


class HandleOracle:
    """The oracle application of this Ray cluster, asked through its handle; see `Oracle`. Ray must be initialised.

    Images travel as arrays through Ray's object store. A question that the full queue refuses, or that is lost with the
    front, is asked again by itself, until its deadline or for `give_up_after_s`.

    max_pending: questions in flight at once; `submit` raises Busy beyond.
    """

    def __init__(self, application: str = "oracle", max_pending: int = 64, give_up_after_s: float = 300.0) -> None:
        """Raises OracleError when no such application was deployed."""
        from ray import serve as ray_serve
        from ray.serve.exceptions import RayServeException

        self._application, self._give_up_after_s = application, give_up_after_s
        try:
            self._handle = ray_serve.get_app_handle(application).options(method_name="answer")
        except RayServeException as error:
            raise OracleError(
                f"no application {application!r} runs on this Ray cluster: start it with `graphdrl serve oracle`"
            ) from error
        self._pending = Pending(max_pending)
        self._looked_at = time.monotonic()
        self._background = Background("oracle client")

    def submit(self, question: Ask[A]) -> "Future[A]":
        self._pending.check()
        return self._pending.add(self._background.start(self._ask_until(question)))

    def close(self) -> None:
        self._pending.cancel_all()
        self._background.close()

    async def _ask_until(self, question: Ask[A]) -> A:
        """Ask, and again when the oracle is busy or was lost, while there is time."""
        started = time.monotonic()
        patience = AsyncRetrying(
            retry=retry_if_exception_type((Busy, _Lost)),
            wait=wait_random_exponential(multiplier=0.25, max=4),
            stop=stop_after_delay(self._give_up_after_s),
            before_sleep=before_sleep_log(logger, logging.DEBUG),
            reraise=True,
        )
        async for attempt in patience:
            with attempt:
                return await self._ask(_in_time(question, time.monotonic() - started))
        raise AssertionError("the last attempt returns or raises")

    async def _ask(self, question: Ask[A]) -> A:
        from ray.exceptions import RayError, RayTaskError
        from ray.serve.exceptions import RayServeException

        response: Any = self._handle.remote(question)
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
            await self._look()
            reason = str(error).strip().splitlines()[0]
            raise _Lost(f"the oracle {self._application!r} was lost: {reason}") from error

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
            return "STOPPED", "it was stopped; start it again with `graphdrl serve oracle`"
        return str(application.status.value), (application.message.strip().splitlines() or [""])[-1]


def _in_time(question: Ask[A], passed_s: float) -> Ask[A]:
    """The same question with what is left of its time; raises Late when nothing is."""
    if question.deadline_s is None:
        return question
    if passed_s >= question.deadline_s:
        raise Late(f"the oracle did not answer within the question's {question.deadline_s} s")
    return replace(question, deadline_s=question.deadline_s - passed_s)  # type: ignore[type-var]
