"""Questions and answers survive the way through JSON; what a stranger sends is checked first."""

import base64
import json

import numpy as np
import pytest

from graphdrl.oracle.questions import Answer, Question
from graphdrl.oracle.wire import answer_from_json, answer_to_json, question_from_json, question_to_json


def some_images(num: int, height: int = 8, width: int = 12) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (num, height, width, 3), dtype=np.uint8)


def through_json(value):
    return json.loads(json.dumps(value, allow_nan=False))


def test_a_question_keeps_its_pixels():
    question = Question(some_images(3), ("hat", "long_hair"), "do", "a run", 2.5)
    again = question_from_json(through_json(question_to_json(question)))
    np.testing.assert_array_equal(again.images, question.images)
    assert (again.attributes, again.source, again.client, again.deadline_s) == (
        question.attributes,
        "do",
        "a run",
        2.5,
    )


def test_an_answer_keeps_its_grades_and_its_gaps():
    expected = np.array([[1.5, np.nan]], np.float32)
    argmax, malformed = np.array([[1, -1]], np.int8), np.array([[False, True]])
    answer = Answer(("a" * 32,), ("hat", "age"), expected, argmax, expected / 3, malformed, "m", "v", 2)
    again = answer_from_json(through_json(answer_to_json(answer)))
    np.testing.assert_allclose(again.expected, expected)
    np.testing.assert_allclose(again.entropy, expected / 3)
    np.testing.assert_array_equal(again.argmax, argmax)
    np.testing.assert_array_equal(again.malformed, malformed)
    assert (again.image_ids, again.model, again.num_asked) == (answer.image_ids, "m", 2)
    assert (again.expected.dtype, again.argmax.dtype, again.malformed.dtype) == (np.float32, np.int8, np.bool_)


IMAGE = question_to_json(Question(some_images(1), ("hat",)))["images"][0]
OTHER = question_to_json(Question(some_images(1, 9, 9), ("hat",)))["images"][0]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "JSON object"),
        ({}, "attributes is a list"),
        ({"images": [IMAGE], "attributes": ["hat"], "modle": 1}, "no field 'modle'"),
        ({"images": [IMAGE], "attributes": []}, "attributes is a list of texts"),
        ({"images": [IMAGE], "attributes": ["a"] * 65}, "65 attributes are too many"),
        ({"images": ["x"] * 1025, "attributes": ["hat"]}, "1025 images are too many"),
        ({"images": [3], "attributes": ["hat"]}, "images is a list of texts"),
        ({"images": ["%%"], "attributes": ["hat"]}, "image 0 is not base64"),
        ({"images": ["A" * 6_000_000], "attributes": ["hat"]}, "larger than the limit"),
        ({"images": [base64.b64encode(b"GIF?").decode()], "attributes": ["hat"]}, "image 0 holds none of the accepted"),
        ({"images": [IMAGE, OTHER], "attributes": ["hat"]}, "of one size"),
        ({"images": [IMAGE], "attributes": ["hat"], "source": "web"}, "source is one of"),
        ({"images": [IMAGE], "attributes": ["hat"], "deadline_s": -1}, "deadline_s"),
    ],
)
def test_what_is_no_question_is_refused_in_one_sentence(data, message):
    with pytest.raises(ValueError, match=message):
        question_from_json(data)
