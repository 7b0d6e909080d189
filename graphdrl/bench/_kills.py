"""Kills a part of the oracle's service, and says what it had in hand."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil

from graphdrl.bench._asking import APPLICATION
from graphdrl.bench._journal import read_journals, ready_engines
from graphdrl.images import load_source
from graphdrl.oracle import load_prompt, model_key
from graphdrl.oracle.scores import ScoreStore


def kill_one(folder: Path, pid: int, of: int | None = None) -> int:
    """Kill a process; returns how many questions had been begun, by the engine `of` or by any, and were not stored."""
    os.kill(pid, signal.SIGKILL)
    killed_at = time.time()
    begun = [
        key
        for journal in read_journals(folder / "journals")
        if of in (None, journal.pid)
        for number, (at, keys) in journal.begun.items()
        if at <= killed_at and number > 1  # the first is an engine's rehearsal, nobody's question
        for key in keys
    ]
    return sum(not stored for stored in _are_stored(folder, begun))


def _are_stored(folder: Path, keys: list[tuple[str, str]]) -> list[bool]:
    prompt, model = load_prompt("score"), model_key("builtin")
    attribute_of = {prompt.render(attribute): attribute for attribute in load_source("faces").attributes}
    images, attributes = sorted({image for image, _ in keys}), tuple(attribute_of.values())
    found = ScoreStore(folder / "scores").lookup(images, attributes, model, prompt.version)
    row, column = {image: n for n, image in enumerate(images)}, {name: n for n, name in enumerate(attributes)}
    return [not np.isnan(found[row[image], column[attribute_of[text]], 0]) for image, text in keys]


def engine_pids(folder: Path) -> list[int]:
    """Engines that are ready: they have answered something, and live."""
    return [pid for pid in ready_engines(folder / "journals") if _lives(pid)]


def _lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def is_running() -> bool:
    from ray import serve as ray_serve

    return ray_serve.status().applications[APPLICATION].status == "RUNNING"


def front_pid() -> int:
    from ray import serve as ray_serve

    return ray_serve.get_app_handle(APPLICATION).pid.remote().result(timeout_s=120)


def wait_until(until: Callable[[], bool], timeout_s: float = 300.0) -> None:
    give_up_at = time.monotonic() + timeout_s
    while not until():
        if time.monotonic() > give_up_at:
            raise RuntimeError(f"nothing more happened within {timeout_s:.0f} s")
        time.sleep(0.1)
