"""The oracle on Ray Serve: one front, and as many vLLM engines behind it as there are replicas."""

import asyncio
import logging
import re
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from ray import serve as ray_serve
from ray.exceptions import RayError, RayTaskError
from ray.serve.handle import DeploymentHandle

from graphdrl.oracle.identity import BUILTIN, model_folder, model_key
from graphdrl.oracle.prompts import load_prompt
from graphdrl.oracle.protocol import OracleError
from graphdrl.oracle.questions import Answer, Question
from serve.engine import EngineLost, Request, ScoringEngine
from serve.settings import OracleSettings

EngineMaker = Callable[[OracleSettings], ScoringEngine]

_BATCHES_PER_REPLICA = 2
_QUIET = {"enable_access_log": False, "log_level": "WARNING"}
_COMMON: Any = {"max_constructor_retry_count": 1, "graceful_shutdown_timeout_s": 5, "logging_config": _QUIET}
_BUILTIN_ON_CPU = {"dtype": "float32", "kv_cache_memory_bytes": 64 << 20}


def make_vllm_engine(settings: OracleSettings) -> ScoringEngine:
    """The model under vLLM in this process; raises OracleError, in one sentence, when it cannot be served."""
    from serve.vllm_engine import VllmEngine

    arguments = dict(settings.engine_args)
    if settings.model == BUILTIN and not settings.num_gpus:
        arguments = _BUILTIN_ON_CPU | arguments
    return VllmEngine(model_folder(settings.model), arguments, settings.num_threads)


class EngineReplica:
    """One engine in a process of its own."""

    async def __init__(self, settings: OracleSettings, make_engine: EngineMaker) -> None:  # type: ignore[misc]
        self._engine = await asyncio.to_thread(make_engine, settings)
        await _rehearse(self._engine, settings.model)

    async def probabilities(self, requests: list[Request]) -> np.ndarray:
        return await self._engine.probabilities(requests)

    async def generate(self, requests: list[Request]) -> list[str]:
        return await self._engine.generate(requests)

    async def check_health(self) -> None:
        await self._engine.health()

    def __del__(self) -> None:
        if hasattr(self, "_engine"):
            self._engine.close()


class FrontReplica:
    """The one front; it also answers the HTTP door."""

    async def __init__(self, settings: OracleSettings, engines: DeploymentHandle) -> None:  # type: ignore[misc]
        from graphdrl.oracle.scores import ScoreStore
        from serve.front import Front

        self._settings = settings
        self._front = Front(
            Replicas(engines),
            ScoreStore(settings.score_store),
            model=model_key(settings.model, settings.engine_args.get("revision")),
            prompt=load_prompt("score"),
            max_queue=settings.max_queue,
            num_batches=_BATCHES_PER_REPLICA * settings.num_replicas,
        )

    async def answer(self, question: Question) -> Answer:
        return await self._front.answer(question)

    async def stats(self) -> dict[str, Any]:
        return {"model": self._front.model} | self._front.stats()

    async def settings(self) -> OracleSettings:
        return self._settings

    async def __call__(self, request: Any) -> Any:
        from serve.doors import answer_http

        return await answer_http(request, self, self._settings.door_key())

    async def __del__(self) -> None:
        if hasattr(self, "_front"):
            await self._front.close()


class Replicas:
    """The engines behind Serve's router, as one `ScoringEngine`."""

    def __init__(self, handle: DeploymentHandle) -> None:
        self._handle = handle

    async def probabilities(self, requests: list[Request]) -> np.ndarray:
        return await self._call("probabilities", requests)

    async def generate(self, requests: list[Request]) -> list[str]:
        return await self._call("generate", requests)

    async def health(self) -> None:
        """Serve watches the replicas' health itself."""

    def close(self) -> None:
        """Serve stops the replicas itself."""

    async def _call(self, method: str, requests: list[Request]) -> Any:
        try:
            return await getattr(self._handle, method).remote(requests)
        except RayTaskError as error:
            raise error.cause from None
        except RayError as error:
            raise EngineLost(f"an engine replica was lost ({type(error).__name__})") from error


async def _rehearse(engine: ScoringEngine, model: str) -> None:
    """One question before the first: it pays for what is read lazily, and shows a model that cannot be asked."""
    from serve.front import GRADE_TOKENS

    ramp = np.arange(64, dtype=np.uint8) * 4
    image = np.stack([np.tile(ramp, (64, 1)), np.tile(ramp[:, None], (1, 64)), np.full((64, 64), 128, np.uint8)], -1)
    request = Request((image,), load_prompt("score").render("bright"), GRADE_TOKENS)
    if np.isnan(await engine.probabilities([request])).any():
        raise OracleError(
            f"model {model!r} does not take a question about an image: oracle.model must be a vision-language model"
        )


def build(arguments: OracleSettings) -> ray_serve.Application:
    """The application, as `serve deploy` builds it from serve/oracle.yaml."""
    return bind(arguments, make_vllm_engine)


def bind(settings: OracleSettings, make_engine: EngineMaker) -> ray_serve.Application:
    """The front, bound to its engines."""
    settings = settings.model_copy(update={"score_store": settings.score_store.absolute()})
    engines = ray_serve.deployment(
        name="engine",
        num_replicas=settings.num_replicas,
        ray_actor_options={"num_cpus": settings.num_cpus, "num_gpus": settings.num_gpus},
        max_ongoing_requests=4 * _BATCHES_PER_REPLICA,
        health_check_timeout_s=120,
        **_COMMON,
    )(EngineReplica)
    front = ray_serve.deployment(
        name="front",
        ray_actor_options={"num_cpus": 0},
        max_ongoing_requests=10_000,  # its own queue has the bound
        **_COMMON,
    )(FrontReplica)
    return front.bind(settings, engines.bind(settings, make_engine))


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
    if (running.model, running.engine_args) != (settings.model, settings.engine_args):
        raise OracleError(
            f"the application {name!r} already serves model {running.model!r}, not {settings.model!r} as asked for now "
            "(or with other engine_args): stop it first, or give this one another name"
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
