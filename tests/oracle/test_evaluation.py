"""The figures of an oracle's quality, against cases worked by hand."""

import numpy as np
import pytest

from graphdrl.oracle.evaluation import calibration_error, concordance, confusion_matrix, quality, reliability, two_hot

NAN = np.nan


def test_accuracies_are_those_of_a_case_worked_by_hand() -> None:
    expected = np.array([[0.2, 4.6], [2.6, 0.1], [2.4, 3.4], [5.0, 0.3]])
    truth = np.array([[0, 5], [2, 0], [3, 3], [5, 4]], float)
    measured = quality(expected, truth, ("hat", "beard"))
    hat, beard = measured.by_attribute["hat"], measured.by_attribute["beard"]
    assert (hat.presence_accuracy, beard.presence_accuracy) == (0.5, 0.75)
    assert (hat.exact_accuracy, beard.exact_accuracy) == (0.5, 0.75)
    # Six pairs of images: 2.6 and 2.4 stand in the wrong order; beside "beard" 0.3 lies below 3.4 and 4.6 rightly once.
    assert hat.rank_agreement == pytest.approx(5 / 6)
    assert beard.rank_agreement == pytest.approx(5 / 6)
    assert measured.average("presence_accuracy") == 0.625
    assert measured.average("calibration_error") is None
    assert hat.confusion[2, 3] == hat.confusion[3, 2] == 1
    assert hat.confusion.sum() == 4


def test_what_is_not_known_or_not_readable_has_no_part() -> None:
    expected = np.array([[0.0, 0.4, 1.0], [0.1, NAN, 1.0], [4.0, 5.0, 1.0]])
    truth = np.array([[0, NAN, NAN], [0, 5, NAN], [0, 5, NAN]], float)
    measured = quality(expected, truth, ("hat", "beard", "age"))
    assert list(measured.by_attribute) == ["hat", "beard"]
    assert (measured.by_attribute["hat"].num, measured.by_attribute["beard"].num) == (3, 1)
    assert measured.by_attribute["hat"].rank_agreement is None, "labels that are all the same have no order"
    assert measured.malformed == pytest.approx(1 / 9)
    with pytest.raises(ValueError, match="nothing to evaluate against"):
        quality(expected, np.full((3, 3), NAN), ("hat", "beard", "age"))
    with pytest.raises(ValueError, match="must agree"):
        quality(expected, truth[:2], ("hat", "beard", "age"))


def test_zero_scoring_is_every_grade_rounding_to_zero() -> None:
    expected = np.array([[0.4, 0.1], [0.4, 0.6], [5, 5], [0, 0]])
    assert quality(expected, np.ones_like(expected), ("hat", "beard")).zero_scoring_rate == 0.5


def test_presence_labels_tell_nothing_of_exact_grades() -> None:
    expected = np.array([[0.1], [3.0], [4.0], [2.0]])
    one = quality(expected, np.array([[0], [5], [0], [5]], float), ("hat",), "presence").by_attribute["hat"]
    assert one.exact_accuracy is None
    assert one.presence_accuracy == 0.5
    assert one.rank_agreement == 0.5, "the area under the ROC curve: two of four pairs"


def test_grades_drawn_from_the_given_probabilities_are_calibrated() -> None:
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(6), (20_000, 1))
    truth = (rng.random((20_000, 1, 1)) > probabilities.cumsum(-1)).sum(-1).astype(float)
    expected = probabilities @ np.arange(6)
    honest = quality(expected, truth, ("hat",), probabilities=probabilities).by_attribute["hat"]
    assert honest.calibration_error < 0.02
    assert honest.presence_calibration_error < 0.02
    sure = np.eye(6)[probabilities.argmax(-1)]
    boastful = quality(expected, truth, ("hat",), probabilities=sure).by_attribute["hat"]
    assert boastful.calibration_error == pytest.approx(1 - boastful_accuracy(probabilities, truth), abs=1e-9)


def boastful_accuracy(probabilities: np.ndarray, truth: np.ndarray) -> float:
    return float((probabilities.argmax(-1) == truth).mean())


def test_calibration_error_is_the_mean_gap_of_the_bins() -> None:
    probability, happened = np.array([0.91, 0.99, 0.15, 0.05]), np.array([1, 0, 0, 1])
    assert [one.num for one in reliability(probability, happened)] == [1, 1, 2]
    assert calibration_error(probability, happened) == pytest.approx((0.95 + 0.15 + 2 * 0.45) / 4)


def test_a_grade_between_two_is_shared_between_them() -> None:
    np.testing.assert_allclose(two_hot(np.array([0, 2.25, 5]))[1], [0, 0, 0.75, 0.25, 0, 0])
    assert two_hot(np.array([5]))[0, 5] == 1
    # A point of a continuum that the model's probabilities hit exactly is no mistake in its calibration.
    truth = np.linspace(0, 5, 101)[:, None]
    measured = quality(truth, truth, ("hat",), "continuum", two_hot(truth)).by_attribute["hat"]
    assert measured.calibration_error == pytest.approx(0, abs=1e-9)
    assert measured.rank_agreement == pytest.approx(1)


def test_concordance_is_that_of_all_pairs() -> None:
    rng = np.random.default_rng(0)
    scores, grades = rng.integers(0, 8, 200) / 2, rng.integers(0, 6, 200)
    order = np.sign(grades[:, None] - grades[None])
    agree = np.sign(scores[:, None] - scores[None]) * order
    assert concordance(scores, grades) == pytest.approx((agree[order != 0].mean() + 1) / 2)
    with pytest.raises(ValueError, match="no order to agree with"):
        concordance(scores, np.ones(200))


def test_confusion_counts_true_grades_in_rows() -> None:
    counts = confusion_matrix(np.array([0.2, 3.5, 4.49]), np.array([0, 2.5, 5]))
    assert counts.sum() == 3
    assert counts[0, 0] == counts[3, 4] == counts[5, 4] == 1
