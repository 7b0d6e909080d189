"""Append-only Parquet segments in a folder that any number of writers may share: what the oracle's stores stand on."""

import contextlib
import errno
import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import IO

import pyarrow as pa
import pyarrow.parquet as pq

from graphdrl.oracle.protocol import OracleError
from graphdrl.oracle.segment_files import SegmentFiles, open_files
from graphdrl.storage import Place, place
from graphdrl.storage.files import StorageError

logger = logging.getLogger(__name__)

_MOST_SEGMENTS = 128
"""More small segments than this are joined."""

_FULL_ROWS = 50_000
"""A segment of so many rows is left alone: joining costs the same however much there is already."""

_NOT_ITS_FAULT = (errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE, errno.ENOMEM)
"""Reasons for which a segment cannot be read that say nothing of what is in it."""


class Segments:
    """Rows of one schema, kept in a folder, on a disk or remote, and handed to an index in memory.

    Each writer appends its own series of segments, so that a reader sees a segment whole or not at all. A segment that
    cannot be read is moved to `damaged/` and listed in `damaged`; only what it held is lost.

    name: what the rows are, for messages.
    schema: the columns; its metadata names the format.
    check: raises ValueError for a table of that schema with values that cannot be.
    insert: takes a table into the index; called by one thread at a time, never while somebody is `reading`.
    """

    def __init__(
        self,
        folder: str | Place,
        schema: pa.Schema,
        *,
        name: str,
        check: Callable[[pa.Table], None],
        insert: Callable[[pa.Table], None],
    ) -> None:
        self.folder = place(folder)
        self._files: SegmentFiles = open_files(self.folder)
        self.damaged: list[tuple[str, str]] = []
        self._schema, self._name, self._check, self._insert = schema, name, check, insert
        self._writer = f"{time.time_ns():016x}{secrets.token_hex(4)}"
        self._num_written = 0
        self._own: list[str] = []
        self._known: dict[str, int] = {}
        self._pending: list[pa.Table] = []
        self._lock = threading.Lock()
        self._writing = threading.Lock()  # taken first; readers need not wait for the disk
        with self._lock:
            self._refresh()
        self._tidy([name for name, num_rows in sorted(self._known.items()) if num_rows < _FULL_ROWS])

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Inside, the index holds all that any writer has flushed, and does not change.

        On a remote filesystem what other writers have flushed in the last seconds may be missing.
        Raises OracleError when a segment is there and may not be read.
        """
        with self._lock:
            self._refresh()
            yield

    def append(self, table: pa.Table) -> None:
        """Take rows. They are on disk and in the index after `flush`."""
        if table.num_rows:
            with self._lock:
                self._pending.append(table)

    def flush(self) -> None:
        """Write what was appended as one segment.

        Raises OracleError when the folder cannot be written; the rows are kept and written with the next flush.
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
            self._tidy(self._own)

    def close(self) -> None:
        """Flush, and join this writer's small segments."""
        self.flush()
        with self._writing:
            self._tidy(self._own, most=1)

    def _write(self, table: pa.Table) -> None:
        name = f"{self._writer}-{self._num_written:06d}.parquet"
        self._known[name] = table.num_rows
        try:
            self._files.write(name, table)
        except StorageError as error:
            raise OracleError(f"the {self._name} store {error}") from error
        except OSError as error:
            raise OracleError(
                f"the {self._name} store {self.folder} cannot be written ({error.strerror or error}): "
                "free some space there, or name another folder for it"
            ) from error
        self._num_written += 1
        if table.num_rows < _FULL_ROWS:
            self._own.append(name)

    def _tidy(self, small: list[str], most: int | None = None) -> None:
        """Join small segments when they are many. Where that cannot be written all stays as it was."""
        if len(small) <= (_MOST_SEGMENTS if most is None else most):
            return
        try:
            self._join(list(small))
        except OracleError as error:
            logger.warning("%d %s segments were not joined: %s", len(small), self._name, error)

    def _join(self, names: Iterable[str]) -> None:
        """Join segments into full ones and a rest."""
        group: dict[str, pa.Table] = {}
        for name in names:
            table = self._read(name)
            if table is None:
                self._disown({name})
                continue
            group[name] = table
            if sum(one.num_rows for one in group.values()) >= _FULL_ROWS:
                self._replace(group)
                group = {}
        self._replace(group)

    def _replace(self, group: Mapping[str, pa.Table]) -> None:
        """One segment for several; a crash in between leaves rows twice, which is harmless."""
        if len(group) < 2:
            return
        self._write(pa.concat_tables(group.values()))
        self._disown(group.keys())
        for name in group:
            self._files.remove(name)

    def _disown(self, names: Iterable[str]) -> None:
        gone = set(names)
        self._own = [name for name in self._own if name not in gone]

    def _refresh(self) -> None:
        """Read the segments that appeared since the last look."""
        try:
            found = self._files.names()
        except StorageError as error:
            raise OracleError(f"the {self._name} store {error}") from error
        for name in sorted(name for name in found or () if name not in self._known):
            try:
                table = self._read(name)
            except OracleError:
                self._files.look_again()
                raise
            self._known[name] = 0 if table is None else table.num_rows
            if table is not None:
                self._insert(table)

    def _read(self, name: str) -> pa.Table | None:
        """A segment; None when another writer has joined it into another, or when it is damaged and was set aside."""
        try:
            with self._files.open(name) as file:
                return _read(file, self._schema, self._check)
        except FileNotFoundError:
            return None
        except StorageError as error:
            raise OracleError(f"the {self._name} segment {name} of {error}") from error
        except (OSError, ValueError, pa.ArrowException) as error:
            if isinstance(error, OSError) and error.errno in _NOT_ITS_FAULT:
                raise OracleError(
                    f"the {self._name} segment {self.folder / name} cannot be opened ({error.strerror}): it is kept "
                    "where it is; let this user read it, and allow it as many open files as it needs"
                ) from error
            self._set_aside(name, str(error).splitlines()[0])
            return None

    def _set_aside(self, name: str, reason: str) -> None:
        self._files.set_aside(name)
        self.damaged.append((name, reason))
        logger.warning(
            "%s segment %s is damaged and was moved to %s: %s", self._name, name, self.folder / "damaged", reason
        )


def _read(file: IO[bytes] | pa.BufferReader, schema: pa.Schema, check: Callable[[pa.Table], None]) -> pa.Table:
    """A segment, checked; raises OSError, ValueError or ArrowException when it is torn, altered or no segment."""
    parquet = pq.ParquetFile(file, page_checksum_verification=True)
    if not parquet.schema_arrow.equals(schema):
        raise ValueError("its columns are not those of such a segment")
    table = parquet.read(use_threads=False)
    if any(table[name].null_count for name in table.column_names):
        raise ValueError("a value is missing")
    check(table)
    return table
