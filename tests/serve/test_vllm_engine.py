"""vLLM's answers are the model's own, for three families of models; and one bad question harms no other."""

import json
import multiprocessing
import re
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest
import random_models
import torch
import vllm_process
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, AutoProcessor, AutoTokenizer

from graphdrl.oracle.prompts import load_prompt
from serve.engine import Usage

PROMPTS = [load_prompt("score").render(name) for name in ("hat", "age", "beard")]
IMAGES = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def vllm():
    """Runs functions of `vllm_process`, all in one other process."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        yield lambda function, *arguments: pool.submit(function, *arguments).result()


@pytest.fixture(scope="module")
def idefics(tmp_path_factory):
    return random_models.save_idefics(tmp_path_factory.mktemp("idefics"))


def by_transformers(folder, texts: list[str], images: np.ndarray = IMAGES) -> np.ndarray:
    """The digits' probabilities after each text about each image, by the model's own code: [B, K, 6]."""
    processor = AutoProcessor.from_pretrained(folder, backend="pil")
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
    digits = [processor.tokenizer.convert_tokens_to_ids(digit) for digit in vllm_process.DIGITS]
    answers = []
    for image in images:
        for text in texts:
            inputs = processor(images=[image], text=text, return_tensors="pt")
            with torch.no_grad():
                logits = model(**inputs).logits[0, -1, digits]
            answers.append(logits.softmax(-1).numpy())
    return np.array(answers).reshape(len(images), len(texts), 6)


def assert_all_matters(grades: np.ndarray) -> None:
    """Both the image and the attribute change the answer."""
    assert np.ptp(grades, axis=0).max() > 0.01
    assert np.ptp(grades, axis=1).max() > 0.01


def test_the_grades_are_those_of_the_model(vllm, idefics):
    ours = vllm(vllm_process.grades, idefics, IMAGES, PROMPTS)
    theirs = by_transformers(idefics, [f"<image>{prompt}<end_of_utterance>" for prompt in PROMPTS])
    np.testing.assert_allclose(ours, theirs, atol=1e-4)
    assert_all_matters(ours)


def test_a_model_without_a_chat_template_is_asked_in_vllms_own_way(vllm, idefics, tmp_path):
    plain = random_models.copy_without_chat_template(idefics, tmp_path)
    ours = vllm(vllm_process.grades, plain, IMAGES, PROMPTS)
    np.testing.assert_allclose(
        ours, by_transformers(idefics, [f"<image>\n{prompt}\n" for prompt in PROMPTS]), atol=1e-4
    )


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # inside PaliGemma's processor
def test_another_family_of_models_is_asked_through_the_same_code(vllm, tmp_path):
    folder = random_models.save_paligemma(tmp_path)
    ours = vllm(vllm_process.grades, folder, IMAGES, PROMPTS)
    np.testing.assert_allclose(ours, by_transformers(folder, [f"<image>{prompt}" for prompt in PROMPTS]), atol=1e-4)
    assert_all_matters(ours)


def test_a_model_without_eyes_is_asked_in_words(vllm, tmp_path):
    """At each digit of a written answer stands the model's distribution after what it wrote so far."""
    folder = random_models.save_llama(tmp_path)
    pattern, stem = r'\{"a":[0-5],"top 3":[0-5]\}', '{"a":'
    seen = vllm(vllm_process.without_eyes, folder, PROMPTS, pattern, stem, IMAGES[0])
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)

    def by_its_own_code(prompt: str, written: str) -> np.ndarray:
        text = f"<user>{prompt}\n<assistant>{written}"
        inputs = tokenizer(text, return_tensors="pt", add_special_tokens=False)
        digits = tokenizer.convert_tokens_to_ids(list(vllm_process.DIGITS))
        with torch.no_grad():
            return model(**inputs).logits[0, -1, digits].softmax(-1).numpy()

    for prompt, beliefs, answer in zip(PROMPTS, seen["beliefs"], seen["written"], strict=True):
        np.testing.assert_allclose(beliefs, by_its_own_code(prompt, ""), atol=1e-4)
        assert re.fullmatch(pattern, answer.text)
        first, _, second = (match.start() for match in re.finditer("[0-5]", answer.text))
        assert answer.weights.shape == (3, 6)
        for weights, place in ((answer.weights[0], first), (answer.weights[2], second)):
            np.testing.assert_allclose(weights, by_its_own_code(prompt, answer.text[:place]), atol=1e-4)
        assert answer.weights[1].tolist() == [0, 0, 0, 1, 0, 0]  # the pattern left no choice in a name
    assert np.ptp([answer.weights for answer in seen["written"]], axis=0).max() > 0.01
    assert seen["shown"][0] == "OracleError"
    assert "sees no images" in seen["shown"][1]


def test_a_bad_question_harms_no_other(vllm, idefics):
    seen = vllm(vllm_process.incidents, idefics, IMAGES[0], PROMPTS[0])
    good, too_long, too_late, two_images, no_image = seen["mixed"]
    for answered in (good, two_images, no_image):
        assert answered.sum() == pytest.approx(1, abs=1e-5)
    assert np.isnan(too_long).all()
    assert np.isnan(too_late).all()
    assert seen["before"] == Usage()
    assert seen["used"].written_tokens == 3
    assert seen["used"].prompt_tokens > 3 * 20
    assert seen["used"].busy_s > 0
    plain, too_long, cut_off, too_late, free = seen["texts"]
    assert set(json.loads(plain.text)) == {"hat", "beard"}
    assert plain.weights.argmax(axis=1).tolist() == list(json.loads(plain.text).values())
    assert [one.text for one in (too_long, cut_off, too_late)] == ["", "", ""]
    assert too_long.weights.shape == cut_off.weights.shape == (0, 6)
    assert free.text
    assert seen["left"] == 0
    np.testing.assert_allclose(seen["after giving up"][0], good, atol=1e-5)
    assert seen["two tokens"][0] == "OracleError"
    assert "'10' as one token" in seen["two tokens"][1]
    assert seen["closed"][0] == "EngineLost"


def test_an_engine_that_cannot_start_says_why_in_one_sentence(vllm, idefics, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"architectures": ["NoSuchModel"], "model_type": "nosuch"}))
    message = vllm(vllm_process.start_error, tmp_path, {})
    assert str(tmp_path) in message
    assert "check oracle.model" in message
    assert "\n" not in message
    message = vllm(vllm_process.start_error, idefics, {"max_model_length": 100})
    assert "did you mean 'max_model_len'?" in message
