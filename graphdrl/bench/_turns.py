"""Trainings that take turns on one machine, a window of steps each: what is compared sees the same noise.

A training that waits blocks on a socket and takes no time from the one whose turn it is.
"""

import json
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from graphdrl.training import TrainContext

GO = "go"
_PATIENCE_S = 300.0


class NoMoreTurnsError(Exception):
    """Whoever gave the turns has seen enough."""


class TakingTurns:
    """A `TrainContext` over another. The loop calls `mean` once a window, when it logs: there the turn ends.

    orders: what to do before the next window, by the name that the conductor gives.
    """

    def __init__(
        self, context: TrainContext, name: str, address: str, orders: dict[str, Callable[[], Any]] | None = None
    ) -> None:
        self._context, self._orders = context, orders or {}
        self.rank, self.world_size = context.rank, context.world_size
        self.device, self.resume_from = context.device, context.resume_from
        self.local_rank = context.local_rank
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(address)
        self._told = connection.makefile("rw", encoding="utf-8")
        self._say({"name": name})

    def wait(self) -> None:
        """Until it is this training's turn; raises NoMoreTurnsError when there are no more."""
        while (order := self._told.readline().strip()) != GO:
            if not order:
                raise NoMoreTurnsError
            self._say({"done": self._orders[order]()})
        self._began = time.perf_counter()

    def begin_min(self, value: int) -> Callable[[], int]:
        return self._context.begin_min(value)

    def agree_any(self, flag: bool) -> bool:
        return self._context.agree_any(flag)

    def mean(self, values: torch.Tensor) -> torch.Tensor:
        agreed = self._context.mean(values)
        self._say({"seconds": time.perf_counter() - self._began})
        self.wait()
        return agreed

    def report(self, metrics: dict[str, float], checkpoint: Path | None) -> None:
        self._context.report(metrics, checkpoint)

    def _say(self, message: dict[str, Any]) -> None:
        self._told.write(json.dumps(message) + "\n")
        self._told.flush()


class Conductor:
    """Gives the turns; a context manager, at whose end those that still wait end too."""

    def __init__(self, folder: Path) -> None:
        self.address = str(folder / "turns")
        self._door = socket.socket(socket.AF_UNIX)
        self._door.bind(self.address)
        self._door.listen()
        self._door.settimeout(1.0)
        self._players: dict[str, Any] = {}
        self._open = ExitStack()

    def __enter__(self) -> "Conductor":
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()
        self._door.close()

    def gather(self, names: Sequence[str], is_alive: Callable[[], bool]) -> None:
        """Wait for these trainings; RuntimeError when one of them will not come."""
        give_up_at = time.monotonic() + _PATIENCE_S
        while missing := [name for name in names if name not in self._players]:
            if not is_alive() or time.monotonic() > give_up_at:
                raise RuntimeError(f"{', '.join(missing)} did not start")
            try:
                connection, _ = self._door.accept()
            except TimeoutError:
                continue
            connection.settimeout(_PATIENCE_S)
            self._open.enter_context(connection)
            player = self._open.enter_context(connection.makefile("rw", encoding="utf-8"))
            self._players[json.loads(player.readline())["name"]] = player

    def turn(self, *names: str) -> list[float]:
        """Let these train a window at the same time; returns the seconds that each took."""
        return [answer["seconds"] for answer in self._all(names, GO)]

    def order(self, name: str, *names: str) -> list[Any]:
        """Let these carry out one of their orders; returns what came of it, one after the other."""
        return [answer["done"] for answer in self._all(names, name)]

    def _all(self, names: Sequence[str], order: str) -> list[dict[str, Any]]:
        for name in names:
            self._players[name].write(f"{order}\n")
            self._players[name].flush()
        return [self._answer(name) for name in names]

    def _answer(self, name: str) -> dict[str, Any]:
        line = self._players[name].readline()
        if not line:
            raise RuntimeError(f"{name} ended in the middle")
        answer: dict[str, Any] = json.loads(line)
        return answer
