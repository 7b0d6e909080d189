"""An oracle that is shown what it does not know says so: its grades there look unlike those on images that it knows.

What they look like on images that it knows is measured once, on one or more gold sets, and kept as a `Calibration`. An
image is typical of a gold set when its vector of expected grades and log entropies lies no farther from the set's mean
(Mahalanobis) than the set's own images do. How far these do is read from a half of the set that the mean and covariance
were not taken from, so the share of its like that is flagged is known whatever the distribution (split conformal
prediction, Vovk et al. 2005, section 4.2).
"""

import json
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Self

import numpy as np

from graphdrl.oracle.identity import model_folder, model_key
from graphdrl.oracle.questions import HIGHEST_GRADE, NUM_GRADES, Scores

logger = logging.getLogger(__name__)

FEWEST_GOLD = 70
"""A gold set of fewer images cannot tell what is rarer than one in thirty of its own."""

GOLD_ROWS = 400
"""Images of each gold set whose grades are kept; more make the flags hardly sharper."""

FLAG_RATE = 0.03
"""Share of images like those of a gold set that are flagged, on average."""

MOST_FLAGGED = 0.1
"""Above this share of flagged images a set as a whole is unknown to the oracle."""

SAME_GRADE = 0.5
"""Two wordings agree on a grade when their expected grades differ by no more."""

_LEAST_AGREEMENT_LOST = 0.1
_MOST_ZERO_SCORING = 0.01
_ENTROPY_FLOOR = 1e-2  # nats; below it an engine's rounding shows, not the model's doubt
_SHRINK = 0.05
_SMALLEST_VARIANCE = 1e-4
_FORMAT = "graphdrl.calibration/1"
_MOST_BYTES = 32 << 20
_QUANTILES = (0.05, 0.5, 0.95)


@dataclass(frozen=True, eq=False)
class GoldSet:
    """What the model said of N images of one kind, asked about the K attributes of the calibration.

    expected, entropy: float32 [N, K], in random order of the images.
    agreement: float32 [K], share of the images on which two wordings of the question agree to half a grade; NaN where
        the second was not asked.
    confusion: int64 [K, 6, 6], how often an image of true grade (row) was given a grade (column); all 0 for attributes
        whose true grades nobody knows.
    """

    name: str
    expected: np.ndarray
    entropy: np.ndarray
    agreement: np.ndarray
    confusion: np.ndarray


@dataclass(frozen=True, eq=False)
class Calibration:
    """What a model's grades look like on images that it knows.

    model, prompt_version: whose grades; those of other weights or another prompt look different.
    """

    model: str
    prompt_version: str
    attributes: tuple[str, ...]
    gold: tuple[GoldSet, ...]

    def flags(self, expected: np.ndarray, entropy: np.ndarray, attributes: Sequence[str]) -> np.ndarray:
        """Which of B images are unlike every gold set, bool [B], by their grades [B, K] on K attributes.

        Also flagged are images with a malformed grade (NaN), and images whose every grade rounds to 0 when the gold
        sets have hardly any such. Attributes that were not calibrated have no say; when none was, nothing is flagged.
        """
        typical = self.typicality(expected, entropy, attributes)
        own, theirs = self._columns(attributes)
        if not own:
            return np.zeros(len(expected), np.bool_)
        flagged = typical <= FLAG_RATE
        if self.zero_scoring_rate(attributes) <= _MOST_ZERO_SCORING:
            flagged |= _zero_scored(expected[:, theirs])
        return flagged

    def typicality(self, expected: np.ndarray, entropy: np.ndarray, attributes: Sequence[str]) -> np.ndarray:
        """Share of a gold set's own images that lie as far out as each of B images, of the set it suits best: [B].

        0 where a grade is malformed, 1 where no attribute was calibrated.
        """
        own, theirs = self._columns(attributes)
        if not own:
            return np.ones(len(expected))
        expected, entropy = expected[:, theirs], entropy[:, theirs]
        malformed = np.isnan(expected).any(axis=1)
        features = _features(np.where(malformed[:, None], 0.0, expected), np.where(malformed[:, None], 0.0, entropy))
        best = np.max([_ellipsoid(gold, own).share_beyond(features) for gold in self.gold], axis=0)
        return np.where(malformed, 0.0, best)

    def zero_scoring_rate(self, attributes: Sequence[str]) -> float:
        """Share of images on which every grade rounds to 0, of the gold set that has most of them."""
        own, _ = self._columns(attributes)
        return max(float(_zero_scored(gold.expected[:, own]).mean()) for gold in self.gold)

    def agreement(self, attributes: Sequence[str]) -> float | None:
        """Share of the grades on which two wordings agree, of the gold set on which they agree least.

        None when the second was not asked.
        """
        own = list(self._columns(attributes)[0])
        shares = [float(np.nanmean(gold.agreement[own])) for gold in self.gold if (gold.agreement[own] >= 0).any()]
        return min(shares, default=None)

    def confusion(self, attributes: Sequence[str], gold: str | None = None) -> np.ndarray:
        """Counts int64 [K, 6, 6] of true grades (rows) and given grades (columns), of one gold set or of all.

        Raises ValueError for an attribute without known grades and for a gold set that is not there.
        """
        names = [one.name for one in self.gold]
        if gold is not None and gold not in names:
            raise ValueError(f"the calibration of {self.model} has no gold set {gold!r}; it has {', '.join(names)}")
        counts = np.sum([one.confusion for one in self.gold if gold in (None, one.name)], axis=0)
        known = [name for k, name in enumerate(self.attributes) if counts[k].any()]
        missing = [name for name in attributes if name not in known]
        if missing:
            raise ValueError(
                f"the gold sets have no true grades of {missing[0]!r}, only of {', '.join(known) or 'nothing'}: "
                "label some images with it, and run graphdrl oracle-eval on them"
            )
        return counts[[self.attributes.index(name) for name in attributes]]

    def entropies(self) -> dict[str, dict[str, float]]:
        """Mean, standard deviation and quantiles of each attribute's entropy (nats) on the gold sets, by attribute."""
        values = np.concatenate([gold.entropy for gold in self.gold])
        return {
            name: {"mean": float(column.mean()), "std": float(column.std())}
            | {f"q{round(100 * q):02d}": float(np.quantile(column, q)) for q in _QUANTILES}
            for name, column in zip(self.attributes, values.T, strict=True)
        }

    def save(self, path: Path) -> None:
        """Write the calibration as one JSON file, all of it or nothing."""
        data = {
            "format": _FORMAT,
            "model": self.model,
            "prompt_version": self.prompt_version,
            "attributes": list(self.attributes),
            "entropy": {name: _rounded(figures) for name, figures in self.entropies().items()},
            "gold": [_gold_to_json(gold) for gold in self.gold],
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_name(f".{path.name}.partial")
        aside.write_text(json.dumps(data, separators=(",", ":"), allow_nan=False) + "\n")
        os.replace(aside, path)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote; raises ValueError, in one sentence, for a file that is no calibration."""
        if path.stat().st_size > _MOST_BYTES:
            raise ValueError(
                f"calibration {str(path)!r} is larger than {_MOST_BYTES >> 20} MiB: that is no calibration"
            )
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            if data["format"] != _FORMAT:
                raise ValueError(f"its format is {data['format']!r}, not {_FORMAT!r}")
            attributes = tuple(str(name) for name in data["attributes"])
            gold = tuple(_gold_from_json(one, len(attributes)) for one in data["gold"])
            if not gold or not attributes:
                raise ValueError("it has no gold set or no attributes")
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise ValueError(
                f"{str(path)!r} is no calibration ({error}): write one with graphdrl oracle-eval --save"
            ) from error
        return cls(str(data["model"]), str(data["prompt_version"]), attributes, gold)

    def _columns(self, attributes: Sequence[str]) -> tuple[tuple[int, ...], list[int]]:
        """Columns here, and columns among `attributes`, of what was both calibrated and asked."""
        known = [(self.attributes.index(name), k) for k, name in enumerate(attributes) if name in self.attributes]
        return tuple(own for own, _ in known), [theirs for _, theirs in known]


@dataclass(frozen=True)
class Doubt:
    """How well the oracle knows a set of images, by its own grades.

    share_flagged: of `num_images`.
    agreement, usual_agreement: share of the grades on which two wordings of the question agree, here and on the gold
        sets; None when the second was not asked.
    """

    num_images: int
    share_flagged: float
    agreement: float | None = None
    usual_agreement: float | None = None

    @property
    def doubtful(self) -> bool:
        """Whether the set as a whole is unknown to the oracle."""
        return self.share_flagged > MOST_FLAGGED or self._disagrees

    @property
    def verdict(self) -> str:
        """One or two sentences for a person."""
        knows = "does not know" if self.doubtful else "knows"
        said = (
            f"The oracle {knows} such images: {self.share_flagged:.0%} of {self.num_images:,} are unlike those "
            "of its gold sets."
        )
        if self.agreement is None or self.usual_agreement is None:
            return said
        return (
            f"{said} Two wordings of the question agree on {self.agreement:.0%} of the grades; on the gold sets it is "
            f"{self.usual_agreement:.0%} or more."
        )

    @property
    def _disagrees(self) -> bool:
        if self.agreement is None or self.usual_agreement is None:
            return False
        return self.agreement < self.usual_agreement - _LEAST_AGREEMENT_LOST


def assess(
    calibration: Calibration,
    expected: np.ndarray,
    entropy: np.ndarray,
    attributes: Sequence[str],
    again: np.ndarray | None = None,
) -> Doubt:
    """Doubt about B images from their grades [B, K].

    again: expected grades [B, K] under the second wording, NaN rows where it was not asked.
    Raises ValueError when none of the attributes was calibrated: then nothing can be said.
    """
    if not set(attributes) & set(calibration.attributes):
        raise ValueError(
            f"the calibration of {calibration.model} knows {', '.join(calibration.attributes)} and none of "
            f"{', '.join(attributes)}: run graphdrl oracle-eval on images that are labelled with these"
        )
    flagged = calibration.flags(expected, entropy, attributes)
    agreed = np.full(1, np.nan) if again is None else agreement(expected, again)
    return Doubt(
        num_images=len(expected),
        share_flagged=float(flagged.mean()),
        agreement=None if np.isnan(agreed).all() else float(np.nanmean(agreed)),
        usual_agreement=calibration.agreement(attributes),
    )


def agreement(expected: np.ndarray, again: np.ndarray) -> np.ndarray:
    """Share of the images on which two wordings' expected grades [B, K] agree to half a grade: float32 [K].

    Images with a malformed grade in either have no say; NaN where that leaves none.
    """
    known = ~(np.isnan(expected) | np.isnan(again))
    same = (np.abs(expected - again) <= SAME_GRADE) & known
    num = known.sum(axis=0)
    return np.divide(same.sum(axis=0), num, out=np.full(num.shape, np.nan), where=num > 0).astype(np.float32)


def doubtful(scores: Scores) -> tuple[str, ...]:
    """What must be said of whatever is built on these scores; nothing when hardly any image is flagged."""
    share = float(scores.flagged.mean()) if len(scores) else 0.0
    if share <= MOST_FLAGGED:
        return ()
    return (
        f"{share:.0%} of the {len(scores):,} scored images are flagged: the oracle's own grades say that it does not "
        "know such images, so check its grades on some that you graded yourself before relying on these relations",
    )


def calibration_file(model: str) -> Path | None:
    """Where a model's calibration is looked for; None for a hub name, which has no folder here."""
    folder = Path(model_folder(model))
    # In a folder of its own: the files beside config.json are part of the model's key, which the calibration names.
    return folder / "calibration" / "scores.json" if folder.is_dir() else None


def load_calibration(
    model: str, path: Path | None = None, *, revision: str | None = None, prompt_version: str | None = None
) -> Calibration | None:
    """The calibration of a model: the file `path`, or the one in the model's folder, if there is any.

    revision: of a hub name. prompt_version: what the model is asked with; None does not look at it.
    One in the model's folder that belongs to other weights or another prompt is left aside, with a warning. Raises
    ValueError for such a one at `path`, and for a file that is no calibration.
    """
    found = path if path is not None else calibration_file(model)
    if found is None or (path is None and not found.is_file()):
        return None
    calibration, key = Calibration.load(found), model_key(model, revision)
    if calibration.model == key and prompt_version in (None, calibration.prompt_version):
        return calibration
    mismatch = (
        f"calibration {str(found)!r} is of model {calibration.model} and prompt {calibration.prompt_version}, not of "
        f"{key} and {prompt_version or 'any prompt'}: measure again with graphdrl oracle-eval --save"
    )
    if path is not None:
        raise ValueError(mismatch)
    logger.warning("%s; no image is flagged meanwhile", mismatch)
    return None


@dataclass(frozen=True, eq=False)
class _Ellipsoid:
    """Mean [F] and precision [F, F] of one half of a gold set, and the sorted distances [M] of its other half."""

    mean: np.ndarray
    precision: np.ndarray
    distances: np.ndarray

    def share_beyond(self, features: np.ndarray) -> np.ndarray:
        """The conformal p-value [B] of feature vectors [B, F]."""
        farther = len(self.distances) - np.searchsorted(self.distances, self.distance(features))
        return (farther + 1) / (len(self.distances) + 1)

    def distance(self, features: np.ndarray) -> np.ndarray:
        """Squared Mahalanobis distance [B]."""
        away = features - self.mean
        return np.einsum("bf,fg,bg->b", away, self.precision, away, optimize=True)


@lru_cache(maxsize=512)
def _ellipsoid(gold: GoldSet, columns: tuple[int, ...]) -> _Ellipsoid:
    features = _features(gold.expected[:, columns], gold.entropy[:, columns])
    fitted, held_back = features[::2], features[1::2]
    covariance = np.atleast_2d(np.cov(fitted.T))
    covariance = (1 - _SHRINK) * covariance + np.diag(_SHRINK * np.diag(covariance) + _SMALLEST_VARIANCE)
    found = _Ellipsoid(fitted.mean(axis=0), np.linalg.inv(covariance), np.empty(0))
    return _Ellipsoid(found.mean, found.precision, np.sort(found.distance(held_back)))


def _features(expected: np.ndarray, entropy: np.ndarray) -> np.ndarray:
    """[B, 2 K]: entropies span decades from a plain case to a doubtful one, so their logarithms count."""
    return np.concatenate([expected, np.log(entropy + _ENTROPY_FLOOR)], axis=1).astype(np.float64)


def _zero_scored(expected: np.ndarray) -> np.ndarray:
    return (np.rint(expected) == 0).all(axis=1)


def _gold_to_json(gold: GoldSet) -> dict[str, Any]:
    return {
        "name": gold.name,
        "zero_scoring_rate": round(float(_zero_scored(gold.expected).mean()), 4),
        "agreement": [None if np.isnan(share) else round(float(share), 4) for share in gold.agreement],
        "confusion": gold.confusion.tolist(),
        "expected": [[round(float(value), 3) for value in row] for row in gold.expected],
        "entropy": [[round(float(value), 4) for value in row] for row in gold.entropy],
    }


def _gold_from_json(data: Mapping[str, Any], num_attributes: int) -> GoldSet:
    """A stranger's gold set; raises ValueError, KeyError or TypeError for what is none."""
    expected, entropy = (np.array(data[name], np.float32) for name in ("expected", "entropy"))
    gold = GoldSet(
        str(data["name"]),
        expected,
        entropy,
        np.array([np.nan if share is None else share for share in data["agreement"]], np.float32),
        np.array(data["confusion"], np.int64),
    )
    if expected.ndim != 2 or len(expected) < FEWEST_GOLD or expected.shape[1] != num_attributes:
        raise ValueError(
            f"gold set {gold.name!r} has grades {list(expected.shape)}, not of {FEWEST_GOLD} images or more on "
            f"{num_attributes} attributes"
        )
    if entropy.shape != expected.shape or gold.agreement.shape != (num_attributes,):
        raise ValueError(f"the parts of gold set {gold.name!r} are not of one shape")
    if gold.confusion.shape != (num_attributes, NUM_GRADES, NUM_GRADES) or (gold.confusion < 0).any():
        raise ValueError(f"gold set {gold.name!r} has no confusion matrix of {NUM_GRADES} grades for each attribute")
    if not ((expected >= 0) & (expected <= HIGHEST_GRADE) & (entropy >= 0) & (entropy < np.inf)).all():
        raise ValueError(f"gold set {gold.name!r} has a grade outside 0..{HIGHEST_GRADE} or an entropy below 0")
    return gold


def _rounded(figures: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in figures.items()}
