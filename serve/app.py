"""The oracle on Ray Serve: one front, and as many vLLM engines behind it as there are replicas."""

import logging
import re
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ray
from ray import serve as ray_serve
from ray.serve.config import AutoscalingConfig
from ray.serve.handle import DeploymentHandle

from graphdrl.oracle.identity import BUILTIN, model_folder
from graphdrl.oracle.protocol import OracleError
from serve.engine import ScoringEngine
from serve.replicas import BATCHES_PER_REPLICA, EngineMaker, EngineReplica, FrontReplica
from serve.settings import OracleSettings

_MOST_NODES_TOLD = 4
_QUIET = {"enable_access_log": False, "log_level": "WARNING"}
_COMMON: Any = {
    "max_constructor_retry_count": 1,
    "graceful_shutdown_timeout_s": 5,
    "health_check_period_s": 1,
    "logging_config": _QUIET,
}
_BUILTIN_ON_CPU = {"dtype": "float32", "kv_cache_memory_bytes": 64 << 20}


def make_vllm_engine(settings: OracleSettings) -> ScoringEngine:
    """The model under vLLM in this process; raises OracleError, in one sentence, when it cannot be served."""
    from serve.vllm_engine import VllmEngine

    arguments = {"tensor_parallel_size": settings.tensor_parallel_size} | settings.engine_args
    if settings.model == BUILTIN and not settings.num_gpus:
        arguments = _BUILTIN_ON_CPU | arguments
    return VllmEngine(model_folder(settings.model), arguments, settings.num_threads)


def build(arguments: OracleSettings) -> ray_serve.Application:
    """The application, as `serve deploy` builds it from serve/oracle.yaml."""
    return bind(arguments, make_vllm_engine)


def bind(settings: OracleSettings, make_engine: EngineMaker) -> ray_serve.Application:
    """The front, bound to its engines."""
    settings = absolute(settings)
    engines = ray_serve.deployment(
        name="engine",
        ray_actor_options={
            "num_cpus": settings.num_cpus,
            "num_gpus": _gpus_of(settings),
            "resources": settings.resources,
        },
        max_ongoing_requests=16 * BATCHES_PER_REPLICA,
        health_check_timeout_s=120,
        **_scale(settings),
        **_COMMON,
    )(EngineReplica)
    front = ray_serve.deployment(
        name="front",
        ray_actor_options={"num_cpus": 0, "resources": settings.resources},
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
    return settings.model_copy(update={name: path.resolve() for name, path in given.items() if path is not None})


def _scale(settings: OracleSettings) -> dict[str, Any]:
    """A fixed number of engines, or as many as keep two batches each in hand."""
    if settings.max_replicas is None:
        return {"num_replicas": settings.num_replicas}
    config = AutoscalingConfig(
        min_replicas=settings.min_replicas,
        initial_replicas=settings.num_replicas,
        max_replicas=settings.max_replicas,
        target_ongoing_requests=BATCHES_PER_REPLICA,
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
    check_room(settings, [node["Resources"] for node in ray.nodes() if node["Alive"]])
    _open_door(settings)
    target = ray_serve.RunTarget(
        target=bind(settings, make_engine), name=name, route_prefix=f"/{name}" if settings.http_port else None
    )
    ray_serve.run_many([target], wait_for_applications_running=False)


def check_room(settings: OracleSettings, nodes: Sequence[Mapping[str, float]]) -> None:
    """Raises OracleError when no node, with all that it has, could take one engine: Serve would wait without end."""
    asked = {"CPU": settings.num_cpus, "GPU": _gpus_of(settings)} | settings.resources
    asked = {name: amount for name, amount in asked.items() if amount}
    if not any(all(node.get(name, 0) >= amount for name, amount in asked.items()) for node in nodes):
        engine = ", ".join(f"{amount:g} {name}" for name, amount in asked.items())
        there = "; ".join(
            ", ".join(f"{node.get(name, 0):g} {name}" for name in asked) for node in list(nodes)[:_MOST_NODES_TOLD]
        )
        raise OracleError(
            f"an oracle engine asks for {engine}, and no node of this cluster has that (there: {there or 'no node'}): "
            "lower oracle.num_cpus or oracle.num_gpus, or start a node that has it"
        )


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
