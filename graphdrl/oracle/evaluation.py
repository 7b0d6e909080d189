"""How good a multimodal model is at grading: its answers about labelled images against the labels."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy.stats import spearmanr

from graphdrl.oracle.questions import HIGHEST_GRADE, NUM_GRADES

PRESENT_FROM = HIGHEST_GRADE / 2
"""An attribute is present from this grade on."""

NUM_BINS = 10
"""Equal bins of a probability, for calibration."""

Labels = Literal["continuum", "grades", "presence"]
"""What is known of the images: points of a continuum, ordered grades, or only whether an attribute is there."""


@dataclass(frozen=True)
class Bin:
    """Answers whose probability of "present" lies in one of ten equal bins."""

    num: int
    mean_probability: float
    share_present: float


@dataclass(frozen=True, eq=False)
class AttributeQuality:
    """One attribute on the N images whose label is known; None is what these labels, or these answers, cannot tell.

    presence_accuracy: share put on the right side of 2.5.
    exact_accuracy: share given the true grade.
    rank_agreement: Spearman's rho on a continuum; otherwise concordance, the share of the pairs with different labels
        that are put into the right order (for presence labels the area under the ROC curve).
    calibration_error: expected calibration error of the grades: mean gap, over bins of the probability of the most
        probable grade, between that probability and how often it is the true one (Guo et al. 2017, section 2).
    presence_calibration_error: the same gap for the probability that the attribute is present (a grade above 2.5).
    reliability: the bins of the latter that are not empty.
    confusion: int64 [6, 6], images of a true grade (row) given a grade (column).
    """

    num: int
    presence_accuracy: float
    exact_accuracy: float | None
    rank_agreement: float | None
    calibration_error: float | None
    presence_calibration_error: float | None
    reliability: tuple[Bin, ...]
    confusion: np.ndarray


FIGURES = (
    "presence_accuracy",
    "exact_accuracy",
    "rank_agreement",
    "calibration_error",
    "presence_calibration_error",
)
"""The figures of an attribute that are averaged over attributes."""


@dataclass(frozen=True, eq=False)
class Quality:
    """A model's quality on one labelled set.

    by_attribute: in the order asked; attributes without any known label have no part in it.
    zero_scoring_rate: share of the images on which every grade rounds to 0, although an attribute is asked for.
    malformed: share of the answers that could not be read; they count in nothing else.
    """

    labels: Labels
    num_images: int
    by_attribute: dict[str, AttributeQuality]
    zero_scoring_rate: float
    malformed: float

    def average(self, figure: str) -> float | None:
        """Mean of a figure over the attributes that have it; None when none has."""
        values = [getattr(one, figure) for one in self.by_attribute.values()]
        known = [value for value in values if value is not None]
        return float(np.mean(known)) if known else None

    def to_json(self) -> dict[str, Any]:
        """Plain numbers under the names of the fields."""
        return {
            "labels": self.labels,
            "num_images": self.num_images,
            "zero_scoring_rate": self.zero_scoring_rate,
            "malformed": self.malformed,
            "average": {figure: self.average(figure) for figure in FIGURES},
            "by_attribute": {name: _plain(one) for name, one in self.by_attribute.items()},
        }


def quality(
    expected: np.ndarray,
    truth: np.ndarray,
    attributes: Sequence[str],
    labels: Labels = "grades",
    probabilities: np.ndarray | None = None,
) -> Quality:
    """Quality of expected grades [N, K] against true grades [N, K] in 0..5; NaN where malformed, or not known.

    labels: what the truth is; presence is written as grades 0 and 5.
    probabilities: float [N, K, 6] of the grades, for calibration; NaN rows have no part in it.
    Raises ValueError when nothing is known of any attribute.
    """
    if expected.shape != truth.shape or expected.shape[1] != len(attributes):
        raise ValueError(
            f"grades {list(expected.shape)}, labels {list(truth.shape)} and {len(attributes)} attributes must agree"
        )
    known = ~(np.isnan(expected) | np.isnan(truth))
    if not known.any():
        raise ValueError("no label of any image is known for what was asked: there is nothing to evaluate against")
    by_attribute = {
        name: _attribute_quality(
            expected[rows, k], truth[rows, k], labels, None if probabilities is None else probabilities[rows, k]
        )
        for k, name in enumerate(attributes)
        if (rows := known[:, k]).any()
    }
    return Quality(
        labels=labels,
        num_images=len(expected),
        by_attribute=by_attribute,
        zero_scoring_rate=float((np.rint(expected) == 0).all(axis=1).mean()),
        malformed=float(np.isnan(expected).mean()),
    )


def concordance(scores: np.ndarray, grades: np.ndarray) -> float:
    """Share of the pairs with different grades [N] that the scores [N] put into the same order; tied scores: half.

    Grades are few: each two of them are compared by rank. Raises ValueError when there is only one.
    """
    by_grade = [np.sort(scores[grades == grade]) for grade in np.unique(grades)]
    if len(by_grade) < 2:
        raise ValueError("all grades are the same: there is no order to agree with")
    right, num = 0.0, 0
    for higher in range(1, len(by_grade)):
        for lower in by_grade[:higher]:
            below = np.searchsorted(lower, by_grade[higher], "left") + np.searchsorted(lower, by_grade[higher], "right")
            right += below.sum() / 2
            num += len(lower) * len(by_grade[higher])
    return float(right / num)


def confusion_matrix(expected: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Counts int64 [6, 6] of true grades (rows) and given grades (columns), both [N] in 0..5 and rounded, halves up."""
    rows, columns = (np.floor(np.asarray(values, np.float64) + 0.5).astype(np.int64) for values in (truth, expected))
    return np.bincount(rows * NUM_GRADES + columns, minlength=NUM_GRADES**2).reshape(NUM_GRADES, NUM_GRADES)


def calibration_error(probability: np.ndarray, happened: np.ndarray) -> float:
    """Expected calibration error: mean over answers of |mean probability - mean outcome| of their bin, both [N]."""
    bins = reliability(probability, happened)
    return float(sum(one.num * abs(one.mean_probability - one.share_present) for one in bins) / len(probability))


def reliability(probability: np.ndarray, happened: np.ndarray) -> tuple[Bin, ...]:
    """What came of answers given with a probability [N], bin by bin; happened: 0..1 [N]. Empty bins are left out."""
    place = np.minimum((np.asarray(probability) * NUM_BINS).astype(int), NUM_BINS - 1)
    return tuple(
        Bin(int(rows.sum()), float(probability[rows].mean()), float(happened[rows].mean()))
        for one in range(NUM_BINS)
        if (rows := place == one).any()
    )


def two_hot(grades: np.ndarray) -> np.ndarray:
    """Distributions [..., 6] over the two grades around each true grade [...]: one-hot where it is a whole number."""
    return np.clip(1 - np.abs(np.asarray(grades)[..., None] - np.arange(NUM_GRADES)), 0, None)


def _attribute_quality(
    expected: np.ndarray, truth: np.ndarray, labels: Labels, probabilities: np.ndarray | None
) -> AttributeQuality:
    present = truth >= PRESENT_FROM
    grades_error = presence_error = None
    bins: tuple[Bin, ...] = ()
    rows = np.zeros(len(truth), bool) if probabilities is None else ~np.isnan(probabilities).any(axis=1)
    if probabilities is not None and rows.any():
        given = probabilities[rows].astype(np.float64)
        is_present = given[:, np.arange(NUM_GRADES) >= PRESENT_FROM].sum(axis=1).clip(0, 1)
        presence_error = calibration_error(is_present, present[rows])
        bins = reliability(is_present, present[rows])
        if labels != "presence":
            top = given.argmax(axis=1)
            right = two_hot(truth[rows])[np.arange(len(top)), top]
            grades_error = calibration_error(given.max(axis=1).clip(0, 1), right)
    confusion = confusion_matrix(expected, truth)
    return AttributeQuality(
        num=len(truth),
        presence_accuracy=float(((expected >= PRESENT_FROM) == present).mean()),
        exact_accuracy=None if labels == "presence" else float(np.trace(confusion) / len(truth)),
        rank_agreement=_rank_agreement(expected, truth, labels),
        calibration_error=grades_error,
        presence_calibration_error=presence_error,
        reliability=bins,
        confusion=confusion,
    )


def _rank_agreement(expected: np.ndarray, truth: np.ndarray, labels: Labels) -> float | None:
    if np.ptp(truth) == 0:
        return None  # there is no order to agree with
    if labels != "continuum":
        return concordance(expected, truth)
    return 0.0 if np.ptp(expected) == 0 else float(spearmanr(expected, truth).statistic)


def _plain(one: AttributeQuality) -> dict[str, Any]:
    return {
        "num": one.num,
        **{figure: getattr(one, figure) for figure in FIGURES},
        "reliability": [vars(each) for each in one.reliability],
        "confusion": one.confusion.tolist(),
    }
