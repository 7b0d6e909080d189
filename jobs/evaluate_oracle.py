"""Measures an oracle on labelled images, and keeps what its grades look like: what `graphdrl oracle-eval` runs."""

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from graphdrl.config import Config
from graphdrl.images import load_source
from graphdrl.images.avatars import HELD_OUT_SEED, STYLES
from graphdrl.images.checks import find_image_files, read_images
from graphdrl.images.ids import image_ids
from graphdrl.images.sources import SOURCES
from graphdrl.oracle import HIGHEST_GRADE, check_attribute
from graphdrl.oracle.doubt import (
    FEWEST_GOLD,
    GOLD_ROWS,
    Calibration,
    Doubt,
    GoldSet,
    agreement,
    assess,
    load_calibration,
)
from graphdrl.oracle.evaluation import Labels, Quality, confusion_matrix, quality
from graphdrl.oracle.questions import NUM_GRADES
from graphdrl.oracle.scores import ScoreStore
from jobs.score import open_oracle, score_images

LABELS_FILE = "labels.csv"

_PRESENCE = 0.7
"""Share of the faces in which each attribute shows in one grade or another: there are grades to put in order."""

_MOST_LABEL_BYTES = 64 << 20
_MOST_ATTRIBUTES = 64
_PRESENT_OR_NOT = ({0.0, 1.0}, {-1.0, 1.0})


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """images: uint8 [N, S, S, 3]; truth: float32 [N, K] in 0..5, NaN where not known; presence is 0 or 5.

    skipped: (file, reason) of what could not be read.
    """

    name: str
    images: np.ndarray
    attributes: tuple[str, ...]
    truth: np.ndarray
    labels: Labels
    skipped: tuple[tuple[str, str], ...] = ()

    def only(self, names: Sequence[str]) -> "LabelledImages":
        """The same images with those labels that are among `names`, in their order."""
        kept = tuple(name for name in names if name in self.attributes)
        columns = [self.attributes.index(name) for name in kept]
        return replace(self, attributes=kept, truth=self.truth[:, columns])


@dataclass(frozen=True, eq=False)
class Evaluated:
    """One set's outcome; quality is None where nothing is labelled, doubt where the model has no calibration."""

    name: str
    num_images: int
    quality: Quality | None
    doubt: Doubt | None


@dataclass(frozen=True, eq=False)
class _Asked:
    """What the oracle said of one set: grades [N, K] and probabilities [N, K, 6] on all K attributes of the sets.

    again: expected grades under the second wording; NaN where it was not asked.
    """

    expected: np.ndarray
    entropy: np.ndarray
    probabilities: np.ndarray
    again: np.ndarray


def labelled_images(spec: str, num: int, size: int, seed: int) -> LabelledImages:
    """At most `num` labelled images: `faces`, `avatars:STYLE`, `photographs` (no labels), or a folder with labels.csv.

    Of the built-in sources these are draws that the built-in model never learnt from. Raises ValueError for a set that
    is not there or whose labels cannot be read.
    """
    name, _, style = spec.partition(":")
    if name not in SOURCES or name == "folder":
        return _labelled_folder(Path(spec), num, size, seed)
    if style and name != "avatars":
        raise ValueError(f"{name} have no styles, so {spec!r} is no set: write {name}")
    if style and style not in STYLES:
        raise ValueError(f"there is no style of avatars {style!r}; there are: {', '.join(STYLES)}")
    parameters = {"style": style} if style else {"presence": _PRESENCE} if name == "faces" else {}
    source = load_source(name, **parameters)
    known = bool(source.attributes)
    drawn = source.draw(num, size, HELD_OUT_SEED + seed, independent=known)
    nothing = np.zeros((len(drawn), 0), np.float32)
    return LabelledImages(
        spec,
        drawn.images,
        drawn.attributes,
        nothing if drawn.grades is None else HIGHEST_GRADE * drawn.grades,
        "continuum" if source.graded else "grades",
    )


def read_labels(text: str) -> tuple[list[str], tuple[str, ...], np.ndarray, Labels]:
    """File names [N], attributes [K], grades float32 [N, K] in 0..5 (NaN: not known) and what they are, from CSV text.

    The first column is the file name, every further one an attribute; an empty cell is not known. When no number in the
    whole table is anything but 0 and 1 (or -1 and 1, as CelebA has it), labels say whether an attribute is there, and
    are written as 0 and 5; otherwise they are grades 0..5. Raises ValueError, in one sentence, for any other table.
    """
    try:
        rows = [row for row in csv.reader(io.StringIO(text)) if row]
    except csv.Error as error:
        raise ValueError(f"{LABELS_FILE} is no table of comma-separated values ({error})") from error
    if len(rows) < 2 or len(rows[0]) < 2:
        raise ValueError(f"{LABELS_FILE} needs a first line 'file,ATTRIBUTE,...' and a line for each image")
    attributes = tuple(check_attribute(name.strip()) for name in rows[0][1:])
    if len(set(attributes)) < len(attributes) or len(attributes) > _MOST_ATTRIBUTES:
        raise ValueError(f"{LABELS_FILE} has {len(attributes)} attributes: at most {_MOST_ATTRIBUTES}, each once")
    values = np.array([_numbers(row, len(attributes)) for row in rows[1:]], np.float32)
    names = [row[0].strip() for row in rows[1:]]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{LABELS_FILE} has two lines for {twice!r}: keep one")
    found = set(values[~np.isnan(values)].tolist())
    if any(found <= allowed for allowed in _PRESENT_OR_NOT):
        return names, attributes, np.where(np.isnan(values), np.nan, HIGHEST_GRADE * (values > 0)), "presence"
    if not found or min(found) < 0 or max(found) > HIGHEST_GRADE:
        raise ValueError(f"{LABELS_FILE} must hold grades 0..{HIGHEST_GRADE}, or 0 and 1 for absent and present alone")
    return names, attributes, values, "grades"


def evaluate_oracle(
    sets: Sequence[LabelledImages], config: Config, say: Callable[[str], None]
) -> tuple[list[Evaluated], Calibration | None]:
    """Each set's quality and doubt, and the calibration whose gold sets are the labelled ones.

    Doubt is judged by the calibration that the model has already. All sets are asked about the attributes of all, so
    that whatever is asked later can be compared with each of them. There is no calibration where every labelled set is
    too small.
    """
    attributes = tuple(dict.fromkeys(name for one in sets for name in one.attributes))
    if not attributes:
        raise ValueError("none of these sets has labels, so there is nothing to ask: add one that has")
    with open_oracle(config, say) as oracle:
        answers = [score_images(oracle, one.images, attributes, config, say) for one in sets]
        again = [
            score_images(oracle, one.images[:GOLD_ROWS], attributes, config, say, wording="second") for one in sets
        ]
    model, version = answers[0][0].model, answers[0][0].prompt_version
    store = ScoreStore(config.oracle.score_store)
    asked = [
        _Asked(
            np.concatenate([answer.expected for answer in each]),
            np.concatenate([answer.entropy for answer in each]),
            store.lookup(image_ids(one.images), attributes, model, version),
            _padded(np.concatenate([answer.expected for answer in second]), len(one.images)),
        )
        for one, each, second in zip(sets, answers, again, strict=True)
    ]
    before = load_calibration(config.oracle.model, config.oracle.calibration, prompt_version=version)
    outcome = [_evaluated(one, said, attributes, before) for one, said in zip(sets, asked, strict=True)]
    gold = [_gold_set(one, said, attributes) for one, said in zip(sets, asked, strict=True) if one.attributes]
    large = tuple(one for one in gold if len(one.expected) >= FEWEST_GOLD)
    return outcome, Calibration(model, version, attributes, large) if large else None


def _padded(rows: np.ndarray, num: int) -> np.ndarray:
    """As many rows as there are images; NaN where the second wording was not asked."""
    return np.pad(rows, ((0, num - len(rows)), (0, 0)), constant_values=np.nan)


def _gold_set(one: LabelledImages, asked: _Asked, attributes: tuple[str, ...]) -> GoldSet:
    """The set as the calibration keeps it: images with a malformed grade are left out."""
    whole = np.flatnonzero(~np.isnan(asked.expected).any(axis=1))[:GOLD_ROWS]
    confusion = np.zeros((len(attributes), NUM_GRADES, NUM_GRADES), np.int64)
    for column, name in enumerate(one.attributes if one.labels != "presence" else ()):
        given, true = asked.expected[:, attributes.index(name)], one.truth[:, column]
        known = ~(np.isnan(given) | np.isnan(true))
        confusion[attributes.index(name)] = confusion_matrix(given[known], true[known])
    return GoldSet(
        one.name, asked.expected[whole], asked.entropy[whole], agreement(asked.expected, asked.again), confusion
    )


def _evaluated(
    one: LabelledImages, asked: _Asked, attributes: tuple[str, ...], calibration: Calibration | None
) -> Evaluated:
    names = one.attributes or attributes  # photographs, say, have no attributes of their own
    columns = [attributes.index(name) for name in names]
    expected, probabilities = asked.expected[:, columns], asked.probabilities[:, columns]
    measured = quality(expected, one.truth, names, one.labels, probabilities) if one.attributes else None
    doubt = None
    if calibration is not None and set(names) & set(calibration.attributes):
        doubt = assess(calibration, expected, asked.entropy[:, columns], names, asked.again[:, columns])
    return Evaluated(one.name, len(one.images), measured, doubt)


def _labelled_folder(folder: Path, num: int, size: int, seed: int) -> LabelledImages:
    """A folder's images that have a line in its labels.csv, in random order."""
    found, file = set(find_image_files(folder)), folder / LABELS_FILE
    if not file.is_file():
        raise ValueError(
            f"folder {str(folder)!r} has no {LABELS_FILE}: write one, 'file,ATTRIBUTE,...' and a line for each image"
        )
    if file.stat().st_size > _MOST_LABEL_BYTES:
        raise ValueError(f"{str(file)!r} is larger than {_MOST_LABEL_BYTES >> 20} MiB: label fewer images")
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{str(file)!r} is not UTF-8 text: save it as such") from error
    names, attributes, truth, labels = read_labels(text)
    rows = [row for row in np.random.default_rng(seed).permutation(len(names)) if names[row] in found][:num]
    images, kept, skipped = read_images(folder, [names[row] for row in rows], size)
    if not kept:
        raise ValueError(f"none of the {len(names)} files in {str(file)!r} is a readable image of that folder")
    row_of = {names[row]: row for row in rows}
    return LabelledImages(
        folder.name, images, attributes, truth[[row_of[name] for name in kept]], labels, tuple(skipped)
    )


def _numbers(row: Sequence[str], num: int) -> list[float]:
    if len(row) != num + 1:
        raise ValueError(f"{LABELS_FILE} has {len(row) - 1} labels for {row[0]!r}, its first line has {num}")
    try:
        return [float(cell) if cell.strip() else float("nan") for cell in row[1:]]
    except ValueError:
        raise ValueError(
            f"{LABELS_FILE} has a label for {row[0]!r} that is no number: write 0..5, or nothing"
        ) from None
