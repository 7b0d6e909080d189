"""The front with a fake engine: nothing is asked twice, nothing is answered before it is kept."""

import asyncio
import zlib

import numpy as np
import pytest

from graphdrl.images.ids import image_id, image_ids
from graphdrl.oracle.prompts import load_prompt
from graphdrl.oracle.protocol import Busy, OracleError
from graphdrl.oracle.questions import Question
from graphdrl.oracle.scores import ScoreStore
from serve.fakes import FakeEngine
from serve.front import Front

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


def with_front(tmp_path, scenario, *, engine=None, **options):
    """Run `scenario(front, engine)` on a front over a store in tmp_path, then close it."""
    engine = engine or FakeEngine(PROMPT, ATTRIBUTES, grade)

    async def main():
        front = Front(engine, ScoreStore(tmp_path), model=MODEL, prompt=PROMPT, **options)
        try:
            return await scenario(front, engine)
        finally:
            await front.close()

    return asyncio.run(main())


def test_answers_carry_the_engines_grades(tmp_path):
    images = some_images(5)

    async def scenario(front, engine):
        return await front.answer(Question(images, ATTRIBUTES)), front.stats()

    answer, stats = with_front(tmp_path, scenario)
    np.testing.assert_allclose(answer.expected, known(images), atol=1e-5)
    assert answer.image_ids == image_ids(images)
    assert answer.attributes == ATTRIBUTES
    assert (answer.model, answer.prompt_version) == (MODEL, PROMPT.version)
    assert answer.num_asked == stats["asked"] == stats["stored"] == 15
    assert stats["queued"] == stats["in_flight"] == 0


def test_what_is_in_the_store_is_not_asked_again_also_after_a_restart(tmp_path):
    images = some_images(4)

    async def first(front, engine):
        await front.answer(Question(images[:2], ATTRIBUTES))

    async def second(front, engine):
        return await front.answer(Question(images, ATTRIBUTES)), engine.asked, front.stats()

    with_front(tmp_path, first)
    answer, asked, stats = with_front(tmp_path, second)
    np.testing.assert_allclose(answer.expected, known(images), atol=1e-5)
    assert {image for image, _ in asked[0]} == set(image_ids(images[2:]))
    assert (answer.num_asked, stats["asked"], stats["from_store"]) == (6, 6, 6)


def test_only_the_unknown_attributes_of_an_image_are_asked(tmp_path):
    images = some_images(1)

    async def scenario(front, engine):
        await front.answer(Question(images, ("hat",)))
        return await front.answer(Question(images, ("age", "hat"))), engine.asked

    answer, asked = with_front(tmp_path, scenario)
    np.testing.assert_allclose(answer.expected, known(images, ("age", "hat")), atol=1e-5)
    assert asked == [[(image_id(images[0]), "hat")], [(image_id(images[0]), "age")]]


def gated() -> FakeEngine:
    """An engine that answers nothing until its gate is opened."""
    return FakeEngine(PROMPT, ATTRIBUTES, grade, gate=asyncio.Event())


async def asking(front, engine, *questions):
    """Tasks that ask, once the engine has begun with the first of them or the front has taken them in."""
    num_calls = len(engine.asked)
    tasks = [asyncio.create_task(front.answer(question)) for question in questions]
    while len(engine.asked) == num_calls and not front.stats()["queued"]:
        await asyncio.sleep(0)
    return tasks


def test_questions_in_flight_are_joined(tmp_path):
    images = some_images(6)
    questions = [Question(images[:4], ATTRIBUTES), Question(images[2:], ATTRIBUTES), Question(images[:4], ("age",))]

    async def scenario(front, engine):
        tasks = [*await asking(front, engine, questions[0]), *await asking(front, engine, *questions[1:])]
        engine.gate.set()
        return await asyncio.gather(*tasks), front.stats(), engine.asked

    answers, stats, asked = with_front(tmp_path, scenario, engine=gated(), num_batches=1)
    np.testing.assert_allclose(answers[0].expected, known(images[:4]), atol=1e-5)
    np.testing.assert_allclose(answers[1].expected, known(images[2:]), atol=1e-5)
    np.testing.assert_allclose(answers[2].expected, known(images[:4], ("age",)), atol=1e-5)
    keys = [key for call in asked for key in call]
    assert len(keys) == len(set(keys)) == 18
    assert [answer.num_asked for answer in answers] == [12, 6, 0]
    assert stats["joined"] == 6 + 4


def test_the_same_image_twice_in_a_question_is_asked_once(tmp_path):
    image = some_images(1)

    async def scenario(front, engine):
        return await front.answer(Question(np.concatenate([image, image]), ATTRIBUTES)), engine.asked

    answer, asked = with_front(tmp_path, scenario)
    np.testing.assert_array_equal(answer.expected[0], answer.expected[1])
    assert len(asked[0]) == len(ATTRIBUTES)


def test_all_attributes_of_an_image_go_in_one_call_and_calls_are_bounded(tmp_path):
    images = some_images(10)

    async def scenario(front, engine):
        await front.answer(Question(images, ATTRIBUTES))
        return engine.asked

    asked = with_front(tmp_path, scenario, batch_size=6, num_batches=1)
    assert [len(call) for call in asked] == [6] * 5
    for call in asked:
        assert call[0][0] == call[1][0] == call[2][0]


def test_a_full_queue_is_busy_and_free_again_later(tmp_path):
    async def scenario(front, engine):
        (first,) = await asking(front, engine, Question(some_images(3), ATTRIBUTES))
        with pytest.raises(Busy, match=r"9 grades waiting, limit 10"):
            await front.answer(Question(some_images(2, seed=1), ATTRIBUTES))
        engine.gate.set()
        await first
        await front.answer(Question(some_images(2, seed=1), ATTRIBUTES))
        return front.stats()

    stats = with_front(tmp_path, scenario, engine=gated(), max_queue=10)
    assert (stats["refused"], stats["asked"]) == (1, 15)


def test_a_malformed_grade_is_flagged_and_asked_again_another_time(tmp_path):
    images = some_images(3)
    engine = FakeEngine(PROMPT, ATTRIBUTES, grade, malformed=[image_id(images[1])])

    async def scenario(front, engine):
        answer = await front.answer(Question(images, ATTRIBUTES))
        engine.malformed.clear()
        return answer, await front.answer(Question(images, ATTRIBUTES)), front.stats()

    answer, again, stats = with_front(tmp_path, scenario, engine=engine)
    assert answer.malformed.tolist() == [[False] * 3, [True] * 3, [False] * 3]
    assert np.isnan(answer.expected[1]).all()
    assert again.num_asked == 3
    assert not again.malformed.any()
    assert stats["malformed"] == 3


def test_grades_are_on_disk_before_they_are_answered(tmp_path):
    images = some_images(2)
    order = []

    class Watched(ScoreStore):
        def flush(self):
            super().flush()
            order.append("kept")

    async def main():
        front = Front(FakeEngine(PROMPT, ATTRIBUTES, grade), Watched(tmp_path), model=MODEL, prompt=PROMPT)
        await front.answer(Question(images, ATTRIBUTES))
        order.append("answered")
        kept = ScoreStore(tmp_path).lookup(image_ids(images), ATTRIBUTES, MODEL, PROMPT.version)
        await front.close()
        return kept

    kept = asyncio.run(main())
    assert order[:2] == ["kept", "answered"]
    assert not np.isnan(kept).any()


def test_a_store_that_cannot_be_written_is_no_answer(tmp_path):
    class Full(ScoreStore):
        def flush(self):
            raise OracleError("the score store is full")

        def close(self):
            pass

    async def main():
        front = Front(FakeEngine(PROMPT, ATTRIBUTES, grade), Full(tmp_path), model=MODEL, prompt=PROMPT)
        with pytest.raises(OracleError, match="the score store is full"):
            await front.answer(Question(some_images(2), ATTRIBUTES))
        await front.close()

    asyncio.run(main())


def test_a_lost_engine_is_asked_again(tmp_path):
    images = some_images(2)
    engine = FakeEngine(PROMPT, ATTRIBUTES, grade, num_losses=1)

    async def scenario(front, engine):
        return await front.answer(Question(images, ATTRIBUTES))

    answer = with_front(tmp_path, scenario, engine=engine)
    np.testing.assert_allclose(answer.expected, known(images), atol=1e-5)
    assert len(engine.asked) == 2


def test_an_engine_that_cannot_answer_fails_the_question_and_not_the_front(tmp_path):
    engine = FakeEngine(PROMPT, ATTRIBUTES, grade, error=OracleError("the model speaks no digits"))

    async def scenario(front, engine):
        with pytest.raises(OracleError, match="the model speaks no digits"):
            await front.answer(Question(some_images(2), ATTRIBUTES))
        engine.error = None
        return await front.answer(Question(some_images(2), ATTRIBUTES))

    assert with_front(tmp_path, scenario, engine=engine).num_asked == 6


def test_a_deadline_ends_the_wait_and_what_is_not_begun_is_not_asked(tmp_path):
    async def scenario(front, engine):
        (first,) = await asking(front, engine, Question(some_images(2), ATTRIBUTES))
        with pytest.raises(OracleError, match=r"within the question's 0.01 s"):
            await front.answer(Question(some_images(2, seed=1), ATTRIBUTES, deadline_s=0.01))
        engine.gate.set()
        await first
        return front.stats(), engine.asked

    stats, asked = with_front(tmp_path, scenario, engine=gated(), num_batches=1)
    assert len(asked) == 1
    assert stats["queued"] == stats["in_flight"] == 0


def test_a_question_given_up_is_not_asked_unless_another_waits_for_it(tmp_path):
    busy, shared, lonely = some_images(1), some_images(1, seed=1), some_images(1, seed=2)

    async def scenario(front, engine):
        (first,) = await asking(front, engine, Question(busy, ATTRIBUTES))
        both = Question(np.concatenate([shared, lonely]), ATTRIBUTES)
        given_up, kept = await asking(front, engine, both, Question(shared, ATTRIBUTES))
        given_up.cancel()
        await asyncio.wait([given_up])
        engine.gate.set()
        await asyncio.gather(first, kept)
        return {image for call in engine.asked for image, _ in call}

    asked = with_front(tmp_path, scenario, engine=gated(), num_batches=1)
    assert asked == {image_id(busy[0]), image_id(shared[0])}


@pytest.mark.parametrize(
    ("images", "attributes", "message"),
    [
        (some_images(1).astype(np.float32), ATTRIBUTES, "uint8"),
        (some_images(1), ("hat; drop",), "cannot be an attribute"),
        (some_images(1), ("hat", "hat"), "asked twice"),
    ],
)
def test_what_is_no_question_is_refused(tmp_path, images, attributes, message):
    async def scenario(front, engine):
        with pytest.raises(ValueError, match=message):
            await front.answer(Question(images, attributes))
        return engine.asked

    assert with_front(tmp_path, scenario) == []
