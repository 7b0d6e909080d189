"""Which relations version a step trains on: agreed among the ranks as it arrives, or replayed from a record."""

from bisect import bisect_right
from collections.abc import Callable
from typing import Protocol

from graphdrl.training.context import TrainContext
from graphdrl.training.relations_source import RelationsSource


class Schedule(Protocol):
    def version_at(self, step: int) -> int:
        """The version to hold at this step, the same on every rank; 0 before the first."""
        ...


class LiveSchedule:
    """The newest version that every rank had `every` steps ago, looked for so often.

    No rank waits for the others to agree, but at the first look: what one look began is read at the next.
    """

    def __init__(self, context: TrainContext, relations: RelationsSource, every: int, current: int = 0) -> None:
        self._context, self._relations, self._every, self._current = context, relations, every, current
        self._agreed: Callable[[], int] | None = None

    def version_at(self, step: int) -> int:
        if step % self._every == 0:
            if self._agreed is None:
                self._agreed = self._context.begin_min(self._relations.latest())
            self._current = max(self._current, self._agreed())
            self._agreed = self._context.begin_min(self._relations.latest())
        return self._current


class RecordedSchedule:
    """The (step, version) pairs of an earlier run."""

    def __init__(self, pairs: list[tuple[int, int]]) -> None:
        self._steps = [step for step, _ in pairs]
        self._versions = [version for _, version in pairs]

    def version_at(self, step: int) -> int:
        position = bisect_right(self._steps, step)
        return self._versions[position - 1] if position else 0
