"""Both ways to grade an image read the same grades off what the engine says."""

import json

import numpy as np
import pytest

from serve.engine import Written
from serve.fakes import two_hot
from serve.scoring import GRADE_TOKENS, scoring

IMAGE = np.zeros((8, 8, 3), np.uint8)
ATTRIBUTES = ("long_hair", "hat", "factor_3")


def written(grades: dict[str, int], weights: list[np.ndarray] | None = None) -> Written:
    text = json.dumps(grades, separators=(",", ":"))
    weights = [two_hot(int(digit)) for digit in text if digit in GRADE_TOKENS] if weights is None else weights
    return Written(text, np.array(weights, np.float32).reshape(-1, 6))


def test_tokens_asks_one_question_an_attribute():
    way = scoring("tokens")
    requests = way.requests(IMAGE, ATTRIBUTES, 3.0)
    assert [request.prompt for request in requests] == [way.prompt.render(name) for name in ATTRIBUTES]
    assert all(request.allowed_tokens == GRADE_TOKENS and request.deadline_s == 3.0 for request in requests)
    replies = np.stack([two_hot(grade) for grade in (0.5, 3, 4.25)])
    np.testing.assert_array_equal(way.read(replies, 3), replies)


def test_structured_asks_one_question_an_image_whose_answer_has_to_be_json():
    import re

    (request,) = scoring("structured").requests(IMAGE, ATTRIBUTES, None)
    assert "long hair, hat, factor 3" in request.prompt
    assert re.fullmatch(request.pattern, '{"long hair":0,"hat":5,"factor 3":2}')
    assert not re.fullmatch(request.pattern, '{"hat":5,"long hair":0,"factor 3":2}')
    assert not re.fullmatch(request.pattern, '{"long hair":0,"hat":6,"factor 3":2}')
    assert len('{"long hair":0,"hat":5,"factor 3":2}') <= request.most_tokens


def test_structured_reads_the_distribution_of_each_grade_and_not_of_digits_in_names():
    answer = written({"long hair": 4, "hat": 0, "factor 3": 2})
    np.testing.assert_array_equal(
        scoring("structured").read([answer], 3), np.stack([two_hot(4), two_hot(0), two_hot(2)])
    )


@pytest.mark.parametrize(
    "answer",
    [
        Written("", np.zeros((0, 6), np.float32)),
        written({"long hair": 4, "hat": 0}),
        Written('{"long hair":4,"hat":0,"factor 3":', np.tile(two_hot(1), (3, 1))),
        written({"long hair": 4, "hat": 0, "factor 3": 2}, [two_hot(4)]),
    ],
    ids=["refused", "one missing", "cut off", "weights missing"],
)
def test_an_answer_that_cannot_be_read_is_malformed_as_a_whole(answer):
    assert np.isnan(scoring("structured").read([answer], 3)).all()


def test_own_prompts_take_the_place_of_those_that_come_along(tmp_path):
    (tmp_path / "score.txt").write_text("How much {attribute}?\n")
    own = scoring("tokens", tmp_path)
    assert own.requests(IMAGE, ("hat",), None)[0].prompt == "How much hat?"
    assert own.prompt.version != scoring("tokens").prompt.version
    assert scoring("structured", tmp_path).prompt.version == scoring("structured").prompt.version
