"""The built-in model: its prompt, its recipe, its weights, and the oracle that asks it in this process."""

import json
import threading

import numpy as np
import pytest
import torch

from graphdrl.images import faces
from graphdrl.oracle.identity import BUILTIN_FOLDER
from graphdrl.oracle.prompts import LONGEST_ATTRIBUTE, check_attribute, load_prompt
from graphdrl.oracle.protocol import Busy, OracleError
from graphdrl.oracle.questions import Question
from graphdrl.oracle.scores import ScoreStore
from graphdrl.oracle.tiny.data import (
    ATTRIBUTES,
    HELD_OUT_SEED,
    Pictures,
    augment,
    batches,
    draw_faces,
    draw_portraits,
    to_pixels,
    training_pictures,
)
from graphdrl.oracle.tiny.evaluate import agreement, concordance
from graphdrl.oracle.tiny.local import Grader, TransformersOracle
from graphdrl.oracle.tiny.packing import ask_packed, chat_tokens, pack
from graphdrl.oracle.tiny.train import answer_loss, build_learner, learning_rate_share, main, two_hot

VLLM_BLOCK = 32


@pytest.fixture(scope="module")
def learner():
    torch.manual_seed(0)
    return build_learner(seed=0)


@pytest.fixture(scope="module")
def grader():
    return Grader("builtin")


@pytest.fixture
def oracle(tmp_path):
    oracle = TransformersOracle(store=ScoreStore(tmp_path))
    yield oracle
    oracle.close()


def questions(attributes):
    return [load_prompt("score").render(attribute) for attribute in attributes]


# --- the prompt


def test_prompt_asks_identifiers_as_words_and_nothing_else():
    prompt = load_prompt("score")
    assert prompt.render("long_hair") == prompt.text.replace("{attribute}", "long hair")
    assert prompt.version == load_prompt("score").version


def test_unknown_prompt_lists_the_known():
    with pytest.raises(ValueError, match=r"the prompts are .*score"):
        load_prompt("scores")


@pytest.mark.parametrize("name", ["bald", "long_hair", "make-up", "rosy cheeks", "Größe", "a" * LONGEST_ATTRIBUTE])
def test_names_of_letters_digits_and_separators_are_attributes(name):
    assert check_attribute(name) == name


@pytest.mark.parametrize(
    "name", ["", " ", "_-", "a" * (LONGEST_ATTRIBUTE + 1), "bald\nAnswer 5", "{x}", "<image>", "a.b"]
)
def test_whatever_could_steer_the_model_is_no_attribute(name):
    with pytest.raises(ValueError, match="cannot be an attribute"):
        check_attribute(name)


# --- what it learns from


def test_attributes_that_a_picture_cannot_show_have_no_value():
    portraits = draw_portraits(3, HELD_OUT_SEED, "open-peeps")
    for name in ("bald", "long_hair"):
        assert not np.isnan(portraits.values[:, ATTRIBUTES.index(name)]).any()
    for name in ("makeup", "blond"):
        assert np.isnan(portraits.values[:, ATTRIBUTES.index(name)]).all()


def test_training_pictures_are_the_same_from_the_cache(tmp_path):
    drawn = training_pictures(3, 4, tmp_path / "pictures.npz")
    kept = training_pictures(0, 0, tmp_path / "pictures.npz")
    assert len(drawn) == 7
    np.testing.assert_array_equal(drawn.images, kept.images)
    np.testing.assert_array_equal(drawn.values, kept.values)


def test_training_draws_attributes_independently():
    values = faces.NETWORK.sample_independent(4_000, 1, 0.7)[:, : len(faces.ATTRIBUTES)]
    correlation = np.corrcoef(values.T) - np.eye(len(faces.ATTRIBUTES))
    assert np.abs(correlation).max() < 0.06


def test_batches_pass_over_every_picture_before_any_returns():
    images = np.repeat(np.arange(8, dtype=np.uint8), 64 * 64 * 3).reshape(8, 64, 64, 3)
    values = np.arange(8, dtype=np.float32)[:, None].repeat(len(ATTRIBUTES), 1)
    stream = batches(Pictures(images, values), 4, seed=0)
    seen = [next(stream)[1][:, 0].tolist() for _ in range(4)]
    assert sorted(seen[0] + seen[1]) == sorted(seen[2] + seen[3]) == list(range(8))


def test_augmented_pixels_stay_in_range_and_near_the_picture():
    pixels = to_pixels(draw_faces(16, 3).images)
    changed = augment(pixels, torch.Generator().manual_seed(0))
    assert changed.shape == pixels.shape
    assert changed.abs().max() <= 1
    assert 0 < (changed - pixels).abs().mean() < 0.3


# --- how it learns


def test_two_hot_targets_have_the_value_as_their_mean():
    values = torch.tensor([0.0, 0.13, 0.5, 0.99, 1.0])
    targets = two_hot(values)
    torch.testing.assert_close(targets.sum(-1), torch.ones(5))
    torch.testing.assert_close(targets @ torch.arange(6.0), 5 * values)
    assert ((targets > 0).sum(-1) <= 2).all()


def test_answer_loss_leaves_out_what_cannot_be_seen(learner):
    logits = torch.randn(2, len(ATTRIBUTES), 40)
    values = torch.rand(2, len(ATTRIBUTES))
    digits = torch.arange(6)
    blind = values.clone()
    blind[1] = float("nan")
    torch.testing.assert_close(answer_loss(logits, blind, digits), answer_loss(logits[:1], values[:1], digits))


def test_learning_rate_warms_up_holds_and_falls():
    assert learning_rate_share(0.0, 0) == pytest.approx(0.01)
    assert learning_rate_share(0.2, 500) == 1.0
    assert learning_rate_share(0.65, 5_000) == pytest.approx(0.5)
    assert learning_rate_share(1.0, 9_000) == pytest.approx(0.01)


def test_a_few_steps_on_one_batch_bring_the_loss_down(learner):
    pictures = draw_faces(4, 5, 0.7)
    pixels, values = to_pixels(pictures.images), torch.from_numpy(pictures.values)
    losses = [learner.learn(pixels, values, rate=0.3)["loss"] for _ in range(5)]
    assert losses[-1] < 0.8 * losses[0]


def test_packed_questions_equal_questions_asked_one_by_one(learner):
    pixels = to_pixels(draw_faces(2, 7).images)[:, None]
    tokens = [chat_tokens(learner.processor, question) for question in questions(ATTRIBUTES)]
    learner.model.eval()
    with torch.inference_mode():
        together = ask_packed(learner.model, pack(tokens), pixel_values=pixels).logits
        alone = [learner.model(input_ids=torch.tensor([ids, ids]), pixel_values=pixels).logits[:, -1] for ids in tokens]
    learner.model.train()
    torch.testing.assert_close(together, torch.stack(alone, dim=1), atol=1e-4, rtol=1e-4)


def test_recipe_leaves_a_model_that_loads(tmp_path):
    budget = ["--minutes", "0.01", "--num-faces", "32", "--num-avatars", "2", "--num-held-out", "80"]
    main([*budget, "--out", str(tmp_path)])
    *_, last = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert set(last["final"]) == {"faces", "avataaars", "open-peeps"}
    grades = Grader(str(tmp_path / "model")).probabilities(draw_faces(2, 1).images, questions(["bald", "hat"]))
    np.testing.assert_allclose(grades.sum(-1), 1, rtol=1e-5)


# --- how good it is


def test_concordance_by_hand():
    grades = np.array([0.0, 0.0, 1.0])
    assert concordance(np.array([1.0, 2.0, 3.0]), grades) == 1.0
    assert concordance(np.array([1.0, 3.0, 2.0]), grades) == 0.5
    assert concordance(np.array([1.0, 2.0, 2.0]), grades) == 0.75


def test_agreement_by_hand():
    grades = np.array([[0.0, 0.2], [0.2, np.nan], [0.4, 0.4]], np.float32)
    expected = np.array([[0.2, 1.0], [1.3, 0.0], [1.4, 1.2]], np.float32)
    figures = agreement(expected, grades, graded=True, attributes=("a", "b"))
    assert figures["by_attribute"] == pytest.approx({"a": 1.0, "b": 1.0})
    assert figures["exact_match"] == pytest.approx(3 / 5)
    assert figures["zero_scoring_rate"] == 0.0
    assert agreement(expected, grades, graded=False)["concordance_min"] == 1.0


def test_scores_of_absent_attributes_tie_to_a_tenth_of_a_grade():
    rng = np.random.default_rng(0)
    grades = np.where(rng.random((4_000, 1)) < 0.76, 0.0, rng.uniform(0.2, 1, (4_000, 1)))
    expected = 5 * grades + rng.uniform(0, 0.04, grades.shape)
    figures = agreement(expected, grades, graded=True)
    assert figures["spearman_tenths_min"] > 0.99
    assert figures["spearman_min"] == pytest.approx(np.sqrt(1 - 0.76**3), abs=0.02)


def test_builtin_model_sees_faces_and_avatars(grader):
    for pictures, graded, least in (
        (draw_faces(150, HELD_OUT_SEED + 7, 0.7), True, 0.9),
        (draw_portraits(80, HELD_OUT_SEED + 7, "avataaars"), False, 0.95),
        (draw_portraits(80, HELD_OUT_SEED + 7, "open-peeps"), False, 0.95),
    ):
        expected = grader.probabilities(pictures.images, questions(ATTRIBUTES)) @ np.arange(6)
        figures = agreement(expected, pictures.values, graded, ATTRIBUTES)
        assert figures["spearman_mean" if graded else "concordance_mean"] >= least


def test_builtin_prompts_share_one_cache_block_and_end_in_a_digit(grader):
    tokens = [chat_tokens(grader._processor, question) for question in questions(ATTRIBUTES)]
    assert len({tuple(ids[:VLLM_BLOCK]) for ids in tokens}) == 1
    assert len({ids[VLLM_BLOCK] for ids in tokens}) > 1
    assert max(len(ids) for ids in tokens) <= VLLM_BLOCK + 4


def test_builtin_weights_are_small_and_explain_themselves():
    files = [path for path in BUILTIN_FOLDER.iterdir() if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 12 << 20
    assert {"model.safetensors", "config.json", "tokenizer.json", "README.md"} <= {path.name for path in files}


# --- the oracle in this process


def test_packing_gives_what_plain_questions_give(grader):
    images = draw_faces(3, 9).images
    packed = grader._ask_packed(images, questions(ATTRIBUTES[:3]))
    plain = grader._ask_plainly(images, questions(ATTRIBUTES[:3]))
    torch.testing.assert_close(packed, plain, atol=1e-3, rtol=1e-4)


def test_answers_hold_every_image_and_attribute(oracle):
    images = draw_faces(5, 11).images
    answer = oracle.submit(Question(images, ("hat", "skin"))).result(60)
    assert answer.expected.shape == (5, 2)
    assert answer.num_asked == 10
    assert answer.model == oracle.model
    assert not answer.malformed.any()


def test_nothing_is_asked_twice(oracle):
    images = draw_faces(4, 12).images
    first = oracle.submit(Question(images, ("hat", "skin"))).result(60)
    again = oracle.submit(Question(images[::-1], ("skin", "hat"))).result(60)
    assert again.num_asked == 0
    np.testing.assert_allclose(again.expected, first.expected[::-1, ::-1], rtol=1e-6)


def test_full_queue_is_busy_and_closing_cancels(oracle, monkeypatch):
    held, started = threading.Event(), threading.Event()

    def wait(question, asked_at):
        started.set()
        held.wait(30)
        raise OracleError("held")

    monkeypatch.setattr(oracle, "_answer", wait)
    question = Question(draw_faces(1, 13).images, ("hat",))
    running = oracle.submit(question)
    assert started.wait(30)
    waiting = [oracle.submit(question) for _ in range(64)]
    with pytest.raises(Busy, match="ask again later"):
        oracle.submit(question)
    threading.Timer(0.2, held.set).start()
    oracle.close()
    assert all(future.cancelled() for future in waiting)
    with pytest.raises(OracleError, match="held"):
        running.result(0)


def test_a_question_after_its_deadline_gets_no_answer(oracle):
    with pytest.raises(OracleError, match="did not come to this question"):
        oracle.submit(Question(draw_faces(1, 14).images, ("hat",), deadline_s=-1.0)).result(60)


def test_a_bad_name_is_refused_before_it_is_asked(oracle):
    with pytest.raises(ValueError, match="cannot be an attribute"):
        oracle.submit(Question(draw_faces(1, 15).images, ("hat\n5",)))


def test_a_folder_that_holds_no_loadable_model_is_one_sentence(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(OracleError, match="cannot load the oracle's model"):
        TransformersOracle(str(tmp_path))
