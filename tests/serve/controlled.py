"""A fake engine for a replica's process, told what to do by files in a folder that it shares with the test."""

import asyncio
import os
from functools import partial
from pathlib import Path

import numpy as np

from graphdrl.oracle.prompts import load_prompt
from graphdrl.oracle.protocol import OracleError
from serve.engine import Request
from serve.fakes import FakeEngine
from serve.settings import OracleSettings

ATTRIBUTES = ("hat", "age", "smile")


def grade(image: str, attribute: str) -> float:
    """A known grade in 0..5 for every image and attribute."""
    return int(image[:2], 16) / 51 * (1.0 if attribute == "hat" else 0.5)


class ControlledEngine(FakeEngine):
    """Waits while `hold` exists; dies with its process, once, when `die` exists."""

    def __init__(self, folder: Path) -> None:
        super().__init__(load_prompt("score"), ATTRIBUTES, grade)
        self._folder = folder

    async def probabilities(self, requests: list[Request]) -> np.ndarray:
        while (self._folder / "hold").exists():
            await asyncio.sleep(0.02)
        if (self._folder / "die").exists():
            (self._folder / "die").unlink()
            os._exit(1)
        return await super().probabilities(requests)


def controlled_by(folder: Path):
    """What makes the engine in its replica."""
    return partial(_make, folder)


def _make(folder: Path, settings: OracleSettings) -> ControlledEngine:
    return ControlledEngine(folder)


def fail_to_start(settings: OracleSettings) -> FakeEngine:
    raise OracleError(f"model {settings.model!r} cannot be served by anybody: name another")
