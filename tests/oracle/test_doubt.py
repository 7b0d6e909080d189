"""What the oracle's own grades say of images that it does not know."""

import json
from pathlib import Path

import numpy as np
import pytest

from graphdrl.oracle.doubt import (
    MOST_FLAGGED,
    Calibration,
    Doubt,
    GoldSet,
    agreement,
    assess,
    calibration_file,
    doubtful,
    load_calibration,
)
from graphdrl.oracle.identity import model_key
from graphdrl.oracle.questions import Scores

ATTRIBUTES = ("hat", "beard", "smile", "age")


def grades(num: int, seed: int, entropy: float, spread: float = 0.3) -> tuple[np.ndarray, np.ndarray]:
    """Grades [N, 4] that are anything, with entropies around a level in nats that is the model's on such images."""
    rng = np.random.default_rng(seed)
    expected = rng.uniform(0, 5, (num, 4))
    return expected.astype(np.float32), (entropy * np.exp(spread * rng.standard_normal((num, 4)))).astype(np.float32)


def gold(name: str, seed: int, entropy: float, num: int = 400) -> GoldSet:
    expected, entropies = grades(num, seed, entropy)
    counts = np.zeros((4, 6, 6), np.int64)
    counts[:2] = 10 * np.eye(6, dtype=np.int64)
    return GoldSet(name, expected, entropies, np.full(4, 0.95, np.float32), counts)


@pytest.fixture
def calibration() -> Calibration:
    """Two kinds of image: drawings on which the model is sure, and paintings on which it is never quite sure."""
    return Calibration("m", "p", ATTRIBUTES, (gold("drawings", 0, 0.02), gold("paintings", 1, 0.6)))


def test_images_like_either_gold_set_are_hardly_ever_flagged(calibration: Calibration) -> None:
    for level in (0.02, 0.6):
        assert calibration.flags(*grades(4_000, 7, level), ATTRIBUTES).mean() < 0.05


def test_images_unlike_both_are_flagged_even_where_the_level_lies_between(calibration: Calibration) -> None:
    assert calibration.flags(*grades(1_000, 8, 0.15), ATTRIBUTES).mean() > 0.9
    assert calibration.flags(*grades(1_000, 9, 1.5, spread=0.1), ATTRIBUTES).mean() > 0.9
    sure_of_one_doubtful_of_another = grades(1_000, 10, 0.02)
    sure_of_one_doubtful_of_another[1][:, 2] = 1.6
    assert calibration.flags(*sure_of_one_doubtful_of_another, ATTRIBUTES).mean() > 0.95


def test_the_share_of_its_like_that_is_flagged_does_not_hang_on_the_attributes_asked(calibration: Calibration) -> None:
    expected, entropy = grades(4_000, 11, 0.6)
    for columns in ([0], [3, 1], [2, 0, 1]):
        names = [ATTRIBUTES[column] for column in columns]
        assert calibration.flags(expected[:, columns], entropy[:, columns], names).mean() < 0.05
    swapped = calibration.flags(expected[:, ::-1], entropy[:, ::-1], ATTRIBUTES[::-1])
    np.testing.assert_array_equal(swapped, calibration.flags(expected, entropy, ATTRIBUTES))


def test_what_was_not_calibrated_has_no_say(calibration: Calibration) -> None:
    expected, entropy = grades(50, 12, 0.02)
    odd = np.full((50, 1), 1.7, np.float32)
    with_odd = calibration.flags(np.hstack([expected, odd]), np.hstack([entropy, odd]), (*ATTRIBUTES, "tie"))
    np.testing.assert_array_equal(with_odd, calibration.flags(expected, entropy, ATTRIBUTES))
    assert not calibration.flags(odd, odd, ("tie",)).any()
    with pytest.raises(ValueError, match="none of tie: run graphdrl oracle-eval"):
        assess(calibration, odd, odd, ("tie",))


def test_zero_scoring_and_malformed_images_are_flagged(calibration: Calibration) -> None:
    expected, entropy = grades(3, 13, 0.02)
    expected[:] = 2.5
    entropy[:] = 0.02
    assert not calibration.flags(expected, entropy, ATTRIBUTES).any()
    expected[0] = 0.3
    expected[1, 2] = entropy[1, 2] = np.nan
    np.testing.assert_array_equal(calibration.flags(expected, entropy, ATTRIBUTES), [True, True, False])


def test_where_zero_scoring_is_common_it_says_nothing() -> None:
    few = gold("hats", 0, 0.02)
    few.expected[:200] = 0.0
    few.entropy[:] = 0.02
    calibration = Calibration("m", "p", ATTRIBUTES, (few,))
    assert calibration.zero_scoring_rate(ATTRIBUTES) == 0.5
    assert not calibration.flags(np.zeros((5, 4)), np.full((5, 4), 0.02), ATTRIBUTES).any()


def test_a_calibration_comes_back_from_its_file(calibration: Calibration, tmp_path: Path) -> None:
    calibration.save(tmp_path / "deep" / "c.json")
    again = Calibration.load(tmp_path / "deep" / "c.json")
    assert (again.model, again.prompt_version, again.attributes) == ("m", "p", ATTRIBUTES)
    np.testing.assert_allclose(again.gold[1].expected, calibration.gold[1].expected, atol=1e-3)
    np.testing.assert_array_equal(again.confusion(("beard", "hat")), calibration.confusion(("beard", "hat")))
    images = grades(500, 14, 0.15)
    differs = again.flags(*images, ATTRIBUTES) != calibration.flags(*images, ATTRIBUTES)
    assert differs.mean() < 0.01, "grades are kept to a thousandth"
    assert again.entropies()["hat"].keys() == {"mean", "std", "q05", "q50", "q95"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "pickle"}, "its format is 'pickle'"),
        ({"attributes": ["hat"]}, "on 1 attributes"),
        ({"gold": []}, "no gold set"),
        ({"gold": [{"name": "x"}]}, "'expected'"),
        ({"gold": None}, "not iterable"),
    ],
)
def test_a_file_that_is_no_calibration_is_named(calibration: Calibration, tmp_path: Path, change, message) -> None:
    file = tmp_path / "c.json"
    calibration.save(file)
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(ValueError, match=message):
        Calibration.load(file)


@pytest.mark.parametrize(("key", "value"), [("expected", 7.0), ("expected", None), ("entropy", -1.0)])
def test_a_calibration_with_impossible_numbers_is_refused(calibration: Calibration, tmp_path, key, value) -> None:
    file = tmp_path / "c.json"
    calibration.save(file)
    data = json.loads(file.read_text())
    data["gold"][0][key][3][1] = value
    file.write_text(json.dumps(data))
    with pytest.raises(ValueError, match="is no calibration"):
        Calibration.load(file)
    file.write_text("[" * 100_000)
    with pytest.raises(ValueError, match="is no calibration"):
        Calibration.load(file)


def test_confusions_are_those_of_labelled_attributes(calibration: Calibration) -> None:
    assert calibration.confusion(("hat",)).sum() == 120
    assert calibration.confusion(("hat",), "paintings").sum() == 60
    with pytest.raises(ValueError, match="no true grades of 'age', only of hat, beard"):
        calibration.confusion(("hat", "age"))
    with pytest.raises(ValueError, match="no gold set 'photos'; it has drawings, paintings"):
        calibration.confusion(("hat",), "photos")


def test_a_model_s_calibration_lies_in_its_folder_and_leaves_its_key_alone(
    calibration: Calibration, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "config.json").write_text("{}")
    model = str(tmp_path)
    assert load_calibration(model) is None
    assert load_calibration("somebody/model") is None
    key, file = model_key(model), calibration_file(model)
    Calibration(key, "p", ATTRIBUTES, calibration.gold).save(file)
    assert model_key(model) == key
    assert load_calibration(model, prompt_version="p").attributes == ATTRIBUTES
    assert not caplog.messages
    assert load_calibration(model, prompt_version="q") is None
    calibration.save(file)
    assert load_calibration(model) is None
    assert all("measure again" in message for message in caplog.messages)
    with pytest.raises(ValueError, match="is of model m and prompt p, not of"):
        load_calibration(model, file)


def test_agreement_of_two_wordings_is_to_half_a_grade() -> None:
    one = np.array([[0.0, 1.0], [4.0, np.nan], [2.0, np.nan]])
    other = np.array([[0.5, 1.0], [4.6, 1.0], [2.0, 2.0]])
    np.testing.assert_allclose(agreement(one, other), [2 / 3, 1])
    assert np.isnan(agreement(one * np.nan, other)).all()


def test_the_verdict_says_what_was_found(calibration: Calibration) -> None:
    images = grades(400, 15, 0.02)
    known = assess(calibration, *images, ATTRIBUTES, again=images[0])
    assert not known.doubtful
    assert known.agreement == 1
    assert known.verdict.startswith("The oracle knows such images: ")
    assert "agree on 100% of the grades; on the gold sets it is 95% or more" in known.verdict
    torn = assess(calibration, *images, ATTRIBUTES, again=5 - images[0])
    assert torn.doubtful, "two wordings that do not agree are doubt enough"
    assert not assess(calibration, *images, ATTRIBUTES).doubtful
    assert Doubt(10, 0.9).verdict == (
        "The oracle does not know such images: 90% of 10 are unlike those of its gold sets."
    )


def test_scores_of_many_flagged_images_are_marked() -> None:
    def scores(num_flagged: int) -> Scores:
        zeros = np.zeros((100, 2), np.float32)
        ids, flagged = tuple(map(str, range(100))), np.arange(100) < num_flagged
        return Scores(ids, ("hat", "age"), zeros, zeros, zeros, np.ones(100), flagged, "data", "m", "p")

    assert doubtful(scores(int(100 * MOST_FLAGGED))) == ()
    assert doubtful(scores(44))[0].startswith("44% of the 100 scored images are flagged")
