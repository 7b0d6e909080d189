"""vLLM's answers are the model's own, for two families of models; and one bad question harms no other."""

import json
import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest
import random_models
import torch
import vllm_process
from transformers import AutoModelForImageTextToText, AutoProcessor

from graphdrl.oracle.prompts import load_prompt

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


def by_transformers(folder, texts: list[str]) -> np.ndarray:
    """The digits' probabilities after each text about each image, by the model's own code: [B, K, 6]."""
    processor = AutoProcessor.from_pretrained(folder, backend="pil")
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
    digits = [processor.tokenizer.convert_tokens_to_ids(digit) for digit in vllm_process.DIGITS]
    answers = []
    for image in IMAGES:
        for text in texts:
            inputs = processor(images=[image], text=text, return_tensors="pt")
            with torch.no_grad():
                logits = model(**inputs).logits[0, -1, digits]
            answers.append(logits.softmax(-1).numpy())
    return np.array(answers).reshape(len(IMAGES), len(texts), 6)


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


def test_a_bad_question_harms_no_other(vllm, idefics):
    seen = vllm(vllm_process.incidents, idefics, IMAGES[0], PROMPTS[0])
    good, too_long, too_late, two_images, no_image = seen["mixed"]
    for answered in (good, two_images, no_image):
        assert answered.sum() == pytest.approx(1, abs=1e-5)
    assert np.isnan(too_long).all()
    assert np.isnan(too_late).all()
    assert len(seen["text"]) == 1
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
