"""The front with a fake engine: nothing is asked twice, nothing is answered before it is kept."""

import asyncio
from dataclasses import replace

import numpy as np
import pytest
from fronts import (
    ATTRIBUTES,
    MODEL,
    PROMPT,
    asking,
    fake_engine,
    gated,
    grade,
    known,
    make_front,
    some_images,
    totals,
    with_front,
)

from graphdrl.images.ids import image_id, image_ids
from graphdrl.oracle.prompts import load_prompt
from graphdrl.oracle.protocol import Busy, Late, OracleError
from graphdrl.oracle.questions import Question
from graphdrl.oracle.scores import ScoreStore
from serve.fakes import FakeEngine
from serve.knowledge import Knowledge


def test_answers_carry_the_engines_grades(tmp_path):
    images = some_images(5)

    async def scenario(front, engine):
        return await front.answer(Question(images, ATTRIBUTES)), totals(front)

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
        return await front.answer(Question(images, ATTRIBUTES)), engine.asked, totals(front)

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


def test_questions_in_flight_are_joined(tmp_path):
    images = some_images(6)
    questions = [Question(images[:4], ATTRIBUTES), Question(images[2:], ATTRIBUTES), Question(images[:4], ("age",))]

    async def scenario(front, engine):
        tasks = [*await asking(front, engine, questions[0]), *await asking(front, engine, *questions[1:])]
        engine.gate.set()
        return await asyncio.gather(*tasks), totals(front), engine.asked

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
        (first,) = await asking(front, engine, Question(some_images(1), ATTRIBUTES))
        (second,) = await asking(front, engine, Question(some_images(3, seed=1), ATTRIBUTES))
        with pytest.raises(Busy, match=r"9 items waiting, limit 10"):
            await front.answer(Question(some_images(2, seed=2), ATTRIBUTES))
        engine.gate.set()
        await asyncio.gather(first, second)
        await front.answer(Question(some_images(2, seed=2), ATTRIBUTES))
        return totals(front)

    stats = with_front(tmp_path, scenario, engine=gated(), max_queue=10, batch_size=3, num_batches=1)
    assert (stats["refused"], stats["asked"]) == (1, 18)


def test_a_malformed_grade_is_flagged_and_asked_again_another_time(tmp_path):
    images = some_images(3)
    engine = fake_engine(malformed=[image_id(images[1])])

    async def scenario(front, engine):
        answer = await front.answer(Question(images, ATTRIBUTES))
        engine.malformed.clear()
        return answer, await front.answer(Question(images, ATTRIBUTES)), totals(front)

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
        front = make_front(fake_engine(), Watched(tmp_path))
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
        front = make_front(fake_engine(), Full(tmp_path))
        with pytest.raises(OracleError, match="the score store is full"):
            await front.answer(Question(some_images(2), ATTRIBUTES))
        await front.close()

    asyncio.run(main())


def test_a_lost_engine_is_asked_again(tmp_path):
    images = some_images(2)
    engine = fake_engine(num_losses=1)

    async def scenario(front, engine):
        return await front.answer(Question(images, ATTRIBUTES))

    answer = with_front(tmp_path, scenario, engine=engine)
    np.testing.assert_allclose(answer.expected, known(images), atol=1e-5)
    assert len(engine.asked) == 2


def test_an_engine_that_cannot_answer_fails_the_question_and_not_the_front(tmp_path):
    engine = fake_engine(error=OracleError("the model speaks no digits"))

    async def scenario(front, engine):
        with pytest.raises(OracleError, match="the model speaks no digits"):
            await front.answer(Question(some_images(2), ATTRIBUTES))
        engine.error = None
        return await front.answer(Question(some_images(2), ATTRIBUTES))

    assert with_front(tmp_path, scenario, engine=engine).num_asked == 6


def test_a_deadline_ends_the_wait_and_what_is_not_begun_is_not_asked(tmp_path):
    async def scenario(front, engine):
        (first,) = await asking(front, engine, Question(some_images(2), ATTRIBUTES))
        with pytest.raises(Late, match=r"within the question's 0.01 s"):
            await front.answer(Question(some_images(2, seed=1), ATTRIBUTES, deadline_s=0.01))
        engine.gate.set()
        await first
        return totals(front), engine.asked

    stats, asked = with_front(tmp_path, scenario, engine=gated(), num_batches=1)
    assert len(asked) == 1
    assert stats["queued"] == stats["in_flight"] == 0


def test_a_small_client_is_answered_while_a_greedy_one_waits(tmp_path):
    async def scenario(front, engine):
        greedy = Question(some_images(40), ATTRIBUTES, client="greedy")
        small = Question(some_images(1, seed=1), ATTRIBUTES, client="small")
        tasks = await asking(front, engine, greedy, small)
        engine.gate.set()
        await tasks[1]
        waiting = front.snapshot().queued
        await tasks[0]
        return waiting, front.snapshot()

    waiting, end = with_front(tmp_path, scenario, engine=gated(), batch_size=3, num_batches=1)
    assert set(waiting) <= {"greedy"}
    assert (end.clients["greedy"].asked, end.clients["small"].asked) == (120, 3)
    assert sum(end.clients["small"].latencies) == 1


def test_a_batch_that_nobody_waits_for_frees_the_engine(tmp_path):
    """With a deadline, with a cancellation; what others wait for goes on."""

    async def scenario(front, engine):
        late = Question(some_images(1), ATTRIBUTES, deadline_s=0.05)
        (first, second) = await asking(front, engine, late, Question(some_images(1, seed=1), ATTRIBUTES))
        with pytest.raises(Late):
            await first
        while len(engine.asked) < 2:
            await asyncio.sleep(0.001)
        assert engine.num_cancelled == 1
        second.cancel()
        await asyncio.wait([second])
        third = asyncio.create_task(front.answer(Question(some_images(1, seed=1), ATTRIBUTES)))
        while engine.num_cancelled < 2:
            await asyncio.sleep(0.001)
        engine.gate.set()
        assert (await third).num_asked == 3
        return await front.answer(replace(late, deadline_s=None)), totals(front)

    answer, stats = with_front(tmp_path, scenario, engine=gated(), batch_size=3, num_batches=1)
    np.testing.assert_allclose(answer.expected, known(some_images(1)), atol=1e-5)
    assert (stats["late"], stats["given_up"], stats["in_flight"]) == (1, 1, 0)


def test_what_a_lost_engine_had_is_counted_as_asked_again(tmp_path):
    async def scenario(front, engine):
        await front.answer(Question(some_images(2), ATTRIBUTES))
        return totals(front)

    stats = with_front(tmp_path, scenario, engine=fake_engine(num_losses=1))
    assert (stats["asked"], stats["asked_again"], stats["stored"]) == (6, 6, 6)


def test_a_model_that_knows_its_attributes_is_not_asked_for_others(tmp_path):
    knowledge = Knowledge(MODEL, load_prompt, attributes=ATTRIBUTES)

    async def scenario(front, engine):
        with pytest.raises(ValueError, match="never learnt the attribute 'moustache'"):
            await front.answer(Question(some_images(1), ("moustache",)))

    with_front(tmp_path, scenario, knowledge=knowledge)


def test_images_unlike_the_gold_set_are_flagged_and_counted(tmp_path):
    class Strict:
        prompt_version = PROMPT.version

        def flags(self, expected, entropy, attributes):
            return np.arange(len(expected)) % 2 == 1

    async def scenario(front, engine):
        return await front.answer(Question(some_images(4), ATTRIBUTES)), totals(front)

    answer, stats = with_front(tmp_path, scenario, knowledge=Knowledge(MODEL, load_prompt, calibration=Strict()))
    assert answer.flagged.tolist() == [False, True, False, True]
    assert (stats["images"], stats["images_flagged"]) == (4, 2)


def test_a_second_wording_is_asked_and_kept_apart(tmp_path):
    images = some_images(3)
    again = load_prompt("score_again")

    class InOtherWords(FakeEngine):
        async def probabilities(self, requests):
            prompts = {again.render(name): PROMPT.render(name) for name in ATTRIBUTES}
            self.num_second = getattr(self, "num_second", 0) + sum(one.prompt in prompts for one in requests)
            return await super().probabilities(
                [replace(one, prompt=prompts.get(one.prompt, one.prompt)) for one in requests]
            )

    engine = InOtherWords(PROMPT, ATTRIBUTES, grade)

    async def scenario(front, engine):
        usual = Question(images, ATTRIBUTES)
        second = replace(usual, wording="second")
        both = await asyncio.gather(front.answer(usual), front.answer(second))
        return [*both, await front.answer(second)]

    usual, second, repeated = with_front(tmp_path, scenario, engine=engine)
    assert (usual.prompt_version, second.prompt_version) == (PROMPT.version, again.version)
    assert (usual.num_asked, second.num_asked, repeated.num_asked, engine.num_second) == (9, 9, 0, 9)


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
