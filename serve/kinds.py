"""How each kind of question is asked and read, in terms of grades, weights and words."""

import asyncio
import re
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from dataclasses import replace
from typing import Any, Protocol, TypeVar

import numpy as np

from graphdrl.oracle.prompts import Prompt, as_words, check_attribute
from graphdrl.oracle.protocol import Busy, Late, OracleError
from graphdrl.oracle.questions import (
    NUM_GRADES,
    Answer,
    Ask,
    NameAnswer,
    NameQuestion,
    ProposeAnswer,
    ProposeQuestion,
    Question,
    RankAnswer,
    RankQuestion,
    RelateAnswer,
    RelateQuestion,
    Scores,
)
from graphdrl.oracle.scores import grades_of
from graphdrl.relations import CorrelateQuestion, RelationsVersion, correlate
from serve.engine import Request
from serve.knowledge import Knowledge
from serve.scoring import GRADE_TOKENS

A = TypeVar("A")
T = TypeVar("T")

_EITHER = ("1", "2")
_PART = 32
_PARTS_IN_FLIGHT = 4
_BUSY_S = 0.5
_LEAST_MOVE = 0.15
"""Grades between the two ends of a strip below which no direction is told."""
_LEAST_SPREAD = 0.25
"""Standard deviation of an attribute's grades, below which it does not vary."""
_RARELY = 0.05
_WORDS = re.compile(r"[^,.;:\n|/]+")


class Asking(Protocol):
    """The front, as the kinds of question see it."""

    knowledge: Knowledge
    run_aside: Callable[..., Awaitable[Any]]

    @property
    def score_version(self) -> str: ...

    async def grade(self, question: Question) -> Answer: ...

    async def distributions(self, question: Question) -> tuple[tuple[str, ...], np.ndarray, int]: ...

    async def weigh(
        self, prompt: Prompt, requests: Sequence[Request], asked: Ask, deadline_s: float | None
    ) -> tuple[np.ndarray, int]: ...

    async def write(
        self, prompt: Prompt, requests: Sequence[Request], asked: Ask, deadline_s: float | None
    ) -> tuple[list[str], int]: ...


class _Clock:
    """What is left of a question's time, for the questions that it is made of."""

    def __init__(self, asked: Ask) -> None:
        self._asked, self._started = asked, time.monotonic()

    def left(self) -> float | None:
        """Seconds, or None; raises Late when there are none."""
        if self._asked.deadline_s is None:
            return None
        left = self._asked.deadline_s - (time.monotonic() - self._started)
        if left <= 0:
            raise Late
        return left


async def answer(front: Asking, question: Ask[A]) -> A:
    """The answer to a question of any kind; raises ValueError for what is none."""
    handler = _HANDLERS.get(type(question))
    if handler is None:
        raise ValueError(f"the oracle has no kind of question {type(question).__name__!r}")
    if not front.knowledge.has_eyes and not isinstance(question, RelateQuestion):
        raise OracleError(f"model {front.knowledge.model!r} reads no images: ask it for beliefs (relate) alone")
    return await handler(front, question)


async def _score(front: Asking, question: Question) -> Answer:
    return await front.grade(question)


async def _rank(front: Asking, question: RankQuestion) -> RankAnswer:
    if question.first.shape != question.second.shape:
        raise ValueError(
            f"two images are ranked at a time: {question.first.shape} and {question.second.shape} are not pairs"
        )
    ask = _rank_directly if question.way == "direct" else _rank_by_scores
    more, version, num_asked = await ask(front, question)
    return RankAnswer(question.attributes, more, question.way, front.knowledge.model, version, num_asked)


async def _rank_by_scores(front: Asking, question: RankQuestion) -> tuple[np.ndarray, str, int]:
    """P(first > second) + P(equal) / 2 for two independent grades; float32 [B, K]."""
    both = Question(
        np.concatenate([question.first, question.second]),
        question.attributes,
        client=question.client,
        deadline_s=question.deadline_s,
    )
    _, probabilities, num_asked = await front.distributions(both)
    first, second = np.split(probabilities, 2)
    below = np.tril(np.ones((NUM_GRADES, NUM_GRADES)), -1) + np.eye(NUM_GRADES) / 2
    more = np.einsum("bki,ij,bkj->bk", first, below, second).astype(np.float32)
    return more, front.score_version, num_asked


async def _rank_directly(front: Asking, question: RankQuestion) -> tuple[np.ndarray, str, int]:
    """Asked in both orders, so that a habit of saying "first" cancels out; float32 [B, K]."""
    front.knowledge.check_attributes(question.attributes)
    prompt = front.knowledge.load_prompt("rank")
    pairs = list(zip(question.first, question.second, strict=True))
    requests = [
        Request(images, prompt.render(attribute), _EITHER)
        for one, other in pairs
        for attribute in question.attributes
        for images in ((one, other), (other, one))
    ]
    weights, num_asked = await front.weigh(prompt, requests, question, question.deadline_s)
    says_first = weights[:, 0].reshape(len(pairs), len(question.attributes), 2)
    return (says_first[..., 0] + 1 - says_first[..., 1]) / 2, prompt.version, num_asked


async def _relate(front: Asking, question: RelateQuestion) -> RelateAnswer:
    if not front.knowledge.has_commonsense:
        raise OracleError(
            f"model {front.knowledge.model!r} learnt to see and has no commonsense to be asked for: "
            "name a language model in oracle.model"
        )
    front.knowledge.check_attributes(question.attributes)
    names, clock = question.attributes, _Clock(question)
    pairs = [(i, j) for i in range(len(names)) for j in range(len(names)) if i != j]
    if not pairs:
        raise ValueError("a relation is between two attributes: name at least two")
    found = {}
    num_asked = 0
    versions = []
    for kind, tokens in (("relate", GRADE_TOKENS), ("relate_sign", _EITHER)):
        prompt = front.knowledge.load_prompt(kind)
        words = [as_words(name) for name in names]
        requests = [Request((), prompt.fill(given=words[i], told=words[j]), tokens) for i, j in pairs]
        found[kind], asked = await front.weigh(prompt, requests, question, clock.left())
        versions.append(prompt.version)
        num_asked += asked
    grades = grades_of(found["relate"])
    rows, columns = np.array(pairs).T

    def matrix(values: np.ndarray) -> np.ndarray:
        whole = np.zeros((len(names), len(names)), np.float32)
        whole[rows, columns] = values
        return whole

    sign = found["relate_sign"] @ np.array([1, -1], np.float32)
    return RelateAnswer(
        names,
        matrix(grades.expected),
        matrix(sign),
        matrix(grades.entropy),
        front.knowledge.model,
        "+".join(versions),
        num_asked,
    )


async def _name(front: Asking, question: NameQuestion) -> NameAnswer:
    if question.strips.ndim != 5 or question.strips.shape[1] < 2:
        raise ValueError(f"strips are [B, S, H, W, 3] with two images or more each, not {question.strips.shape}")
    prompt, clock = front.knowledge.load_prompt("name"), _Clock(question)
    ends = question.strips[:, [0, -1]]
    requests = [Request((first, last), prompt.text, most_tokens=12) for first, last in ends]
    texts, num_asked = await front.write(prompt, requests, question, clock.left())
    names = tuple(_attribute(front, text) for text in texts)

    async def direction(number: int) -> tuple[int, int]:
        if not names[number]:
            return 0, 0
        ask = Question(ends[number], (names[number],), "traversal", question.client, deadline_s=clock.left())
        graded = await front.grade(ask)
        move = float(graded.expected[1, 0] - graded.expected[0, 0])
        return int(np.sign(move)) if abs(move) >= _LEAST_MOVE else 0, graded.num_asked

    told = await _together(direction(number) for number in range(len(names)))
    return NameAnswer(
        names,
        np.array([sign for sign, _ in told], np.int8),
        front.knowledge.model,
        prompt.version,
        num_asked + sum(asked for _, asked in told),
    )


async def _propose(front: Asking, question: ProposeQuestion) -> ProposeAnswer:
    """Every image is described; what is said of some and not of others is graded on all, and what varies remains."""
    prompt, clock = front.knowledge.load_prompt("describe"), _Clock(question)
    requests = [Request((image,), prompt.text) for image in question.images]
    texts, num_asked = await front.write(prompt, requests, question, clock.left())
    said = Counter(name for text in texts for name in _attributes(front, text))
    shares = {name: count / len(texts) for name, count in said.items()}
    varied = [name for name, share in shares.items() if _RARELY < share < 1 - _RARELY]
    candidates = tuple(sorted(varied, key=lambda name: (abs(shares[name] - 0.5), name))[: 2 * question.most])
    if not candidates:
        none = np.zeros(0, np.float32)
        return ProposeAnswer((), none, none, front.knowledge.model, prompt.version, num_asked)
    graded = await _grade_in_parts(front, question, question.images, candidates, clock)
    num_asked += sum(part.num_asked for part in graded)
    spread = np.nanstd(np.concatenate([part.expected for part in graded]), axis=0)
    order = [k for k in np.argsort(-spread) if spread[k] >= _LEAST_SPREAD][: question.most]
    return ProposeAnswer(
        tuple(candidates[k] for k in order),
        np.array([shares[candidates[k]] for k in order], np.float32),
        spread[order].astype(np.float32),
        front.knowledge.model,
        prompt.version,
        num_asked,
    )


async def _correlate(front: Asking, question: CorrelateQuestion) -> RelationsVersion:
    front.knowledge.check_attributes(question.attributes)
    if len(question.attributes) < 2:
        raise ValueError("a relation is between two attributes: name at least two")
    clock = _Clock(question)
    scores: Scores | None = None
    for part in await _grade_in_parts(front, question, question.images, question.attributes, clock):
        own = Scores.from_answer(part, "data", np.ones(len(part.image_ids)))
        own = own.rows(sorted({image: row for row, image in enumerate(own.image_ids)}.values()))
        scores = own if scores is None else scores.extended(own)
    if scores is None:
        raise ValueError("relations are seen in images: send some")
    work = front.run_aside(correlate, scores, question.estimator, question.num_bootstrap, question.seed)
    try:
        return await asyncio.wait_for(work, clock.left())
    except TimeoutError:
        raise Late from None


async def _grade_in_parts(
    front: Asking, asked: Ask, images: np.ndarray, attributes: tuple[str, ...], clock: _Clock
) -> list[Answer]:
    """Many images, a few questions at a time; waits while the queue is full."""
    gate = asyncio.Semaphore(_PARTS_IN_FLIGHT)

    async def part(start: int) -> Answer:
        question = Question(images[start : start + _PART], attributes, client=asked.client)
        async with gate:
            while True:
                try:
                    return await front.grade(replace(question, deadline_s=clock.left()))
                except Busy:
                    await asyncio.sleep(_BUSY_S)

    return await _together(part(start) for start in range(0, len(images), _PART))


async def _together(work: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """All results, in order; the first error ends the rest and is raised as it is."""
    tasks = [asyncio.create_task(one) for one in work]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


def _attributes(front: Asking, text: str) -> set[str]:
    """The attributes in a list that the model wrote; what cannot be one is left out."""
    return {name for piece in _WORDS.findall(text) if (name := _attribute(front, piece))}


def _attribute(front: Asking, text: str) -> str:
    """What the model wrote, as an attribute's identifier; "" when it is none."""
    words = re.sub(r"[^\w\- ]", " ", text.lower()).split()
    name = "_".join(words[1:] if words[:1] in (["a"], ["an"], ["the"]) else words)
    try:
        check_attribute(name)
        front.knowledge.check_attributes((name,))
    except ValueError:
        return ""
    return name


_HANDLERS: dict[type[Ask], Callable[[Any, Any], Awaitable[Any]]] = {
    Question: _score,
    RankQuestion: _rank,
    RelateQuestion: _relate,
    NameQuestion: _name,
    ProposeQuestion: _propose,
    CorrelateQuestion: _correlate,
}
