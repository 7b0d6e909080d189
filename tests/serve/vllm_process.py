"""What the vLLM tests run in a process of its own: vLLM changes torch and its environment for good."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from graphdrl.oracle.protocol import OracleError
from serve.chat import MOST_OPEN, Chat
from serve.engine import Request
from serve.vllm_engine import VllmEngine

DIGITS = tuple("012345")
SMALL = {"dtype": "float32", "kv_cache_memory_bytes": 32 << 20}


def grades(folder: Path, images: np.ndarray, prompts: list[str]) -> np.ndarray:
    """Probabilities [B, K, 6] of every image on every prompt."""
    return asyncio.run(_grades(folder, images, prompts))


def without_eyes(folder: Path, prompts: list[str], pattern: str, stem: str, image: np.ndarray) -> dict[str, Any]:
    """A text model's beliefs, what it writes in the pattern, and what it says when it is shown an image."""

    async def ask() -> dict[str, Any]:
        engine = VllmEngine(str(folder), SMALL)
        seen: dict[str, Any] = {
            "beliefs": await engine.probabilities([Request((), prompt, DIGITS) for prompt in prompts]),
            "written": await engine.generate([Request((), prompt, DIGITS, pattern, stem) for prompt in prompts]),
            "shown": await _error(engine.probabilities([Request((image,), prompts[0], DIGITS)])),
        }
        engine.close()
        return seen

    return asyncio.run(ask())


def start_error(folder: Path, engine_args: dict[str, Any]) -> str:
    """How the engine says that it cannot start."""
    try:
        VllmEngine(str(folder), engine_args).close()
    except OracleError as error:
        return str(error)
    return ""


def incidents(folder: Path, image: np.ndarray, prompt: str) -> dict[str, Any]:
    """An engine's day: good and bad questions in one call, texts, calls given up, the end."""
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
    seen: dict[str, Any] = {"before": engine.usage(), "mixed": await engine.probabilities(mixed)}
    seen["used"] = engine.usage()
    endless = Request((), "x", pattern="[ab]{300}", most_tokens=400)
    texts = [
        Request((image,), prompt, DIGITS, r'\{"hat":[0-5],"beard":[0-5]\}', '{"hat":'),
        Request((), "x" * 5000, DIGITS, pattern="[ab]{5}"),
        Request((image,), prompt, DIGITS, pattern="[0-5]{9}", most_tokens=4),
        replace(endless, deadline_s=0.02),
        Request((), "x", most_tokens=3),
    ]
    seen["texts"] = await engine.generate(texts)
    given_up = [asyncio.create_task(engine.probabilities([good] * 64)), asyncio.create_task(engine.generate([endless]))]
    await asyncio.sleep(0.05)
    for task in given_up:
        task.cancel()
    seen["after giving up"] = await engine.probabilities([good])
    seen["left"] = engine.vllm.get_num_unfinished_requests()
    seen["two tokens"] = await _error(engine.probabilities([Request((image,), prompt, ("1", "10"))]))
    await engine.health()
    engine.close()
    seen["closed"] = await _error(engine.probabilities([good]))
    return seen


async def _error(call: Any) -> tuple[str, str]:
    try:
        await call
    except (OracleError, ValueError) as error:
        return type(error).__name__, str(error)
    return "", ""


def chats(folder: str, bodies: dict[str, dict[str, Any]], image: np.ndarray, prompt: str) -> dict[str, Any]:
    """A chat door's day, on one engine with questions about grades."""
    return asyncio.run(_chats(folder, bodies, image, prompt))


async def _chats(folder: str, bodies: dict[str, dict[str, Any]], image: np.ndarray, prompt: str) -> dict[str, Any]:
    engine = VllmEngine(folder, SMALL)
    chat = Chat(engine, "tiny")
    seen: dict[str, Any] = {"models": chat.models()}
    good = Request((image,), prompt, DIGITS)
    seen["grade"] = int((await engine.probabilities([good]))[0].argmax())
    for name in ("one", "long", "many", "schema"):
        seen[name] = await chat.complete(bodies[name])
    seen["stream of long"] = [event async for event in chat.stream(bodies["long"])]
    *answers, grades = await asyncio.gather(
        *(chat.complete(bodies["one"]) for _ in range(8)), engine.probabilities([good] * 64)
    )
    seen["at once"] = [answer["choices"][0]["message"]["content"] for answer in answers]
    seen["grades at once"] = grades.argmax(axis=1).tolist()
    seen["given up"] = [await _cancelled(engine, chat, bodies["endless"]), await _left_off(chat, bodies["endless"])]
    await engine.probabilities([good])
    seen["left"] = engine.vllm.get_num_unfinished_requests()
    for name in bodies:
        if name not in (*seen, "endless"):
            seen[f"complete {name}"] = await _error(chat.complete(bodies[name]))
            seen[f"stream {name}"] = await _error(anext(chat.stream(bodies[name])))
    waiting = [asyncio.create_task(chat.complete(bodies["one"])) for _ in range(MOST_OPEN)]
    await asyncio.sleep(0)
    seen["one too many"] = await _error(chat.complete(bodies["one"]))
    await asyncio.gather(*waiting)
    engine.close()
    seen["closed"] = await _error(chat.complete(bodies["one"]))
    return seen


async def _cancelled(engine: VllmEngine, chat: Chat, body: dict[str, Any]) -> str:
    task = asyncio.create_task(chat.complete(body))
    while not engine.vllm.get_num_unfinished_requests():
        await asyncio.sleep(0)
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        return "CancelledError"
    return "answered"


async def _left_off(chat: Chat, body: dict[str, Any]) -> str:
    events = chat.stream(body)
    await anext(events)
    await events.aclose()
    return "closed"
