"""What runs in the service's processes: the engines' replicas, the front's, and the way from one to the others."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any, NamedTuple, TypeVar

import numpy as np
import ray
from ray import serve as ray_serve
from ray.exceptions import RayError, RayTaskError
from ray.serve.handle import DeploymentHandle

from graphdrl.oracle.identity import BUILTIN, model_key
from graphdrl.oracle.prompts import load_prompt
from graphdrl.oracle.protocol import Busy, OracleError
from graphdrl.oracle.questions import Ask
from serve.counts import Snapshot
from serve.engine import EngineLost, Request, ScoringEngine, Usage, Written
from serve.knowledge import Knowledge
from serve.scoring import GRADE_TOKENS, scoring
from serve.settings import OracleSettings

A = TypeVar("A")
EngineMaker = Callable[[OracleSettings], ScoringEngine]

BATCHES_PER_REPLICA = 2
"""Calls that each engine has in hand: it goes on with one while the other is on its way."""

_MOST_CHATS = 64


class Reply(NamedTuple):
    """What an engine replica hands back: its answers, and what it has done since it was made."""

    answers: Any
    replica: str
    usage: Usage


class EngineReplica:
    """One engine in a process of its own."""

    async def __init__(self, settings: OracleSettings, make_engine: EngineMaker) -> None:  # type: ignore[misc]
        began = time.monotonic()
        self._engine = await asyncio.to_thread(make_engine, settings)
        made = time.monotonic()
        self._name = ray.get_runtime_context().get_actor_id() or ""
        self._model_name = settings.model
        self._chat: Any = None
        await _rehearse(self._engine, settings)
        stages = getattr(self._engine, "startup", {}) or {"engine": made - began}
        self._startup = stages | {"first_question": time.monotonic() - made}

    async def startup(self) -> dict[str, float]:
        """Seconds that each part of the start took."""
        return self._startup

    async def probabilities(self, requests: list[Request]) -> Reply:
        return Reply(await self._engine.probabilities(requests), self._name, self._engine.usage())

    async def generate(self, requests: list[Request]) -> Reply:
        return Reply(await self._engine.generate(requests), self._name, self._engine.usage())

    async def chat(self, body: dict[str, Any]) -> dict[str, Any]:
        return await self._chatting().complete(body)

    async def chat_stream(self, body: dict[str, Any]) -> AsyncIterator[str]:
        async for line in self._chatting().stream(body):
            yield line

    async def models(self) -> dict[str, Any]:
        return self._chatting().models()

    async def check_health(self) -> None:
        await self._engine.health()

    def __del__(self) -> None:
        if hasattr(self, "_engine"):
            self._engine.close()

    def _chatting(self) -> Any:
        """vLLM's chat server on this engine, made when it is first asked."""
        if self._chat is None:
            from serve.chat import Chat
            from serve.vllm_engine import VllmEngine

            if not isinstance(self._engine, VllmEngine):
                raise OracleError("only vLLM's engines chat")
            self._chat = Chat(self._engine, self._model_name)
        return self._chat


class FrontReplica:
    """The one front, and the HTTP door to it."""

    async def __init__(self, settings: OracleSettings, engines: DeploymentHandle) -> None:  # type: ignore[misc]
        from graphdrl.oracle.answers import AnswerStore
        from graphdrl.oracle.scores import ScoreStore
        from serve.front import Front
        from serve.logs import event, open_log

        open_log(settings.log)
        self._settings = settings
        self._engines = Replicas(engines)
        self._chats = asyncio.Semaphore(BATCHES_PER_REPLICA * 4 * settings.most_replicas)
        self._num_chats = 0
        self._front = Front(
            self._engines,
            ScoreStore(settings.score_store),
            AnswerStore(settings.score_store / "answers"),
            scoring(settings.scoring, settings.prompts),
            _knowledge(settings),
            max_queue=settings.max_queue,
            num_batches=BATCHES_PER_REPLICA * settings.most_replicas,
            run_aside=_run_aside,
        )
        event("started", model=settings.model, replicas=settings.num_replicas)

    async def answer(self, question: Ask[A]) -> A:
        return await self._front.answer(question)

    async def snapshot(self) -> Snapshot:
        return self._front.snapshot(await asyncio.to_thread(_num_replicas))

    async def stats(self) -> dict[str, Any]:
        snapshot = await self.snapshot()
        queued = {"queued": sum(snapshot.queued.values()), "in_flight": snapshot.in_flight, "stored": snapshot.stored}
        return {"model": snapshot.model, **snapshot.total(), **queued, "asked_again": snapshot.asked_again}

    async def metrics(self) -> bytes:
        from serve.metrics import render

        return render(await self.snapshot())

    async def chat(self, body: dict[str, Any]) -> dict[str, Any]:
        async with self._chat_turn():
            return await self._engines.chat(body)

    async def chat_stream(self, body: dict[str, Any]) -> AsyncIterator[str]:
        async with self._chat_turn():
            async for line in self._engines.chat_stream(body):
                yield line

    async def models(self) -> dict[str, Any]:
        return await self._engines.models()

    async def settings(self) -> OracleSettings:
        return self._settings

    async def pid(self) -> int:
        """Of the process, for whoever tries what happens when it dies."""
        return os.getpid()

    def __serve_build_asgi_app__(self) -> Any:
        from serve.doors import make_app

        return make_app(self, self._settings.door_key())

    async def __del__(self) -> None:
        if hasattr(self, "_front"):
            await self._front.close()

    @asynccontextmanager
    async def _chat_turn(self) -> AsyncIterator[None]:
        """Chats wait for each other here: they have no queue of grades, and must not fill the engines'."""
        if self._num_chats >= _MOST_CHATS:
            raise Busy(f"{self._num_chats} chats are going on, the limit: ask again later")
        self._num_chats += 1
        try:
            async with self._chats:
                yield
        finally:
            self._num_chats -= 1


class Replicas:
    """The engines behind Serve's router, as one `ScoringEngine`."""

    def __init__(self, handle: DeploymentHandle) -> None:
        self._handle = handle
        self._usage: dict[str, Usage] = {}

    async def probabilities(self, requests: list[Request]) -> np.ndarray:
        return self._read(await self._call("probabilities", requests))

    async def generate(self, requests: list[Request]) -> list[Written]:
        return self._read(await self._call("generate", requests))

    async def chat(self, body: dict[str, Any]) -> dict[str, Any]:
        return await self._call("chat", body)

    async def chat_stream(self, body: dict[str, Any]) -> AsyncIterator[str]:
        with _engine_errors():
            async for line in self._handle.options(method_name="chat_stream", stream=True).remote(body):
                yield line

    async def models(self) -> dict[str, Any]:
        return await self._call("models")

    async def health(self) -> None:
        """Serve watches the replicas' health itself."""

    def usage(self) -> Usage:
        """Of all replicas that ever answered."""
        all_of = self._usage.values()
        return Usage(
            sum(one.prompt_tokens for one in all_of),
            sum(one.written_tokens for one in all_of),
            sum(one.busy_s for one in all_of),
        )

    def close(self) -> None:
        """Serve stops the replicas itself."""

    def _read(self, reply: Reply) -> Any:
        self._usage[reply.replica] = reply.usage
        return reply.answers

    async def _call(self, method: str, *arguments: Any) -> Any:
        with _engine_errors():
            return await getattr(self._handle, method).remote(*arguments)


@contextmanager
def _engine_errors() -> Iterator[None]:
    """An engine's own errors as they are, and its loss as one."""
    try:
        yield
    except RayTaskError as error:
        raise error.cause from None
    except RayError as error:
        raise EngineLost(f"an engine replica was lost ({type(error).__name__})") from error


@ray.remote(num_cpus=0, max_retries=2)
def _computed(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    return function(*arguments)


def _num_replicas() -> int:
    """Engines of this application that can be asked now."""
    application = ray_serve.status().applications[ray_serve.get_replica_context().app_name]
    return application.deployments["engine"].replica_states.get("RUNNING", 0)


async def _run_aside(function: Callable[..., Any], *arguments: Any) -> Any:
    """In a process of its own, so that the front goes on answering meanwhile."""
    try:
        return await _computed.remote(function, arguments)
    except RayTaskError as error:
        raise error.cause from None


def _knowledge(settings: OracleSettings) -> Knowledge:
    from graphdrl.oracle.doubt import load_calibration
    from graphdrl.oracle.tiny.data import ATTRIBUTES

    is_builtin = settings.model == BUILTIN
    revision = settings.engine_args.get("revision")
    key = model_key(settings.model, revision)
    return Knowledge(
        key,
        partial(load_prompt, folder=settings.prompts),
        ATTRIBUTES if is_builtin else None,
        has_commonsense=not is_builtin,
        has_eyes=settings.images,
        calibration=load_calibration(settings.model, settings.calibration, revision=revision),
    )


async def _rehearse(engine: ScoringEngine, settings: OracleSettings) -> None:
    """One question before the first: it pays for what is read lazily, and shows a model that cannot be asked."""
    ramp = np.arange(64, dtype=np.uint8) * 4
    image = np.stack([np.tile(ramp, (64, 1)), np.tile(ramp[:, None], (1, 64)), np.full((64, 64), 128, np.uint8)], -1)
    images = (image,) if settings.images else ()
    request = Request(images, load_prompt("score").render("smile"), GRADE_TOKENS)
    if np.isnan(await engine.probabilities([request])).any():
        raise OracleError(
            f"model {settings.model!r} does not take a question about an image: oracle.model must be a "
            "vision-language model, or set oracle.images=false to ask it for beliefs alone"
        )
