"""The oracle on Ray Serve: one front, and as many vLLM engines behind it as there are replicas."""

import asyncio
import logging
import os
import re
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import ray
from ray import serve as ray_serve
from ray.exceptions import RayError, RayTaskError
from ray.serve.config import AutoscalingConfig
from ray.serve.handle import DeploymentHandle

from graphdrl.oracle.identity import BUILTIN, model_folder, model_key
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

_BATCHES_PER_REPLICA = 2
_MOST_CHATS = 64
_QUIET = {"enable_access_log": False, "log_level": "WARNING"}
_COMMON: Any = {
    "max_constructor_retry_count": 1,
    "graceful_shutdown_timeout_s": 5,
    "health_check_period_s": 1,
    "logging_config": _QUIET,
}
_BUILTIN_ON_CPU = {"dtype": "float32", "kv_cache_memory_bytes": 64 << 20}


class Reply(NamedTuple):
    """What an engine replica hands back: its answers, and what it has done since it was made."""

    answers: Any
    replica: str
    usage: Usage


def make_vllm_engine(settings: OracleSettings) -> ScoringEngine:
    """The model under vLLM in this process; raises OracleError, in one sentence, when it cannot be served."""
    from serve.vllm_engine import VllmEngine

    arguments = {"tensor_parallel_size": settings.tensor_parallel_size} | settings.engine_args
    if settings.model == BUILTIN and not settings.num_gpus:
        arguments = _BUILTIN_ON_CPU | arguments
    return VllmEngine(model_folder(settings.model), arguments, settings.num_threads)


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
        self._chats = asyncio.Semaphore(_BATCHES_PER_REPLICA * 4 * settings.most_replicas)
        self._num_chats = 0
        self._front = Front(
            self._engines,
            ScoreStore(settings.score_store),
            AnswerStore(settings.score_store / "answers"),
            scoring(settings.scoring, settings.prompts),
            _knowledge(settings),
            max_queue=settings.max_queue,
            num_batches=_BATCHES_PER_REPLICA * settings.most_replicas,
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
        try:
            async for line in self._handle.options(method_name="chat_stream", stream=True).remote(body):
                yield line
        except RayTaskError as error:
            raise error.cause from None
        except RayError as error:
            raise EngineLost(f"an engine replica was lost ({type(error).__name__})") from error

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
        try:
            return await getattr(self._handle, method).remote(*arguments)
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


def build(arguments: OracleSettings) -> ray_serve.Application:
    """The application, as `serve deploy` builds it from serve/oracle.yaml."""
    return bind(arguments, make_vllm_engine)


def bind(settings: OracleSettings, make_engine: EngineMaker) -> ray_serve.Application:
    """The front, bound to its engines."""
    settings = absolute(settings)
    engines = ray_serve.deployment(
        name="engine",
        ray_actor_options={"num_cpus": settings.num_cpus, "num_gpus": _gpus_of(settings)},
        max_ongoing_requests=16 * _BATCHES_PER_REPLICA,
        health_check_timeout_s=120,
        **_scale(settings),
        **_COMMON,
    )(EngineReplica)
    front = ray_serve.deployment(
        name="front",
        ray_actor_options={"num_cpus": 0},
        max_ongoing_requests=10_000,  # its own queue has the bound
        **_COMMON,
    )(ray_serve.ingress()(FrontReplica))
    return front.bind(settings, engines.bind(settings, make_engine))


def _gpus_of(settings: OracleSettings) -> float:
    """GPUs that Ray reserves for one engine: whole ones when it is spread over several."""
    if settings.num_gpus and settings.tensor_parallel_size > 1:
        return float(max(settings.num_gpus, settings.tensor_parallel_size))
    return settings.num_gpus


def absolute(settings: OracleSettings) -> OracleSettings:
    """The same settings for a process that runs in another folder."""
    given = {name: getattr(settings, name) for name in ("score_store", "prompts", "calibration", "log")}
    return settings.model_copy(update={name: path.absolute() for name, path in given.items() if path is not None})


def _scale(settings: OracleSettings) -> dict[str, Any]:
    """A fixed number of engines, or as many as keep two batches each in hand."""
    if settings.max_replicas is None:
        return {"num_replicas": settings.num_replicas}
    config = AutoscalingConfig(
        min_replicas=settings.min_replicas,
        initial_replicas=settings.num_replicas,
        max_replicas=settings.max_replicas,
        target_ongoing_requests=_BATCHES_PER_REPLICA,
        look_back_period_s=12,
        upscale_delay_s=2,
        downscale_delay_s=settings.idle_s,
        downscale_to_zero_delay_s=settings.idle_s,
    )
    return {"autoscaling_config": config}


def start_oracle(
    settings: OracleSettings,
    name: str = "oracle",
    wait: bool = True,
    make_engine: EngineMaker = make_vllm_engine,
) -> DeploymentHandle:
    """A handle to the running application of that name, which is deployed when there is none. Ray must be initialised.

    wait: False returns at once; `wait_for_oracle` then says whether it came up.
    Raises OracleError, in one sentence, when it cannot start or when another model runs under that name.
    """
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    folder = model_folder(settings.model)
    if settings.model == BUILTIN and not (Path(folder) / "config.json").is_file():
        raise OracleError(f"the built-in model's weights are missing at {folder}: install graphdrl again")
    application = ray_serve.status().applications.get(name)
    if application is not None and application.status == "RUNNING":
        return _running(settings, name)
    if application is not None and application.status != "DEPLOYING":
        stop_oracle(name)
        application = None
    if application is None:
        _deploy(settings, name, make_engine)
    if wait:
        wait_for_oracle(name)
    return ray_serve.get_app_handle(name)


def _deploy(settings: OracleSettings, name: str, make_engine: EngineMaker) -> None:
    _open_door(settings)
    target = ray_serve.RunTarget(
        target=bind(settings, make_engine), name=name, route_prefix=f"/{name}" if settings.http_port else None
    )
    ray_serve.run_many([target], wait_for_applications_running=False)


def wait_for_oracle(name: str = "oracle", timeout_s: float = 900.0) -> None:
    """Returns when the application answers; raises OracleError with the cause, and removes it, when it cannot start."""
    give_up_at = time.monotonic() + timeout_s
    while True:
        application = ray_serve.status().applications.get(name)
        if application is None:
            raise OracleError(f"there is no application {name!r} on this cluster: start it with start_oracle()")
        if application.status == "RUNNING":
            return
        messages = [application.message, *(deployment.message for deployment in application.deployments.values())]
        if application.status == "DEPLOY_FAILED":
            stop_oracle(name)
            raise OracleError(_cause(messages))
        if time.monotonic() > give_up_at:
            stop_oracle(name)
            waited_for = next((text for text in reversed(messages) if text), "no more is known")
            raise OracleError(f"the oracle was not ready within {timeout_s:.0f} s ({waited_for})")
        time.sleep(0.5)


def stop_oracle(name: str = "oracle") -> None:
    """Stop the application. What it scored stays in the score store; Ray Serve itself goes on."""
    if name in ray_serve.status().applications:
        ray_serve.delete(name)


def _running(settings: OracleSettings, name: str) -> DeploymentHandle:
    handle = ray_serve.get_app_handle(name)
    running = handle.settings.remote().result(timeout_s=60)
    must_agree = ("model", "engine_args", "scoring", "prompts", "images")
    differs = [field for field in must_agree if getattr(running, field) != getattr(absolute(settings), field)]
    if differs:
        raise OracleError(
            f"the application {name!r} already runs with oracle.{differs[0]}={getattr(running, differs[0])!r}, not "
            f"{getattr(settings, differs[0])!r} as asked for now: stop it first, or give this one another name"
        )
    return handle


def _open_door(settings: OracleSettings) -> None:
    """Start Serve with its HTTP proxy when a door is wanted, and without one, which is quicker, when not.

    Serve's own settings hold for all its applications: beside others it stays as it is.
    """
    if ray_serve.status().applications:
        if settings.http_port is not None and not _is_taken(settings.http_host, settings.http_port):
            raise OracleError(
                f"Ray Serve runs already, without an HTTP door at {settings.http_host}:{settings.http_port}: "
                "stop its applications first, or start the oracle without oracle.http_port"
            )
        return
    ray_serve.shutdown()
    if settings.http_port is None:
        ray_serve.start(proxy_location="Disabled", logging_config=_QUIET)
        return
    if _is_taken(settings.http_host, settings.http_port):
        raise OracleError(
            f"port {settings.http_port} on {settings.http_host} is in use by another program: "
            "set oracle.http_port to a free port for the HTTP door, or leave it out"
        )
    address = {"host": settings.http_host, "port": settings.http_port}
    ray_serve.start(proxy_location="HeadOnly", http_options=address, logging_config=_QUIET)


def _is_taken(host: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(5)
        return probe.connect_ex((host, port)) == 0


def _cause(messages: list[str]) -> str:
    """The one sentence in Serve's report of a failed start."""
    for message in messages:
        found = re.findall(r"(?:OracleError|ValueError): (.+)", message)
        if found:
            return found[-1].strip()
    return "the oracle cannot start: " + (messages[0].strip().splitlines() or ["Serve gave no reason"])[-1]
