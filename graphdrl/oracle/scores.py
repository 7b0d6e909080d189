"""The score store: every grade that was ever paid for, in append-only Parquet segments."""

import contextlib
import logging
import os
import secrets
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from graphdrl.oracle.protocol import OracleError
from graphdrl.oracle.questions import NUM_GRADES

logger = logging.getLogger(__name__)

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
_KEYS = ("image_id", "attribute", "model", "prompt_version")
_MOST_SEGMENTS = 128
_SETTLED_NS = 1_000_000_000
"""A folder changed this recently may change again without its time stamp showing it."""


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

    Each writer appends its own series of segments, written aside and renamed, so a reader sees a segment whole or
    not at all. A segment that cannot be read is moved to `damaged/` and listed in `damaged`; only what it held is lost.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.damaged: list[tuple[str, str]] = []
        self._writer = f"{time.time_ns():016x}{secrets.token_hex(4)}"
        self._num_written = 0
        self._own: list[Path] = []
        self._known: set[str] = set()
        self._seen_at = -1
        self._pending: list[pa.Table] = []
        self._tables: dict[tuple[str, str], _Index] = {}
        self._lock = threading.Lock()
        self._writing = threading.Lock()  # taken first; lookups need not wait for the disk
        with self._lock:
            self._refresh()
        if len(self._known) > _MOST_SEGMENTS:
            self._compact([self.folder / name for name in self._known])

    def __len__(self) -> int:
        """How many grades can be looked up."""
        with self._lock:
            return sum(index.num_known for index in self._tables.values())

    def lookup(
        self, image_ids: Sequence[str], attributes: Sequence[str], model: str, prompt_version: str
    ) -> np.ndarray:
        """Probabilities float32 [B, K, 6] of B images on K attributes; NaN where a grade is not in the store."""
        with self._lock:
            self._refresh()
            index = self._tables.get((model, prompt_version))
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
        table = _table(image_ids, attributes, probabilities, model, prompt_version)
        with self._lock:
            self._pending.append(table)

    def flush(self) -> None:
        """Write what was appended as one segment; only then can it be looked up.

        Raises OracleError when the folder cannot be written; the grades are kept and written with the next flush.
        """
        with self._writing:
            with self._lock:
                taken = list(self._pending)
            if not taken:
                return
            table = pa.concat_tables(taken)
            self._write(table)
            with self._lock:
                del self._pending[: len(taken)]
                self._insert(table)
            if len(self._own) > _MOST_SEGMENTS:
                self._compact(self._own)

    def close(self) -> None:
        """Flush, and join this writer's segments into one."""
        self.flush()
        with self._writing:
            if len(self._own) > 1:
                self._compact(self._own)

    def _write(self, table: pa.Table) -> None:
        path = self.folder / f"{self._writer}-{self._num_written:06d}.parquet"
        aside = path.with_name(f".{path.name}.part")
        self._known.add(path.name)
        try:
            with aside.open("wb") as file:
                pq.write_table(table, file, compression="zstd", write_page_checksum=True)
                file.flush()
                os.fsync(file.fileno())
            aside.rename(path)
        except OSError as error:
            aside.unlink(missing_ok=True)
            raise OracleError(
                f"the score store {self.folder} cannot be written ({error.strerror or error}): "
                "free some space there, or name another folder for it"
            ) from error
        self._num_written += 1
        self._own.append(path)

    def _compact(self, paths: Sequence[Path]) -> None:
        """Join segments into one; a crash in between leaves grades twice, which is harmless.

        A segment that is gone was joined into another by another writer.
        """
        tables = {}
        for path in paths:
            with contextlib.suppress(FileNotFoundError):
                tables[path] = _read(path)
        self._own = [path for path in self._own if path not in tables]
        self._write(pa.concat_tables(tables.values()))
        for path in tables:
            path.unlink(missing_ok=True)

    def _refresh(self) -> None:
        """Read the segments that appeared since the last look."""
        changed_at = self.folder.stat().st_mtime_ns
        if changed_at == self._seen_at:
            return
        for path in sorted(self.folder.glob("*.parquet")):
            if path.name not in self._known:
                self._known.add(path.name)
                self._load(path)
        settled = time.time_ns() - changed_at > _SETTLED_NS
        self._seen_at = changed_at if settled else -1

    def _load(self, path: Path) -> None:
        try:
            table = _read(path)
        except FileNotFoundError:
            return  # its writer has just joined it into another segment
        except (OSError, ValueError) as error:
            self._set_aside(path, str(error).splitlines()[0])
            return
        self._insert(table)

    def _set_aside(self, path: Path, reason: str) -> None:
        (self.folder / "damaged").mkdir(exist_ok=True)
        with contextlib.suppress(FileNotFoundError):  # another reader was faster
            path.rename(self.folder / "damaged" / path.name)
        self.damaged.append((path.name, reason))
        logger.warning("score segment %s is damaged and was moved to %s/damaged: %s", path.name, self.folder, reason)

    def _insert(self, table: pa.Table) -> None:
        probabilities = _probabilities(table)
        image_ids, attributes, models, versions = (table[name].to_pylist() for name in _KEYS)
        groups: dict[tuple[str, str], list[int]] = {}
        for row, key in enumerate(zip(models, versions, strict=True)):
            groups.setdefault(key, []).append(row)
        for key, rows in groups.items():
            index = self._tables.setdefault(key, _Index())
            index.insert([image_ids[row] for row in rows], [attributes[row] for row in rows], probabilities[rows])


class _Index:
    """Grades of one model and prompt in memory: one row an image, one column an attribute."""

    def __init__(self) -> None:
        self._rows: dict[str, int] = {}
        self._columns: dict[str, int] = {}
        self._values = np.full((0, 0, NUM_GRADES), np.nan, np.float32)

    @property
    def num_known(self) -> int:
        return int((~np.isnan(self._values[..., 0])).sum())

    def insert(self, image_ids: Sequence[str], attributes: Sequence[str], probabilities: np.ndarray) -> None:
        rows = [self._rows.setdefault(image, len(self._rows)) for image in image_ids]
        columns = [self._columns.setdefault(attribute, len(self._columns)) for attribute in attributes]
        self._grow()
        self._values[rows, columns] = probabilities

    def lookup(self, image_ids: Sequence[str], attributes: Sequence[str]) -> np.ndarray:
        rows = np.array([self._rows.get(image, -1) for image in image_ids], np.int64)
        columns = np.array([self._columns.get(attribute, -1) for attribute in attributes], np.int64)
        found = self._values[rows[:, None], columns[None, :]]
        found[(rows < 0)[:, None] | (columns < 0)[None, :]] = np.nan
        return found

    def _grow(self) -> None:
        num_rows, num_columns, _ = self._values.shape
        if len(self._rows) <= num_rows and len(self._columns) <= num_columns:
            return
        larger = np.full((max(num_rows, 2 * len(self._rows)), len(self._columns), NUM_GRADES), np.nan, np.float32)
        larger[:num_rows, :num_columns] = self._values
        self._values = larger


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
        pa.array([model] * num, pa.string()),
        pa.array([prompt_version] * num, pa.string()),
        pa.array(grades.expected),
        pa.array(grades.argmax),
        pa.array(grades.entropy),
        pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), NUM_GRADES),
    ]
    return pa.table(columns, schema=SCHEMA)


def _read(path: Path) -> pa.Table:
    """A segment, checked; raises OSError or ValueError when it is torn, altered or not a segment."""
    with path.open("rb") as file:
        table = pq.read_table(file, page_checksum_verification=True)
    if not table.schema.equals(SCHEMA):
        raise ValueError("its columns are not those of a score segment")
    if any(table[name].null_count for name in table.column_names):
        raise ValueError("a value is missing")
    _check(_probabilities(table))
    return table


def _probabilities(table: pa.Table) -> np.ndarray:
    flat = pa.concat_arrays(
        [chunk.flatten() for chunk in table["probabilities"].chunks] or [pa.array([], pa.float32())]
    )
    return flat.to_numpy().reshape(-1, NUM_GRADES)


def _check(probabilities: np.ndarray) -> None:
    whole = (probabilities >= 0).all(axis=1) & (np.abs(probabilities.sum(axis=1) - 1) < 1e-3)
    if not whole.all():
        raise ValueError(f"{int((~whole).sum())} of {len(whole)} distributions do not sum to 1")
