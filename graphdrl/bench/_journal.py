"""An engine that writes down what it is asked, so that a killed one still tells what it had in hand."""

import json
import os
import time
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from graphdrl.images.ids import image_id
from serve import OracleSettings, Request, ScoringEngine

Key = tuple[str, str]
"""(image id, prompt) of a question."""


@dataclass(frozen=True)
class Journal:
    """What one engine process did. begun: (time, keys) of each call; ended: numbers of the calls that it answered."""

    pid: int
    begun: dict[int, tuple[float, list[Key]]]
    ended: set[int]

    @property
    def in_hand(self) -> int:
        """Questions that were begun and not answered."""
        return sum(len(keys) for number, (_, keys) in self.begun.items() if number not in self.ended)


class JournalEngine:
    """Implements `ScoringEngine` over another engine."""

    def __init__(self, engine: ScoringEngine, folder: Path) -> None:
        self._engine = engine
        path = folder / f"{os.getpid()}.jsonl"
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._num_calls = 0

    async def probabilities(self, requests: list[Request]) -> np.ndarray:
        return await self._written_down(requests, self._engine.probabilities(requests))

    async def generate(self, requests: list[Request]) -> Any:
        return await self._written_down(requests, self._engine.generate(requests))

    async def health(self) -> None:
        await self._engine.health()

    def usage(self) -> Any:
        return self._engine.usage()

    def close(self) -> None:
        self._engine.close()

    async def _written_down(self, requests: Sequence[Request], call: Awaitable[Any]) -> Any:
        self._num_calls += 1
        number = self._num_calls
        self._write({"begun": number, "time": time.time(), "keys": [_key(request) for request in requests]})
        answers = await call
        self._write({"ended": number})
        return answers

    def _write(self, line: dict[str, Any]) -> None:
        os.write(self._file, json.dumps(line).encode() + b"\n")


def journalled(folder: Path) -> Any:
    """What makes vLLM's engine with a journal in `folder`, in its replica."""
    return partial(_make, folder)


def read_journals(folder: Path) -> list[Journal]:
    """Of all engines so far, the killed ones too."""
    journals = []
    for path in sorted(folder.glob("*.jsonl")):
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        begun = {
            line["begun"]: (line["time"], [tuple(key) for key in line["keys"]]) for line in lines if "begun" in line
        }
        journals.append(Journal(int(path.stem), begun, {line["ended"] for line in lines if "ended" in line}))
    return journals


def ready_engines(folder: Path) -> list[int]:
    """Process ids of those that have answered a question beyond their rehearsal."""
    return sorted(int(path.stem) for path in folder.glob("*.jsonl") if path.read_bytes().count(b'"ended"') > 1)


def _make(folder: Path, settings: OracleSettings) -> JournalEngine:
    from serve import make_vllm_engine

    return JournalEngine(make_vllm_engine(settings), folder)


def _key(request: Request) -> Key:
    return image_id(request.images[0]) if request.images else "", request.prompt
