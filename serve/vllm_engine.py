"""vLLM as the oracle's engine: one model in this process, stepped by one thread of its own."""

import asyncio
import contextlib
import difflib
import gc
import importlib
import importlib.util
import itertools
import logging
import os
import queue
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from graphdrl.oracle.protocol import OracleError
from serve.engine import EngineLost, Request
from serve.wording import Wording

logger = logging.getLogger(__name__)

_LONGEST_TEXT = 256


@dataclass(eq=False)
class _Call:
    """One call's requests on their way through the engine; settled when the last is answered."""

    requests: Sequence[Request]
    answers: list[Any]
    loop: asyncio.AbstractEventLoop
    done: "asyncio.Future[None]"
    inputs: list[Any] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)
    waiting: dict[str, int] = field(default_factory=dict)

    def settle(self, error: Exception | None = None) -> None:
        def set_done() -> None:
            if not self.done.done():
                self.done.set_result(None) if error is None else self.done.set_exception(error)

        with contextlib.suppress(RuntimeError):  # the loop was closed: nobody waits any more
            self.loop.call_soon_threadsafe(set_done)

    def is_late(self, row: int) -> bool:
        deadline_s = self.requests[row].deadline_s
        return deadline_s is not None and time.monotonic() - self.started > deadline_s


class VllmEngine:
    """Any model that vLLM serves, by name or folder; see `ScoringEngine`.

    The engine core runs in this process (a second one costs 9 s of imports and a copy of every answer); one thread
    steps it, another turns words and images into tokens and tensors meanwhile.
    """

    def __init__(self, model: str, engine_args: dict[str, Any] | None = None, threads: int = 1) -> None:
        """Raises OracleError, in one sentence, when the model cannot be served."""
        self.model = model
        self._inbox: queue.SimpleQueue = queue.SimpleQueue()
        self._calls: dict[str, _Call] = {}
        self._numbers = itertools.count()
        self._error: Exception | None = None
        self._ready = threading.Event()
        self._wordsmith = ThreadPoolExecutor(1, "wording", lambda: _use_threads(threads))
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
        answers = await self._ask(requests)
        unknown = np.full(max(widths, default=0), np.nan, np.float32)
        return np.array([unknown if answer is None else answer for answer in answers], np.float32)

    async def generate(self, requests: list[Request]) -> list[str]:
        """Text is cut after 256 tokens; a request that could not be answered gives an empty text."""
        if any(request.allowed_tokens for request in requests):
            raise ValueError("allowed tokens are weighed by probabilities(); generate() writes free text")
        return [answer or "" for answer in await self._ask(requests)]

    async def health(self) -> None:
        if self._error is not None:
            raise self._error
        if not self._thread.is_alive():
            raise EngineLost(f"the engine of model {self.model!r} has stopped")

    def close(self) -> None:
        self._inbox.put(None)
        self._thread.join(timeout=30)
        self._wordsmith.shutdown(wait=False, cancel_futures=True)

    async def _ask(self, requests: list[Request]) -> list[Any]:
        await self.health()
        loop = asyncio.get_running_loop()
        call = _Call(requests, [None] * len(requests), loop, loop.create_future())
        try:
            call.inputs = await loop.run_in_executor(self._wordsmith, self._wording.engine_inputs, requests)
            self._inbox.put(call)
            await self.health()  # whoever put it too late for the engine's last look would wait for ever
            await call.done
        except asyncio.CancelledError:
            self._inbox.put((call,))
            raise
        return call.answers

    # What follows runs in the engine's own thread.

    def _run(self, engine_args: dict[str, Any], threads: int) -> None:
        try:
            with _without_garbage_collection():
                self._start(engine_args, threads)
        except Exception as error:
            self._error = error if isinstance(error, OracleError) else self._cannot_start(error)
            self._error.__cause__ = error.__cause__ if self._error is error else error
            return
        finally:
            self._ready.set()
        try:
            while self._receive():
                self._step()
            self._fail(EngineLost(f"the engine of model {self.model!r} was closed"))
        except Exception as error:
            self._fail(EngineLost(f"the engine of model {self.model!r} broke down: {_first_line(error)}"))
        self._engine.engine_core.shutdown()

    def _start(self, engine_args: dict[str, Any], threads: int) -> None:
        _prepare_process(threads)
        from vllm.engine.arg_utils import EngineArgs
        from vllm.v1.engine.llm_engine import LLMEngine

        _check_names(engine_args, EngineArgs)
        _stand_in_for_torchvision()
        _load_model_class(self.model)
        gc.freeze()
        with _keeping_torch_threads():
            self._engine = LLMEngine.from_engine_args(EngineArgs(**(_defaults(self.model) | engine_args)))
        self._wording = Wording(self._engine.renderer, self.model)

    def _cannot_start(self, error: Exception) -> OracleError:
        way_out = "check oracle.model, and oracle.engine_args if the model needs other memory or length limits"
        if isinstance(error, ModuleNotFoundError):
            way_out = f"install the {error.name} that matches this torch"
        return OracleError(f"model {self.model!r} cannot be served by vLLM ({_first_line(error)}): {way_out}")

    def _receive(self) -> bool:
        """Take in what was asked or given up, waiting only when there is nothing to do; False when closed."""
        while True:
            try:
                message = self._inbox.get(block=not self._calls)
            except queue.Empty:
                return True
            if message is None:
                return False
            if isinstance(message, _Call):
                self._add(message)
            else:
                self._give_up(message[0])

    def _add(self, call: _Call) -> None:
        from vllm.exceptions import VLLMClientError

        for row, prepared in enumerate(call.inputs):
            if isinstance(prepared, Exception):
                logger.warning("model %r refused a question: %s", self.model, _first_line(prepared))
                continue
            if call.is_late(row):
                continue
            number = str(next(self._numbers))
            try:
                self._engine.add_request(number, prepared[0], _sampling(prepared[1]))
            except (VLLMClientError, ValueError) as error:  # one prompt that is too long is no reason to stop
                logger.warning("model %r refused a question: %s", self.model, _first_line(error))
                continue
            call.waiting[number] = row
            self._calls[number] = call
        if not call.waiting:
            call.settle()

    def _give_up(self, call: _Call) -> None:
        self._engine.abort_request(list(call.waiting))
        for number in call.waiting:
            self._calls.pop(number, None)

    def _step(self) -> None:
        for output in self._engine.step():
            call = self._calls.pop(output.request_id, None)
            if call is None:
                continue
            row = call.waiting.pop(output.request_id)
            call.answers[row] = self._read(call, row, output.outputs[0])
            if not call.waiting:
                call.settle()

    @staticmethod
    def _read(call: _Call, row: int, completion: Any) -> Any:
        allowed = call.inputs[row][1]
        if not allowed:
            return completion.text
        logs = np.array([completion.logprobs[0][token].logprob for token in allowed])
        weights = np.exp(logs - logs.max())
        return weights / weights.sum()

    def _fail(self, error: OracleError) -> None:
        self._error = error
        for call in set(self._calls.values()):
            call.settle(error)
        self._calls.clear()
        with contextlib.suppress(queue.Empty):
            while True:
                message = self._inbox.get_nowait()
                if isinstance(message, _Call):
                    message.settle(error)


@contextlib.contextmanager
def _without_garbage_collection():
    """vLLM's start makes a million objects that stay: collecting among them is a third of the time that it takes."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@lru_cache(maxsize=64)
def _sampling(allowed: tuple[int, ...]) -> Any:
    """How to answer: the distribution over the allowed tokens, or free text when there are none."""
    from vllm.sampling_params import RequestOutputKind, SamplingParams

    common = {"temperature": 0.0, "output_kind": RequestOutputKind.FINAL_ONLY, "skip_clone": True}
    if not allowed:
        return SamplingParams(max_tokens=_LONGEST_TEXT, **common)
    tokens = list(allowed)
    return SamplingParams(max_tokens=1, allowed_token_ids=tokens, logprob_token_ids=tokens, detokenize=False, **common)


def _prepare_process(threads: int) -> None:
    """Settings that vLLM and torch read when they are imported."""
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    os.environ["OMP_NUM_THREADS"] = str(threads)
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")  # its warnings are about choices made here on purpose
    import torch

    if not torch.cuda.is_available():
        os.environ["TORCHDYNAMO_DISABLE"] = "1"  # or the first log-probability compiles for half a minute
        import torch._dynamo

        torch._dynamo.config.disable = True
    _use_threads(threads)


def _use_threads(threads: int) -> None:
    import torch

    torch.set_num_threads(threads)  # OpenMP counts them for each calling thread


@contextlib.contextmanager
def _keeping_torch_threads():
    """vLLM's CPU worker replaces `torch.set_num_threads` by a function that only warns, at every image."""
    import torch

    kept = torch.set_num_threads
    try:
        yield
    finally:
        torch.set_num_threads = kept


def _stand_in_for_torchvision() -> None:
    """Let models with a CLIP or SigLIP eye (LLaVA, PaliGemma) load without torchvision.

    vLLM imports one function about Pixtral's image sizes for all of them, from a module that imports torchvision;
    that module's Pillow twin has the same function.
    """
    if importlib.util.find_spec("torchvision") is None:
        twin = importlib.import_module("transformers.models.pixtral.image_processing_pil_pixtral")
        sys.modules.setdefault("transformers.models.pixtral.image_processing_pixtral", twin)


def _load_model_class(model: str) -> None:
    """Register the model's class as loaded: vLLM otherwise inspects it in a new process, which costs 10 s once."""
    from transformers import PretrainedConfig
    from vllm import ModelRegistry

    if not Path(model).is_dir():
        return
    config, _ = PretrainedConfig.get_config_dict(model)
    for architecture in config.get("architectures") or []:
        known = ModelRegistry.models.get(architecture)
        if known is not None:
            ModelRegistry.register_model(architecture, known.load_model_cls())


def _defaults(model: str) -> dict[str, Any]:
    """Engine arguments for many one-token answers; on CPUs also for a quick start in little memory."""
    from vllm.platforms import current_platform

    arguments: dict[str, Any] = {
        "model": model,
        "logprobs_mode": "processed_logprobs",
        "mm_processor_cache_gb": 0,
        "skip_mm_profiling": True,
        "disable_log_stats": True,
        "use_tqdm_on_load": False,
        "max_model_len": -1,  # as long as the cache allows
    }
    if current_platform.is_cpu():
        arguments |= {
            "enforce_eager": True,
            "block_size": 32,
            "max_num_seqs": 64,
            "kv_cache_memory_bytes": 1 << 30,
        }
    return arguments


def _check_names(engine_args: dict[str, Any], known: type) -> None:
    names = [known_field.name for known_field in fields(known)]
    for name in engine_args:
        if name not in names:
            near = difflib.get_close_matches(name, names, 1)
            hint = f"did you mean {near[0]!r}?" if near else "vLLM's EngineArgs lists them"
            raise OracleError(f"oracle.engine_args: vLLM has no engine argument {name!r}: {hint}")


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
