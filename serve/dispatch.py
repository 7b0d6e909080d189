"""What waits for the engine, whose turn it is, what is with it now; answers are kept before they are handed out."""

import asyncio
import math
import time
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from graphdrl.oracle.protocol import OracleError
from serve.engine import EngineLost, ScoringEngine
from serve.logs import event
from serve.scoring import WRITE
from serve.sheets import Key, Sheet
from serve.turns import Turns

_FLUSH_EVERY_S = 0.25
_MAX_ATTEMPTS = 5


@dataclass(eq=False)
class Job:
    """Items that go to the engine together: one image's grades, or a single question.

    content: what the sheet makes its requests of. deadline: of whoever waits longest, by time.monotonic().
    """

    sheet: Sheet
    keys: tuple[Key, ...]
    content: Any
    deadline: float
    done: "asyncio.Future[list[Any]]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    clients: set[str] = field(default_factory=set)
    num_waiting: int = 0
    is_queued: bool = True
    batch: "_Batch | None" = None

    @property
    def size(self) -> int:
        return len(self.keys)

    @property
    def lane(self) -> Hashable:
        return self.sheet.lane


@dataclass(eq=False)
class _Batch:
    """Jobs in one call to an engine."""

    jobs: list[Job]
    call: "asyncio.Task[list[list[Any]]]"

    @property
    def is_wanted(self) -> bool:
        return any(job.num_waiting for job in self.jobs)


class Dispatcher:
    """Jobs in, items out.

    flush: writes what the sheets keep; a job is done only after it.
    The rest is as in `Front`.
    """

    def __init__(
        self, engine: ScoringEngine, flush: Callable[[], None], max_queue: int, batch_size: int, num_batches: int
    ) -> None:
        self._engine, self._flush_stores, self._batch_size = engine, flush, batch_size
        self._turns: Turns[Job] = Turns(max_queue)
        self._in_flight: dict[Key, Job] = {}
        self.asked_again = 0
        self._arrived = asyncio.Event()
        self._unwritten: list[asyncio.Future[None]] = []
        self._flusher: asyncio.Task | None = None
        self._flushed_at = -math.inf
        self._settling: set[asyncio.Task] = set()
        self._workers = [asyncio.create_task(self._work()) for _ in range(num_batches)]

    def joinable(self, key: Key, deadline: float) -> Job | None:
        """The job that will answer an item in time, if there is one."""
        job = self._in_flight.get(key)
        return job if job is not None and (job.is_queued or job.deadline >= deadline) else None

    def has_room(self, client: str, num_items: int) -> bool:
        return self._turns.has_room(client, num_items)

    def queued(self) -> dict[str, int]:
        """Items that wait for their turn, by client."""
        return self._turns.sizes()

    @property
    def num_in_flight(self) -> int:
        """Items that the engines have now, or that are being written."""
        return sum(not job.is_queued for job in self._in_flight.values())

    async def wait(self, jobs: Iterable[Job], client: str, deadline: float) -> bool:
        """Returns True when all jobs are done, False when the deadline came first; new ones take their turn."""
        jobs = list(dict.fromkeys(jobs))
        for job in jobs:
            job.num_waiting += 1
            job.deadline = max(job.deadline, deadline)
            if not job.is_queued or client in job.clients:
                continue
            self._in_flight.update(dict.fromkeys(job.keys, job))
            job.clients.add(client)
            self._turns.put(client, job)
        self._arrived.set()
        timeout = None if math.isinf(deadline) else max(0.0, deadline - time.monotonic())
        try:
            _, late = await asyncio.wait({job.done for job in jobs}, timeout=timeout)
        finally:
            for job in jobs:
                self._leave(job)
        return not late

    async def close(self) -> None:
        """Give up what waits; what came back from the engine is kept."""
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, *self._settling, return_exceptions=True)
        self._reject(set(self._in_flight.values()), OracleError("the oracle was closed"))

    def _leave(self, job: Job) -> None:
        """One waits no longer. What nobody waits for is not asked; a batch that nobody waits for is given up."""
        job.num_waiting -= 1
        if job.num_waiting or job.done.done():
            return
        if job.is_queued:
            job.is_queued = False
            self._forget(job)
        elif job.batch is not None and not job.batch.is_wanted:
            for other in job.batch.jobs:
                self._forget(other)  # whoever asks for it now must not wait for what is being given up
            job.batch.call.cancel()

    def _forget(self, job: Job) -> None:
        for key in job.keys:
            if self._in_flight.get(key) is job:
                del self._in_flight[key]

    async def _work(self) -> None:
        """Ask one batch after the other; the answers are kept and handed out meanwhile."""
        while True:
            jobs = self._turns.take(self._batch_size)
            if not jobs:
                self._arrived.clear()
                await self._arrived.wait()
                continue
            batch = _Batch(jobs, asyncio.create_task(self._ask(jobs)))
            for job in jobs:
                job.is_queued, job.batch = False, batch
            try:
                await asyncio.wait({batch.call})
            except asyncio.CancelledError:
                batch.call.cancel()
                raise
            self._end(batch)

    def _end(self, batch: _Batch) -> None:
        if batch.call.cancelled():
            self._reject(batch.jobs, OracleError("nobody waited for the answer any more"))
        elif (error := batch.call.exception()) is not None:
            self._reject(batch.jobs, error)
        else:
            task = asyncio.create_task(self._settle(batch.jobs, batch.call.result()))
            self._settling.add(task)
            task.add_done_callback(self._settling.discard)

    async def _ask(self, jobs: Sequence[Job]) -> list[list[Any]]:
        """The items of each job. A lost engine's batch is asked again: of another, or of the one in its place."""
        for attempt in range(1, _MAX_ATTEMPTS + 1):
            now = time.monotonic()
            parts = [job.sheet.requests(job.keys, job.content, _left(job.deadline, now)) for job in jobs]
            ask: Any = self._engine.generate if jobs[0].lane == WRITE else self._engine.probabilities
            try:
                replies = await ask([request for part in parts for request in part])
            except EngineLost as error:
                num_items = sum(job.size for job in jobs)
                event("engine_lost", reason=str(error), items=num_items, attempt=attempt)
                if attempt == _MAX_ATTEMPTS:
                    raise
                self.asked_again += num_items
                await asyncio.sleep(attempt / 2)
                continue
            items, start = [], 0
            for job, part in zip(jobs, parts, strict=True):
                items.append(job.sheet.read(replies[start : start + len(part)], job.size))
                start += len(part)
            return items
        raise AssertionError("the last attempt returns or raises")

    async def _settle(self, jobs: Sequence[Job], items: Sequence[list[Any]]) -> None:
        """Keep what came back, then answer. A malformed item is not kept, so that it is asked again another time."""
        whole: dict[Sheet, list[tuple[Key, Any]]] = {}
        for job, own in zip(jobs, items, strict=True):
            kept = [pair for pair in zip(job.keys, own, strict=True) if pair[1] is not None]
            if kept:
                whole.setdefault(job.sheet, []).extend(kept)
        try:
            for sheet, pairs in whole.items():
                sheet.keep([key for key, _ in pairs], [item for _, item in pairs])
            if whole:
                await self._written()
        except Exception as error:
            self._reject(jobs, error)
            return
        for job, own in zip(jobs, items, strict=True):
            self._forget(job)
            job.batch = None  # or image, job and batch keep each other until the garbage collector comes by
            if not job.done.done():
                job.done.set_result(own)

    def _reject(self, jobs: Iterable[Job], error: BaseException) -> None:
        for job in jobs:
            self._forget(job)
            job.batch = None
            if not job.done.done():
                job.done.set_exception(error)
                job.done.exception()  # whoever waited may be gone: that is no error of its own

    async def _written(self) -> None:
        """Returns when all that was kept so far is on disk; several batches share one segment."""
        written = asyncio.get_running_loop().create_future()
        self._unwritten.append(written)
        if self._flusher is None or self._flusher.done():
            self._flusher = asyncio.create_task(self._flush())
        await written

    async def _flush(self) -> None:
        while self._unwritten:
            await asyncio.sleep(max(0.0, self._flushed_at + _FLUSH_EVERY_S - time.monotonic()))
            taken, self._unwritten = self._unwritten, []
            try:
                await asyncio.to_thread(self._flush_stores)
            except Exception as error:
                for written in taken:
                    written.set_exception(error)
            else:
                for written in taken:
                    written.set_result(None)
            self._flushed_at = time.monotonic()


def _left(deadline: float, now: float) -> float | None:
    return None if math.isinf(deadline) else max(0.0, deadline - now)
