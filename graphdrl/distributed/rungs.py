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
        self._stopped = False

    async def report(self, figures: dict[str, float]) -> bool:
        """Returns when it is decided, whether the trial goes on."""
        # Workers that were started again after a failure wait for a decision of their own.
        decided = self._decided = asyncio.Event()
        if not self._stopped:
            await self._reported.put(figures)
            await decided.wait()
        return not self._stopped

    async def next(self, timeout_s: float) -> dict[str, float] | None:
        """The figures of the next checkpoint; None when there are none yet."""
        try:
            return await asyncio.wait_for(self._reported.get(), timeout_s)
        except TimeoutError:
            return None

    async def go_on(self) -> None:
        self._decided.set()

    async def stop(self) -> None:
        """The trial ends here, or at its next checkpoint."""
        self._stopped = True
        self._decided.set()


class TrialStopped(Exception):  # noqa: N818 - nothing went wrong
    """The search ends a trial at this checkpoint; raised by every rank."""


class RungContext(RayContext):
    """The context of a trial's worker: no step is taken beyond a checkpoint before the search has decided.

    Ray's own report returns before anybody has read it: a trial that is to end would go on for seconds.
    """

    def __init__(self, resume_from: Path | None, rungs: Any) -> None:
        super().__init__(resume_from)
        self._rungs = rungs

    def report(self, metrics: dict[str, float], checkpoint: Path | None) -> None:
        """Raises TrialStopped when the trial is not to go on."""
        super().report(metrics, checkpoint)
        goes_on = True
        if self.rank == 0:
            goes_on = ray.get(self._rungs.report.remote({name: float(value) for name, value in metrics.items()}))
        if self.agree_any(not goes_on):  # the others wait for rank 0
            raise TrialStopped
