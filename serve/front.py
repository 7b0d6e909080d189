"""The oracle's front: what is known, what is already asked, whose turn it is; nothing is answered before it is kept."""

import asyncio
import math
import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from graphdrl.images.ids import image_ids
from graphdrl.oracle.prompts import Prompt, check_attribute
from graphdrl.oracle.protocol import Busy, OracleError
from graphdrl.oracle.questions import NUM_GRADES, Answer, Question
from graphdrl.oracle.scores import ScoreStore, grades_of
from serve.engine import EngineLost, Request, ScoringEngine

GRADE_TOKENS = tuple(str(grade) for grade in range(NUM_GRADES))

_FLUSH_EVERY_S = 0.25
_MAX_ATTEMPTS = 3


@dataclass(eq=False)
class _Job:
    """One image's attributes on their way through the engine, and everyone who waits for them."""

    image_id: str
    image: np.ndarray
    attributes: tuple[str, ...]
    deadline: float
    done: "asyncio.Future[np.ndarray]"
    num_waiting: int = 0
    is_queued: bool = True

    @property
    def keys(self) -> list[tuple[str, str]]:
        return [(self.image_id, attribute) for attribute in self.attributes]


@dataclass
class _Plan:
    """Where each unknown grade of a question comes from: (row, column) -> job and place in it."""

    deadline: float
    places: list[tuple[int, int, _Job, int]] = field(default_factory=list)
    new: list[_Job] = field(default_factory=list)

    @property
    def jobs(self) -> set[_Job]:
        return {job for _, _, job, _ in self.places}

    @property
    def num_asked(self) -> int:
        return sum(len(job.attributes) for job in self.new)


def _check(question: Question) -> None:
    for attribute in question.attributes:
        check_attribute(attribute)
    if len(set(question.attributes)) < len(question.attributes):
        raise ValueError(f"an attribute is asked twice in one question: {', '.join(question.attributes)}")


class Front:
    """Stands between all clients and all engine replicas; there is one, so that nothing is asked twice.

    max_queue: grades that may wait for the engine or be with it; beyond it questions are refused as Busy.
    batch_size: grades in one call to an engine; num_batches: calls in flight at once.
    """

    def __init__(
        self,
        engine: ScoringEngine,
        store: ScoreStore,
        *,
        model: str,
        prompt: Prompt,
        max_queue: int = 20_000,
        batch_size: int = 160,
        num_batches: int = 2,
    ) -> None:
        self._engine, self._store, self._prompt = engine, store, prompt
        self.model = model
        self._max_queue, self._batch_size = max_queue, batch_size
        self._queue: deque[_Job] = deque()
        self._in_flight: dict[tuple[str, str], _Job] = {}
        self._counts: Counter[str] = Counter()
        self._arrived = asyncio.Event()
        self._unwritten: list[asyncio.Future[None]] = []
        self._flusher: asyncio.Task | None = None
        self._flushed_at = -math.inf
        self._settling: set[asyncio.Task] = set()
        self._workers = [asyncio.create_task(self._work()) for _ in range(num_batches)]

    async def answer(self, question: Question) -> Answer:
        """Every grade from the store, from a question in flight, or from the engine.

        Raises Busy when the queue is full, ValueError for what is no question, OracleError when there is no answer.
        """
        _check(question)
        ids = image_ids(question.images)
        probabilities = self._store.lookup(ids, question.attributes, self.model, self._prompt.version)
        plan = self._plan(question, ids, np.isnan(probabilities[..., 0]))
        self._count(question, plan)
        await self._wait(question, plan)
        for row, column, job, place in plan.places:
            probabilities[row, column] = job.done.result()[place]
        grades = grades_of(probabilities)
        self._counts["malformed"] += int(grades.malformed.sum())
        return Answer(ids, question.attributes, *grades, self.model, self._prompt.version, plan.num_asked)

    def stats(self) -> dict[str, int]:
        """Grades asked of the engine, answered from the store, joined to a question in flight, malformed; and now."""
        names = ("questions", "refused", "asked", "from_store", "joined", "malformed")
        queued = sum(len(job.attributes) for job in self._queue if job.num_waiting)
        return {name: self._counts[name] for name in names} | {
            "queued": queued,
            "in_flight": len(self._in_flight) - queued,
            "stored": len(self._store),
        }

    async def close(self) -> None:
        """Give up what waits; what came back from the engine is kept."""
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, *self._settling, return_exceptions=True)
        self._reject(set(self._in_flight.values()), OracleError("the oracle was closed"))
        await asyncio.to_thread(self._store.close)

    def _plan(self, question: Question, ids: Sequence[str], unknown: np.ndarray) -> _Plan:
        deadline = math.inf if question.deadline_s is None else time.monotonic() + question.deadline_s
        plan = _Plan(deadline)
        new_jobs: dict[tuple[str, str], _Job] = {}
        for row in np.flatnonzero(unknown.any(axis=1)):
            image_id, fresh = ids[row], []
            for column in np.flatnonzero(unknown[row]):
                key = (image_id, question.attributes[column])
                job = new_jobs.get(key) or self._joinable(key, deadline)
                if job is None:
                    fresh.append(column)
                else:
                    plan.places.append((row, column, job, job.attributes.index(key[1])))
            if fresh:
                job = self._new_job(image_id, question, row, fresh, deadline)
                plan.new.append(job)
                plan.places += [(row, column, job, place) for place, column in enumerate(fresh)]
                new_jobs.update(dict.fromkeys(job.keys, job))
        return plan

    @staticmethod
    def _new_job(image_id: str, question: Question, row: int, columns: Sequence[int], deadline: float) -> _Job:
        attributes = tuple(question.attributes[column] for column in columns)
        return _Job(image_id, question.images[row], attributes, deadline, asyncio.get_running_loop().create_future())

    def _joinable(self, key: tuple[str, str], deadline: float) -> _Job | None:
        """The job that will answer a grade in time, if there is one."""
        job = self._in_flight.get(key)
        return job if job is not None and (job.is_queued or job.deadline >= deadline) else None

    def _count(self, question: Question, plan: _Plan) -> None:
        if self._in_flight and len(self._in_flight) + plan.num_asked > self._max_queue:
            self._counts["refused"] += 1
            raise Busy(
                f"the oracle's queue is full ({len(self._in_flight)} grades waiting, limit {self._max_queue}): "
                "ask again later, or add replicas with oracle.num_replicas"
            )
        num_grades = len(question.images) * len(question.attributes)
        self._counts["questions"] += 1
        self._counts["asked"] += plan.num_asked
        self._counts["joined"] += len(plan.places) - plan.num_asked
        self._counts["from_store"] += num_grades - len(plan.places)

    async def _wait(self, question: Question, plan: _Plan) -> None:
        jobs = plan.jobs
        if not jobs:
            return
        for job in jobs:
            job.num_waiting += 1
            job.deadline = max(job.deadline, plan.deadline)
        for job in plan.new:
            self._in_flight.update(dict.fromkeys(job.keys, job))
            self._queue.append(job)
        self._arrived.set()
        try:
            _, late = await asyncio.wait({job.done for job in jobs}, timeout=question.deadline_s)
        finally:
            for job in jobs:
                self._leave(job)
        if late:
            raise OracleError(f"the oracle did not answer within the question's {question.deadline_s} s")

    def _leave(self, job: _Job) -> None:
        """One waits no longer; a job that nobody waits for is not asked."""
        job.num_waiting -= 1
        if job.num_waiting == 0 and job.is_queued:
            self._forget(job)

    def _forget(self, job: _Job) -> None:
        for key in job.keys:
            if self._in_flight.get(key) is job:
                del self._in_flight[key]

    async def _work(self) -> None:
        """Ask one batch after the other; the answers are kept and handed out meanwhile."""
        while True:
            jobs = self._take_batch()
            if not jobs:
                self._arrived.clear()
                await self._arrived.wait()
                continue
            try:
                probabilities = await self._ask(jobs)
            except asyncio.CancelledError:
                self._reject(jobs, OracleError("the oracle was closed"))
                raise
            except Exception as error:  # whoever asked must hear of it, and the next batch may do better
                self._reject(jobs, error)
                continue
            task = asyncio.create_task(self._settle(jobs, probabilities))
            self._settling.add(task)
            task.add_done_callback(self._settling.discard)

    def _take_batch(self) -> list[_Job]:
        """Whose turn it is: first come, first served, images whole."""
        jobs, num_grades = [], 0
        while self._queue and num_grades < self._batch_size:
            job = self._queue.popleft()
            if job.num_waiting == 0:
                continue
            job.is_queued = False
            jobs.append(job)
            num_grades += len(job.attributes)
        return jobs

    async def _ask(self, jobs: list[_Job]) -> np.ndarray:
        for attempt in range(1, _MAX_ATTEMPTS + 1):
            try:
                return await self._engine.probabilities(self._requests(jobs))
            except EngineLost:
                if attempt == _MAX_ATTEMPTS:
                    raise
                await asyncio.sleep(attempt)
        raise AssertionError("the last attempt returns or raises")

    def _requests(self, jobs: list[_Job]) -> list[Request]:
        now = time.monotonic()
        return [
            Request(
                (job.image,),
                self._prompt.render(attribute),
                GRADE_TOKENS,
                None if math.isinf(job.deadline) else max(0.0, job.deadline - now),
            )
            for job in jobs
            for attribute in job.attributes
        ]

    async def _settle(self, jobs: list[_Job], probabilities: np.ndarray) -> None:
        """Keep what came back, then answer. A malformed grade is not kept, so that it is asked again another time."""
        keys = [key for job in jobs for key in job.keys]
        whole = np.flatnonzero(~np.isnan(probabilities).any(axis=1))
        try:
            if len(whole):
                images, attributes = zip(*(keys[row] for row in whole), strict=True)
                self._store.append(images, attributes, probabilities[whole], self.model, self._prompt.version)
                await self._written()
        except Exception as error:
            self._reject(jobs, error)
            return
        parts = np.split(probabilities, np.cumsum([len(job.attributes) for job in jobs])[:-1])
        for job, part in zip(jobs, parts, strict=True):
            self._forget(job)
            if not job.done.done():
                job.done.set_result(part)

    def _reject(self, jobs: Sequence[_Job] | set[_Job], error: Exception) -> None:
        for job in jobs:
            self._forget(job)
            if not job.done.done():
                job.done.set_exception(error)
                job.done.exception()  # whoever waited may be gone: that is no error of its own

    async def _written(self) -> None:
        """Returns when all that was appended so far is on disk; several batches share one segment."""
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
                await asyncio.to_thread(self._store.flush)
            except Exception as error:
                for written in taken:
                    written.set_exception(error)
            else:
                for written in taken:
                    written.set_result(None)
            self._flushed_at = time.monotonic()
