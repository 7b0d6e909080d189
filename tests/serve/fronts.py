"""A front over a fake engine, for the length of a scenario."""

import asyncio
import zlib

import numpy as np

from graphdrl.images.ids import image_ids
from graphdrl.oracle.answers import AnswerStore
from graphdrl.oracle.prompts import load_prompt
from graphdrl.oracle.scores import ScoreStore
from serve.fakes import FakeEngine
from serve.front import Front
from serve.knowledge import Knowledge
from serve.scoring import TokenScoring

PROMPT = load_prompt("score")
ATTRIBUTES = ("hat", "age", "beard")
MODEL = "a-model"


def some_images(num: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (num, 8, 8, 3), dtype=np.uint8)


def grade(image: str, attribute: str) -> float:
    """A known grade in 0..5 for every image and attribute."""
    return zlib.crc32(f"{image}{attribute}".encode()) % 501 / 100


def known(images: np.ndarray, attributes=ATTRIBUTES) -> np.ndarray:
    return np.array([[grade(image, attribute) for attribute in attributes] for image in image_ids(images)])


def fake_engine(**options) -> FakeEngine:
    return FakeEngine(PROMPT, ATTRIBUTES, grade, **options)


def gated() -> FakeEngine:
    """An engine that answers nothing until its gate is opened."""
    return fake_engine(gate=asyncio.Event())


def make_front(engine, store: ScoreStore, knowledge: Knowledge | None = None, way=None, **options) -> Front:
    answers = AnswerStore(store.folder / "answers")
    return Front(
        engine, store, answers, way or TokenScoring(PROMPT), knowledge or Knowledge(MODEL, load_prompt), **options
    )


def with_front(tmp_path, scenario, *, engine=None, **options):
    """Run `scenario(front, engine)` on a front over a store in tmp_path, then close it."""
    engine = engine or fake_engine()

    async def main():
        front = make_front(engine, ScoreStore(tmp_path), **options)
        try:
            return await scenario(front, engine)
        finally:
            await front.close()

    return asyncio.run(main())


def totals(front: Front) -> dict[str, int | float]:
    """All counts, over all clients."""
    now = front.snapshot()
    current = {"queued": sum(now.queued.values()), "in_flight": now.in_flight, "stored": now.stored}
    return now.total() | current | {"asked_again": now.asked_again}


async def asking(front, engine, *questions):
    """Tasks that ask, once the front has taken all of them in and the engine has begun with something."""
    items = totals(front)["items"] + sum(len(question.images) * len(question.attributes) for question in questions)
    tasks = [asyncio.create_task(front.answer(question)) for question in questions]
    while totals(front)["items"] < items or not engine.asked:
        await asyncio.sleep(0)
    return tasks
