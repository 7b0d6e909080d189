"""vLLM as the oracle's engine: one model in this process, stepped by one thread of its own."""

import asyncio
import contextlib
import heapq
import itertools
import logging
import math
import queue
import threading
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from graphdrl.oracle.protocol import OracleError
from serve.engine import EngineLost, Request, Usage, Written
from serve.vllm_start import first_line, start_vllm, use_threads
from serve.wording import Prepared, Wording, read_distribution, read_written

logger = logging.getLogger(__name__)

T = TypeVar("T")

_MOST_PAST = 4096
"""Deadlines of what was answered in time that are kept until they pass."""


@dataclass(eq=False)
class _Call:
    """One call's requests on their way through the engine; settled when the last is answered.

    deadlines: when each request is of no use any more, on the monotonic clock.
    completions: vLLM's answer to each, None where there is none.
    waiting: the engine's number of a request -> its row.
    """

    prepared: Sequence[Prepared | Exception]
    deadlines: list[float]
    loop: asyncio.AbstractEventLoop
    done: "asyncio.Future[None]"
    completions: list[Any] = field(default_factory=list)
    waiting: dict[str, int] = field(default_factory=dict)

    def take(self, output: Any) -> None:
        self.completions[self.waiting.pop(output.request_id)] = output.outputs[0]
        if not self.waiting:
            self.settle()

    def expire(self, number: str) -> None:
        del self.waiting[number]
        if not self.waiting:
            self.settle()

    def settle(self, error: Exception | None = None) -> None:
        def set_done() -> None:
            if not self.done.done():
                self.done.set_result(None) if error is None else self.done.set_exception(error)

        _tell(self.loop, set_done)


@dataclass(eq=False)
class _Stream:
    """One request of vLLM's own server code, whose outputs are handed on as they come; None or an error ends them."""

    prompt: Any
    sampling: Any
    loop: asyncio.AbstractEventLoop
    outputs: "asyncio.Queue[Any]" = field(default_factory=asyncio.Queue)
    waiting: set[str] = field(default_factory=set)

    def take(self, output: Any) -> None:
        _tell(self.loop, self.outputs.put_nowait, output)
        if output.finished:
            self.settle()

    def settle(self, error: Exception | None = None) -> None:
        self.waiting.clear()
        _tell(self.loop, self.outputs.put_nowait, error)


def _tell(loop: asyncio.AbstractEventLoop, function: Callable[..., Any], *arguments: Any) -> None:
    with contextlib.suppress(RuntimeError):  # the loop was closed: nobody waits any more
        loop.call_soon_threadsafe(function, *arguments)


class VllmEngine:
    """Any model that vLLM serves, by name or folder; see `ScoringEngine`.

    The engine core runs in this process (a second one costs 9 s of imports and a copy of every answer); one thread
    steps it, another turns words and images into tokens and tensors meanwhile.
    """

    def __init__(self, model: str, engine_args: dict[str, Any] | None = None, threads: int = 1) -> None:
        """Raises OracleError, in one sentence, when the model cannot be served.

        `startup` then has the seconds that each part of the start took.
        """
        self.model = model
        self.startup: dict[str, float] = {}
        self._inbox: queue.SimpleQueue = queue.SimpleQueue()
        self._asked: dict[str, _Call | _Stream] = {}
        self._due: list[tuple[float, str]] = []
        self._numbers = itertools.count()
        self._usage = Usage()
        self._error: Exception | None = None
        self._ready = threading.Event()
        self._wordsmith = ThreadPoolExecutor(1, "wording", lambda: use_threads(threads))
        arguments = (engine_args or {}, threads)
        self._thread = threading.Thread(target=self._run, args=arguments, name="vllm", daemon=True)
        self._thread.start()
        self._ready.wait()
        if self._error is not None:
            raise self._error

    async def probabilities(self, requests: list[Request]) -> np.ndarray:
        widths = {len(request.allowed_tokens) for request in requests}
        if len(widths) > 1 or 0 in widths:
            raise ValueError("the requests of one call need the same number of allowed tokens, and at least one")
        call = await self._ask(requests, writes=False)
        answers = np.full((len(requests), max(widths, default=0)), np.nan, np.float32)
        for row, (prepared, completion) in enumerate(zip(call.prepared, call.completions, strict=True)):
            if isinstance(prepared, Prepared) and completion is not None:
                answers[row] = read_distribution(completion, prepared.allowed)
        return answers

    async def generate(self, requests: list[Request]) -> list[Written]:
        call = await self._ask(requests, writes=True)
        return [
            read_written(request, prepared, completion, self._decode)
            for request, prepared, completion in zip(requests, call.prepared, call.completions, strict=True)
        ]

    async def stream(self, prompt: Any, sampling: Any) -> AsyncGenerator[Any, None]:
        """vLLM's outputs for a prompt and sampling parameters that its own server code made, as they come.

        Raises vLLM's errors about the request, EngineLost when the engine broke down. Giving up frees the engine.
        """
        await self.health()
        asked = _Stream(prompt, sampling, asyncio.get_running_loop())
        self._inbox.put(asked)
        try:
            await self.health()
            while (output := await asked.outputs.get()) is not None:
                if isinstance(output, Exception):
                    raise output
                yield output
        finally:
            self._inbox.put((asked,))

    async def word(self, function: Callable[..., T], *arguments: Any) -> T:
        """Run what turns words and images into tokens: its tokenizer and processor are used by one thread alone."""
        await self.health()
        return await asyncio.get_running_loop().run_in_executor(self._wordsmith, function, *arguments)

    @property
    def vllm(self) -> Any:
        """vLLM's `LLMEngine`, whose configuration and renderer its server code reads; it is stepped here alone."""
        return self._engine

    async def health(self) -> None:
        if self._error is not None:
            raise self._error
        if not self._thread.is_alive():
            raise EngineLost(f"the engine of model {self.model!r} has stopped")

    def usage(self) -> Usage:
        return self._usage

    def close(self) -> None:
        self._inbox.put(None)
        self._thread.join(timeout=30)
        self._wordsmith.shutdown(wait=False, cancel_futures=True)

    async def _ask(self, requests: list[Request], writes: bool) -> _Call:
        loop = asyncio.get_running_loop()
        now = time.monotonic()
        deadlines = [math.inf if one.deadline_s is None else now + one.deadline_s for one in requests]
        call = _Call((), deadlines, loop, loop.create_future(), [None] * len(requests))
        try:
            call.prepared = await self.word(self._wording.prepare, requests, writes)
            self._inbox.put(call)
            await self.health()  # whoever put it too late for the engine's last look would wait for ever
            await call.done
        except asyncio.CancelledError:
            self._inbox.put((call,))
            raise
        return call

    def _decode(self, tokens: list[int]) -> str:
        return self._engine.get_tokenizer().decode(tokens, skip_special_tokens=True)

    # What follows runs in the engine's own thread.

    def _run(self, engine_args: dict[str, Any], threads: int) -> None:
        try:
            started = start_vllm(self.model, engine_args, threads)
            self._engine, self.startup = started.engine, started.seconds
            self._wording = Wording(self._engine.renderer, self.model)
        except Exception as error:
            self._error = error if isinstance(error, OracleError) else self._cannot_start(error)
            self._error.__cause__ = error.__cause__ if self._error is error else error
            return
        finally:
            self._ready.set()
        try:
            while self._receive():
                self._expire()
                self._step()
            self._fail(EngineLost(f"the engine of model {self.model!r} was closed"))
        except Exception as error:
            self._fail(EngineLost(f"the engine of model {self.model!r} broke down: {first_line(error)}"))
        self._engine.engine_core.shutdown()

    def _cannot_start(self, error: Exception) -> OracleError:
        way_out = "check oracle.model, and oracle.engine_args if the model needs other memory or length limits"
        if isinstance(error, ModuleNotFoundError):
            way_out = f"install the {error.name} that matches this torch"
        return OracleError(f"model {self.model!r} cannot be served by vLLM ({first_line(error)}): {way_out}")

    def _receive(self) -> bool:
        """Take in what was asked or given up, waiting only when there is nothing to do; False when closed."""
        while True:
            try:
                message = self._inbox.get(block=not self._asked)
            except queue.Empty:
                return True
            if message is None:
                return False
            if isinstance(message, _Call):
                self._add(message)
            elif isinstance(message, _Stream):
                self._add_stream(message)
            else:
                self._give_up(message[0])

    def _add(self, call: _Call) -> None:
        for row, (prepared, deadline) in enumerate(zip(call.prepared, call.deadlines, strict=True)):
            if isinstance(prepared, Exception):
                logger.warning("model %r refused a question: %s", self.model, first_line(prepared))
                continue
            if deadline <= time.monotonic():
                continue
            number = self._admit(call, prepared.prompt, prepared.sampling)
            if isinstance(number, Exception):  # one prompt that is too long is no reason to stop
                logger.warning("model %r refused a question: %s", self.model, first_line(number))
                continue
            call.waiting[number] = row
            if deadline < math.inf:
                heapq.heappush(self._due, (deadline, number))
        if not call.waiting:
            call.settle()
        if len(self._due) > 2 * len(self._asked) + _MOST_PAST:
            self._due = sorted(due for due in self._due if due[1] in self._asked)

    def _add_stream(self, stream: _Stream) -> None:
        number = self._admit(stream, stream.prompt, stream.sampling)
        if isinstance(number, Exception):
            stream.settle(number)
        else:
            stream.waiting.add(number)

    def _admit(self, asked: _Call | _Stream, prompt: Any, sampling: Any) -> str | Exception:
        from vllm.exceptions import VLLMClientError

        number = str(next(self._numbers))
        try:
            self._engine.add_request(number, prompt, sampling)
        except (VLLMClientError, ValueError) as error:
            return error
        self._asked[number] = asked
        return number

    def _give_up(self, asked: _Call | _Stream) -> None:
        self._engine.abort_request(list(asked.waiting))
        for number in asked.waiting:
            self._asked.pop(number, None)

    def _expire(self) -> None:
        """Free the engine of what would come too late."""
        while self._due and self._due[0][0] <= time.monotonic():
            _, number = heapq.heappop(self._due)
            call = self._asked.pop(number, None)
            if isinstance(call, _Call):
                self._engine.abort_request([number])
                call.expire(number)

    def _step(self) -> None:
        started = time.perf_counter()
        outputs = self._engine.step()
        seconds = time.perf_counter() - started
        prompts = sum(len(output.prompt_token_ids) for output in outputs if output.finished)
        written = sum(len(completion.token_ids) for output in outputs for completion in output.outputs)
        usage = self._usage  # counted before it is told: whoever has an answer finds it counted
        self._usage = Usage(usage.prompt_tokens + prompts, usage.written_tokens + written, usage.busy_s + seconds)
        for output in outputs:
            number = output.request_id
            asked = self._asked.pop(number, None) if output.finished else self._asked.get(number)
            if asked is not None:
                asked.take(output)

    def _fail(self, error: OracleError) -> None:
        self._error = error
        for asked in set(self._asked.values()):
            asked.settle(error)
        self._asked.clear()
        with contextlib.suppress(queue.Empty):
            while True:
                message = self._inbox.get_nowait()
                if isinstance(message, _Call | _Stream):
                    message.settle(error)
