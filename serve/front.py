"""The oracle's front: what is known, what is already asked, what must be asked; and who asked how much."""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from graphdrl.images.ids import image_ids
from graphdrl.oracle.answers import AnswerStore
from graphdrl.oracle.prompts import SECOND_WORDING, Prompt
from graphdrl.oracle.protocol import Busy, Late, OracleError
from graphdrl.oracle.questions import Answer, Ask, Question
from graphdrl.oracle.scores import ScoreStore, grades_of
from serve.counts import Ledger, Snapshot
from serve.dispatch import Dispatcher, Job
from serve.engine import Request, ScoringEngine
from serve.kinds import answer
from serve.knowledge import Knowledge
from serve.logs import event
from serve.scoring import Scoring, TokenScoring
from serve.sheets import AnswerSheet, GradeSheet, Key, key_of

A = TypeVar("A")


@dataclass
class _Plan:
    """Where each unknown item of a question comes from: its place in the question -> job and place in the job."""

    deadline: float
    places: dict[int, tuple[Job, int]] = field(default_factory=dict)
    new: list[Job] = field(default_factory=list)

    @property
    def num_asked(self) -> int:
        return sum(job.size for job in self.new)

    def items(self) -> Iterator[tuple[int, Any]]:
        """Each place with its item, once the jobs are done; None where it is malformed."""
        for place, (job, at) in self.places.items():
            yield place, job.done.result()[at]


class Front:
    """Stands between all clients and all engine replicas; there is one, so that nothing is asked twice.

    max_queue: items that may wait for the engine; beyond it questions are refused as Busy.
    batch_size: items in one call to an engine; num_batches: calls in flight at once.
    run_aside: awaits a function that computes for seconds, somewhere else.
    """

    def __init__(
        self,
        engine: ScoringEngine,
        scores: ScoreStore,
        answers: AnswerStore,
        scoring: Scoring,
        knowledge: Knowledge,
        *,
        max_queue: int = 20_000,
        batch_size: int = 160,
        num_batches: int = 2,
        run_aside: Callable[..., Awaitable[Any]] = asyncio.to_thread,
    ) -> None:
        self.knowledge, self.run_aside = knowledge, run_aside
        self._engine, self._scores, self._answers, self._max_queue = engine, scores, answers, max_queue
        second = TokenScoring(knowledge.load_prompt(SECOND_WORDING))
        sheets = {"usual": scoring, "second": second}
        self._grades = {wording: GradeSheet(way, scores, knowledge.model) for wording, way in sheets.items()}
        self._ledger = Ledger()
        self._started = time.monotonic()
        self._dispatcher = Dispatcher(engine, self._flush, max_queue, batch_size, num_batches)

    async def answer(self, question: Ask[A]) -> A:
        """The answer to a question of any kind: from the stores, from what is in flight, or from the engine.

        Raises Busy when the queue is full, Late when the deadline passes, ValueError for what is no question,
        OracleError when there is no answer.
        """
        with self._counted(question):
            return await answer(self, question)

    @property
    def score_version(self) -> str:
        """Of the prompt by which images are graded."""
        return self._grades["usual"].prompt.version

    async def grade(self, question: Question) -> Answer:
        ids, probabilities, num_asked = await self.distributions(question)
        grades, knowledge = grades_of(probabilities), self.knowledge
        version = self._grades[question.wording].prompt.version
        flagged = knowledge.flags(grades, question.attributes, version)
        counts = self._ledger.of(question.client)
        num_malformed = int(grades.malformed.sum())
        if num_malformed:
            event("malformed", client=question.client, malformed=num_malformed, items=grades.malformed.size)
        counts.malformed += num_malformed
        counts.images += len(ids)
        counts.images_zero += int((np.rint(grades.expected) == 0).all(axis=1).sum())
        counts.images_flagged += int(flagged.sum())
        return Answer(ids, question.attributes, *grades, flagged, knowledge.model, version, num_asked)

    async def distributions(self, question: Question) -> tuple[tuple[str, ...], np.ndarray, int]:
        """Image ids, probabilities of the grades float32 [B, K, 6] (NaN malformed), and how many were asked."""
        self.knowledge.check_attributes(question.attributes)
        ids = image_ids(question.images)
        sheet = self._grades[question.wording]
        found = sheet.lookup(ids, question.attributes)
        unknown = np.argwhere(np.isnan(found[..., 0]))
        keys = [(ids[row], question.attributes[column], sheet.prompt.version) for row, column in unknown]
        image_of = dict(zip(ids, question.images, strict=True))

        def make_jobs(fresh: Sequence[Key], deadline: float) -> Iterator[Job]:
            by_image: dict[str, list[Key]] = {}
            for key in fresh:
                by_image.setdefault(key[0], []).append(key)
            for image, own in by_image.items():
                yield Job(sheet, tuple(own), image_of[image], deadline)

        plan = await self._obtain(question, question.deadline_s, found[..., 0].size, keys, make_jobs)
        for place, item in plan.items():
            if item is not None:
                found[tuple(unknown[place])] = item
        return ids, found, plan.num_asked

    async def weigh(
        self, prompt: Prompt, requests: Sequence[Request], asked: Ask, deadline_s: float | None
    ) -> tuple[np.ndarray, int]:
        """Distributions float32 [N, T] over each request's T allowed tokens (NaN malformed); how many were asked."""
        items, num_asked = await self._others(prompt, requests, asked, deadline_s)
        unknown = (math.nan,) * len(requests[0].allowed_tokens)
        return np.array([unknown if item is None else item.weights for item in items], np.float32), num_asked

    async def write(
        self, prompt: Prompt, requests: Sequence[Request], asked: Ask, deadline_s: float | None
    ) -> tuple[list[str], int]:
        """A text for each request, empty where there is none; and how many were asked."""
        items, num_asked = await self._others(prompt, requests, asked, deadline_s)
        return ["" if item is None else item.text for item in items], num_asked

    def snapshot(self, num_replicas: int = 1) -> Snapshot:
        """All counts now."""
        usage = self._engine.usage()
        return Snapshot(
            model=self.knowledge.model,
            clients=self._ledger.clients,
            queued=self._dispatcher.queued(),
            in_flight=self._dispatcher.num_in_flight,
            stored=len(self._scores) + len(self._answers),
            asked_again=self._dispatcher.asked_again,
            num_replicas=num_replicas,
            prompt_tokens=usage.prompt_tokens,
            written_tokens=usage.written_tokens,
            busy_s=usage.busy_s,
            up_s=time.monotonic() - self._started,
        )

    async def close(self) -> None:
        """Give up what waits; what came back from the engine is kept."""
        await self._dispatcher.close()
        event("stopped", model=self.knowledge.model, stored=len(self._scores) + len(self._answers))
        await asyncio.to_thread(self._scores.close)
        await asyncio.to_thread(self._answers.close)

    async def _others(
        self, prompt: Prompt, requests: Sequence[Request], asked: Ask, deadline_s: float | None
    ) -> tuple[list[Any], int]:
        """What is kept of each request's answer; equal requests are one."""
        if not requests:
            raise ValueError("there is nothing to ask about in this question: send at least one image")
        sheet = AnswerSheet(prompt, self._answers, self.knowledge.model, len(requests[0].allowed_tokens))
        keys = [key_of(request) for request in requests]
        request_of = dict(zip(keys, requests, strict=True))
        items: list[Any] = sheet.lookup(keys)
        unknown = [number for number, item in enumerate(items) if item is None]

        def make_jobs(fresh: Sequence[Key], deadline: float) -> Iterator[Job]:
            for key in fresh:
                yield Job(sheet, (key,), request_of[key], deadline)

        plan = await self._obtain(asked, deadline_s, len(keys), [keys[number] for number in unknown], make_jobs)
        for place, item in plan.items():
            items[unknown[place]] = item
        self._ledger.of(asked.client).malformed += sum(item is None for item in items)
        return items, plan.num_asked

    async def _obtain(
        self,
        asked: Ask,
        deadline_s: float | None,
        num_items: int,
        unknown: Sequence[Key],
        make_jobs: Callable[[Sequence[Key], float], Iterator[Job]],
    ) -> _Plan:
        """Join what is in flight and will be answered in time, ask for the rest, equal keys once, and wait for all."""
        plan = _Plan(math.inf if deadline_s is None else time.monotonic() + deadline_s)
        for place, key in enumerate(unknown):
            job = self._dispatcher.joinable(key, plan.deadline)
            if job is not None:
                plan.places[place] = job, job.keys.index(key)
        fresh = list(dict.fromkeys(key for place, key in enumerate(unknown) if place not in plan.places))
        plan.new = list(make_jobs(fresh, plan.deadline))
        new = {key: (job, at) for job in plan.new for at, key in enumerate(job.keys)}
        plan.places |= {place: new[key] for place, key in enumerate(unknown) if place not in plan.places}
        self._count(asked.client, num_items, plan)
        jobs = [job for job, _ in plan.places.values()]
        if jobs and not await self._dispatcher.wait(jobs, asked.client, plan.deadline):
            raise Late
        return plan

    def _count(self, client: str, num_items: int, plan: _Plan) -> None:
        counts = self._ledger.of(client)
        if plan.new and not self._dispatcher.has_room(client, plan.num_asked):
            waiting = sum(self._dispatcher.queued().values())
            raise Busy(
                f"the oracle's queue is full ({waiting} items waiting, limit {self._max_queue}): "
                "ask again later, or add replicas with oracle.num_replicas"
            )
        counts.items += num_items
        counts.asked += plan.num_asked
        counts.joined += len(plan.places) - plan.num_asked
        counts.from_store += num_items - len(plan.places)

    @contextmanager
    def _counted(self, question: Ask) -> Iterator[None]:
        """What became of a question, in the client's counts and in the log."""
        counts, started = self._ledger.of(question.client), time.monotonic()
        counts.questions += 1
        try:
            yield
        except Busy as error:
            counts.refused += 1
            event("refused", client=question.client, reason=str(error))
            raise
        except Late:
            counts.late += 1
            event("late", client=question.client, kind=type(question).__name__, deadline_s=question.deadline_s)
            raise Late(f"the oracle did not answer within the question's {question.deadline_s:g} s") from None
        except asyncio.CancelledError:
            counts.given_up += 1
            raise
        except OracleError as error:
            counts.failed += 1
            event("failed", client=question.client, kind=type(question).__name__, reason=str(error))
            raise
        counts.took(time.monotonic() - started)

    def _flush(self) -> None:
        self._scores.flush()
        self._answers.flush()
