"""A trial of a search stops at every checkpoint until the search has decided whether it goes on."""

import asyncio
from pathlib import Path
from typing import Any

import ray

from graphdrl.distributed.ray_context import RayContext


class Rungs:
    """An actor between a trial's workers, who report figures, and the trial, which hands them to the search."""

    def __init__(self) -> None:
        self._reported: asyncio.Queue[dict[str, float]] = asyncio.Queue()
        self._decided = asyncio.Event()

    async def report(self, figures: dict[str, float]) -> None:
        """Returns when the trial may go on."""
        # Workers that were started again after a failure wait for a decision of their own.
        decided = self._decided = asyncio.Event()
        await self._reported.put(figures)
        await decided.wait()

    async def next(self, timeout_s: float) -> dict[str, float] | None:
        """The figures of the next checkpoint; None when there are none yet."""
        try:
            return await asyncio.wait_for(self._reported.get(), timeout_s)
        except TimeoutError:
            return None

    async def go_on(self) -> None:
        self._decided.set()


class RungContext(RayContext):
    """The context of a trial's worker: no step is taken beyond a checkpoint before the search has decided.

    Ray's own report returns before anybody has read it: a trial that is to end would go on for seconds.
    """

    def __init__(self, resume_from: Path | None, rungs: Any) -> None:
        super().__init__(resume_from)
        self._rungs = rungs

    def report(self, metrics: dict[str, float], checkpoint: Path | None) -> None:
        super().report(metrics, checkpoint)
        if self.rank == 0:
            ray.get(self._rungs.report.remote({name: float(value) for name, value in metrics.items()}))
        self.agree_any(False)  # the others wait for rank 0
