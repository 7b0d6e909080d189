"""What the vLLM tests run in a process of its own: vLLM changes torch and its environment for good."""

import asyncio
from pathlib import Path
from typing import Any

import numpy as np

from graphdrl.oracle.protocol import OracleError
from serve.engine import Request
from serve.vllm_engine import VllmEngine

DIGITS = tuple("012345")
SMALL = {"dtype": "float32", "kv_cache_memory_bytes": 32 << 20}


def grades(folder: Path, images: np.ndarray, prompts: list[str]) -> np.ndarray:
    """Probabilities [B, K, 6] of every image on every prompt."""
    return asyncio.run(_grades(folder, images, prompts))


def start_error(folder: Path, engine_args: dict[str, Any]) -> str:
    """How the engine says that it cannot start."""
    try:
        VllmEngine(str(folder), engine_args).close()
    except OracleError as error:
        return str(error)
    return ""


def incidents(folder: Path, image: np.ndarray, prompt: str) -> dict[str, Any]:
    """An engine's day: good and bad questions in one call, free text, a call given up, the end."""
    return asyncio.run(_incidents(folder, image, prompt))


async def _grades(folder: Path, images: np.ndarray, prompts: list[str]) -> np.ndarray:
    engine = VllmEngine(str(folder), SMALL)
    requests = [Request((image,), prompt, DIGITS) for image in images for prompt in prompts]
    answers = await engine.probabilities(requests)
    engine.close()
    return answers.reshape(len(images), len(prompts), len(DIGITS))


async def _incidents(folder: Path, image: np.ndarray, prompt: str) -> dict[str, Any]:
    engine = VllmEngine(str(folder), SMALL)
    good = Request((image,), prompt, DIGITS)
    mixed = [
        good,
        Request((image,), "x" * 5000, DIGITS),
        Request((image,), prompt, DIGITS, deadline_s=0.0),
        Request((image, image), prompt, DIGITS),
        Request((), prompt, DIGITS),
    ]
    seen: dict[str, Any] = {
        "mixed": await engine.probabilities(mixed),
        "text": await engine.generate([Request((), "x")]),
    }
    given_up = asyncio.create_task(engine.probabilities([good] * 64))
    await asyncio.sleep(0.01)
    given_up.cancel()
    seen["after giving up"] = await engine.probabilities([good])
    seen["two tokens"] = await _error(engine.probabilities([Request((image,), prompt, ("1", "10"))]))
    await engine.health()
    engine.close()
    seen["closed"] = await _error(engine.probabilities([good]))
    return seen


async def _error(call: Any) -> tuple[str, str]:
    try:
        await call
    except OracleError as error:
        return type(error).__name__, str(error)
    return "", ""
