"""Starting vLLM inside this process: quickly, in little memory, and without what is missing here."""

import contextlib
import difflib
import gc
import importlib
import importlib.util
import os
import sys
import time
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from graphdrl.oracle.protocol import OracleError


@dataclass(frozen=True)
class Started:
    """vLLM's `LLMEngine`, and the seconds that each part of its start took."""

    engine: Any
    seconds: dict[str, float]


def start_vllm(model: str, engine_args: dict[str, Any], threads: int) -> Started:
    """Raises OracleError for an engine argument that there is not, and vLLM's own errors for all else."""
    began = time.monotonic()
    with _without_garbage_collection():
        _prepare_process(threads)
        if engine_args.get("tensor_parallel_size", 1) > 1:
            # On CPUs vLLM wants a NUMA node for each part, unless it need not bind their threads.
            os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
        from vllm.engine.arg_utils import EngineArgs
        from vllm.v1.engine.llm_engine import LLMEngine

        _check_names(engine_args, EngineArgs)
        _stand_in_for_torchvision()
        _load_model_class(model)
        gc.freeze()
        imported = time.monotonic()
        with _keeping_torch_threads():
            engine = LLMEngine.from_engine_args(EngineArgs(**(_defaults(model) | engine_args)))
    return Started(engine, {"imports": imported - began, "model": time.monotonic() - imported})


@contextlib.contextmanager
def _without_garbage_collection():
    """vLLM's start makes a million objects that stay: collecting among them is a third of the time that it takes."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _prepare_process(threads: int) -> None:
    """Settings that vLLM and torch read when they are imported."""
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    os.environ["OMP_NUM_THREADS"] = str(threads)
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    os.environ["VLLM_REGEX_COMPILATION_TIMEOUT_S"] = "0"  # patterns are our own: no two threads for each answer
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")  # its warnings are about choices made here on purpose
    import torch

    if not torch.cuda.is_available():
        os.environ["TORCHDYNAMO_DISABLE"] = "1"  # or the first log-probability compiles for half a minute
        import torch._dynamo

        torch._dynamo.config.disable = True
    use_threads(threads)


def use_threads(threads: int) -> None:
    """Of torch, for whichever thread calls this."""
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
    from vllm.config import StructuredOutputsConfig
    from vllm.platforms import current_platform

    arguments: dict[str, Any] = {
        "model": model,
        "logprobs_mode": "processed_logprobs",
        "mm_processor_cache_gb": 0,
        "skip_mm_profiling": True,
        "disable_log_stats": True,
        "use_tqdm_on_load": False,
        "max_model_len": -1,  # as long as the cache allows
        # Small models that may write white space into JSON write nothing else.
        "structured_outputs_config": StructuredOutputsConfig(backend="xgrammar", disable_any_whitespace=True),
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


def first_line(error: BaseException) -> str:
    """What an error says, in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
