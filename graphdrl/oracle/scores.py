"""The score store: every grade that was ever paid for, in append-only Parquet segments."""

from collections.abc import Iterator, Sequence
from itertools import product
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from graphdrl.oracle.questions import NUM_GRADES
from graphdrl.oracle.segments import Segments
from graphdrl.storage import Place

SCHEMA = pa.schema(
    [
        ("image_id", pa.string()),
        ("attribute", pa.string()),
        ("model", pa.string()),
        ("prompt_version", pa.string()),
        ("expected", pa.float32()),
        ("argmax", pa.int8()),
        ("entropy", pa.float32()),
        ("probabilities", pa.list_(pa.float32(), NUM_GRADES)),
    ],
    metadata={"format": "graphdrl.scores/1"},
)
_PAGE_ROWS = 32
"""Images of one page of the index."""


class Grades(NamedTuple):
    """What a distribution over the six grades says; arrays of the leading shape of the probabilities."""

    expected: np.ndarray
    argmax: np.ndarray
    entropy: np.ndarray
    malformed: np.ndarray


def grades_of(probabilities: np.ndarray) -> Grades:
    """Mean, mode and entropy (nats) of distributions over the grades, float [..., 6].

    A distribution with a NaN is malformed: expected and entropy are NaN, argmax is -1.
    """
    malformed = np.isnan(probabilities).any(axis=-1)
    known = np.where(malformed[..., None], 1.0, probabilities).astype(np.float64)
    logs = np.log(known, out=np.zeros_like(known), where=known > 0)
    expected = np.where(malformed, np.nan, known @ np.arange(NUM_GRADES))
    entropy = np.where(malformed, np.nan, -(known * logs).sum(axis=-1))
    argmax = np.where(malformed, -1, known.argmax(axis=-1))
    return Grades(expected.astype(np.float32), argmax.astype(np.int8), entropy.astype(np.float32), malformed)


class ScoreStore:
    """Grades by (image, attribute, model, prompt version), kept in a folder that any number of writers may share.

    Its segments are those of `Segments`, with the same promises. In memory a grade takes about 40 bytes where images
    are asked for a dozen attributes.
    """

    def __init__(self, folder: str | Place) -> None:
        self._indexes: dict[tuple[str, str], _Index] = {}
        self._segments = Segments(folder, SCHEMA, name="score", check=_check_table, insert=self._insert)

    @property
    def folder(self) -> Place:
        return self._segments.folder

    @property
    def damaged(self) -> list[tuple[str, str]]:
        """Segments that could not be read, by name, and why."""
        return self._segments.damaged

    def __len__(self) -> int:
        """How many grades can be looked up."""
        with self._segments.reading():
            return sum(index.num_known for index in self._indexes.values())

    def lookup(
        self, image_ids: Sequence[str], attributes: Sequence[str], model: str, prompt_version: str
    ) -> np.ndarray:
        """Probabilities float32 [B, K, 6] of B images on K attributes; NaN where a grade is not in the store."""
        with self._segments.reading():
            index = self._indexes.get((model, prompt_version))
            if index is None:
                return np.full((len(image_ids), len(attributes), NUM_GRADES), np.nan, np.float32)
            return index.lookup(image_ids, attributes)

    def append(
        self,
        image_ids: Sequence[str],
        attributes: Sequence[str],
        probabilities: np.ndarray,
        model: str,
        prompt_version: str,
    ) -> None:
        """Take N grades, one an (image, attribute) pair: probabilities float [N, 6]. They count after `flush`."""
        self._segments.append(_table(image_ids, attributes, probabilities, model, prompt_version))

    def flush(self) -> None:
        """Write what was appended as one segment; only then can it be looked up.

        Raises OracleError when the folder cannot be written; the grades are kept and written with the next flush.
        """
        self._segments.flush()

    def close(self) -> None:
        """Flush, and join this writer's segments."""
        self._segments.close()

    def _insert(self, table: pa.Table) -> None:
        for key, part in _by_asked(table):
            self._indexes.setdefault(key, _Index()).insert(part)


class _Index:
    """Grades of one model and prompt in memory, in pages: 32 images, in the order of their arrival, by one attribute.

    A page is made when its first grade comes, so an attribute that few images were asked for takes little.
    """

    def __init__(self) -> None:
        self._rows: dict[str, int] = {}
        self._columns: dict[str, int] = {}
        self._pages: dict[int, int] = {}
        self._values = np.full((1, _PAGE_ROWS, NUM_GRADES), np.nan, np.float32)  # page 0 is of what is not known
        self._num_made = 1
        self.num_known = 0

    def insert(self, table: pa.Table) -> None:
        """Take grades; of those given twice the last counts."""
        rows, columns = _numbered(self._rows, table["image_id"]), _numbered(self._columns, table["attribute"])
        wanted, which = np.unique(_page_key(rows, columns), return_inverse=True)
        numbers = [self._pages.setdefault(key, len(self._pages) + 1) for key in wanted.tolist()]
        self._grow()
        pages, places = np.array(numbers)[which], rows % _PAGE_ROWS
        new = np.isnan(self._values[pages, places, 0])
        self.num_known += len(np.unique(pages[new] * _PAGE_ROWS + places[new]))
        self._values[pages, places] = _probabilities(table)

    def lookup(self, image_ids: Sequence[str], attributes: Sequence[str]) -> np.ndarray:
        rows = np.array([self._rows.get(image, -1) for image in image_ids], np.int64)
        columns = np.array([self._columns.get(attribute, -1) for attribute in attributes], np.int64)
        first_rows, which = np.unique(rows // _PAGE_ROWS * _PAGE_ROWS, return_inverse=True)
        keys = _page_key(first_rows[:, None], columns).tolist()
        pages = np.array([[self._pages.get(key, 0) for key in line] for line in keys], np.int64)
        return self._values[pages.reshape(len(keys), len(columns))[which], (rows % _PAGE_ROWS)[:, None]]

    def _grow(self) -> None:
        """Make room for all pages. Twice as much is reserved, which takes memory only when it is filled."""
        num_old, num_pages = len(self._values), len(self._pages) + 1
        if num_pages > num_old:
            larger = np.empty((2 * num_pages, _PAGE_ROWS, NUM_GRADES), np.float32)
            larger[:num_old] = self._values
            self._values = larger
        self._values[self._num_made : num_pages] = np.nan
        self._num_made = num_pages


def _page_key(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """One number for the page of a row and a column, below 0 where one of them is."""
    return rows // _PAGE_ROWS << 32 | columns


def _numbered(known: dict[str, int], column: pa.ChunkedArray) -> np.ndarray:
    """The number of each string of a column, int64 [N]; those that are new get the next ones."""
    encoded = column.combine_chunks().dictionary_encode()
    numbers = [known.setdefault(name, len(known)) for name in encoded.dictionary.to_pylist()]
    return np.array(numbers, np.int64)[encoded.indices.to_numpy()]


def _by_asked(table: pa.Table) -> Iterator[tuple[tuple[str, str], pa.Table]]:
    """The rows of each model and prompt version."""
    models, versions = (pc.unique(table[name]).to_pylist() for name in ("model", "prompt_version"))
    if len(models) == len(versions) == 1:
        yield (models[0], versions[0]), table
        return
    for model, version in product(models, versions):
        part = table.filter((pc.field("model") == model) & (pc.field("prompt_version") == version))
        if part.num_rows:
            yield (model, version), part


def _table(
    image_ids: Sequence[str], attributes: Sequence[str], probabilities: np.ndarray, model: str, prompt_version: str
) -> pa.Table:
    values = np.ascontiguousarray(probabilities, np.float32)
    num = len(image_ids)
    if values.shape != (num, NUM_GRADES) or len(attributes) != num:
        raise ValueError(
            f"{num} images, {len(attributes)} attributes and probabilities {list(values.shape)} are not as many grades"
        )
    _check(values)
    grades = grades_of(values)
    columns = [
        pa.array(image_ids, pa.string()),
        pa.array(attributes, pa.string()),
        pa.repeat(pa.scalar(model, pa.string()), num),
        pa.repeat(pa.scalar(prompt_version, pa.string()), num),
        pa.array(grades.expected),
        pa.array(grades.argmax),
        pa.array(grades.entropy),
        pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), NUM_GRADES),
    ]
    return pa.table(columns, schema=SCHEMA)


def _probabilities(table: pa.Table) -> np.ndarray:
    return table["probabilities"].combine_chunks().flatten().to_numpy().reshape(-1, NUM_GRADES)


def _check_table(table: pa.Table) -> None:
    _check(_probabilities(table))


def _check(probabilities: np.ndarray) -> None:
    whole = (probabilities >= 0).all(axis=1) & (np.abs(probabilities.sum(axis=1) - 1) < 1e-3)
    if not whole.all():
        raise ValueError(f"{int((~whole).sum())} of {len(whole)} distributions do not sum to 1")
