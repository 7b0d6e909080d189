"""The files that segments are: on a disk, or on a remote filesystem."""

import contextlib
import logging
import os
import time
from pathlib import Path
from typing import IO, Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from graphdrl.storage import Place, Uri
from graphdrl.storage.files import RemoteFolder, StorageError

logger = logging.getLogger(__name__)

_SETTLED_NS = 1_000_000_000
"""A folder changed this recently may change again without its time stamp showing it."""

_LOOK_EVERY_S = 10.0
"""A remote folder is listed no more often: a request over the network for every question would be too slow."""


class SegmentFiles(Protocol):
    """Files of one folder by name; a reader sees each whole or not at all."""

    def names(self) -> list[str] | None:
        """Those that are there; None when nothing can have changed since the last call, or it is too early to look."""
        ...

    def look_again(self) -> None:
        """What `names` said last was not all taken: the next call says it anew."""
        ...

    def open(self, name: str) -> IO[bytes] | pa.BufferReader:
        """Raises OSError when it cannot be opened for a reason that says nothing of what is in it."""
        ...

    def write(self, name: str, table: pa.Table) -> None:
        """Raises OSError when there is no room or no right to, and leaves nothing under that name."""
        ...

    def remove(self, name: str) -> None: ...

    def set_aside(self, name: str) -> None:
        """Move it to the folder `damaged`."""
        ...


def open_files(place: Place) -> SegmentFiles:
    return Remote(place) if isinstance(place, Uri) else Disk(place)


class Disk:
    """Written aside, synced and renamed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._seen_at = -1

    def names(self) -> list[str] | None:
        changed_at = self._folder.stat().st_mtime_ns
        if changed_at == self._seen_at:
            return None
        self._seen_at = changed_at if time.time_ns() - changed_at > _SETTLED_NS else -1
        return [name for name in os.listdir(self._folder) if name.endswith(".parquet")]

    def look_again(self) -> None:
        self._seen_at = -1

    def open(self, name: str) -> IO[bytes]:
        return (self._folder / name).open("rb")

    def write(self, name: str, table: pa.Table) -> None:
        aside = self._folder / f".{name}.part"
        try:
            with aside.open("wb") as file:
                _write(table, file)
                file.flush()
                os.fsync(file.fileno())
            aside.rename(self._folder / name)
            _sync_folder(self._folder)
        except OSError:
            aside.unlink(missing_ok=True)
            raise

    def remove(self, name: str) -> None:
        (self._folder / name).unlink(missing_ok=True)

    def set_aside(self, name: str) -> None:
        damaged = self._folder / "damaged"
        damaged.mkdir(exist_ok=True)
        with contextlib.suppress(FileNotFoundError):  # another reader was faster
            (self._folder / name).rename(damaged / name)


class Remote:
    """Written at once: an object appears when all of it is there, and needs no renaming."""

    def __init__(self, uri: Uri) -> None:
        self._files = RemoteFolder(uri)
        self._looked_at: float | None = None

    def names(self) -> list[str] | None:
        """Raises StorageError when the storage cannot be reached at the first look.

        Later what is known already is worth more than an error: only what others wrote meanwhile is missing from it.
        """
        looked_at, now = self._looked_at, time.monotonic()
        if looked_at is not None and now - looked_at < _LOOK_EVERY_S:
            return None
        try:
            names = [name for name in self._files.sizes() if name.endswith(".parquet") and "/" not in name]
        except StorageError as error:
            if looked_at is None:
                raise
            logger.warning("segments of other writers are not seen: %s", error)
            names = None
        self._looked_at = time.monotonic()
        return names

    def look_again(self) -> None:
        self._looked_at = None

    def open(self, name: str) -> pa.BufferReader:
        # All of it: a connection that breaks must not look like a file that is damaged.
        return pa.BufferReader(self._files.read(name))

    def write(self, name: str, table: pa.Table) -> None:
        content = pa.BufferOutputStream()
        _write(table, content)
        self._files.write(name, content.getvalue())

    def remove(self, name: str) -> None:
        """One that cannot be removed stays; its rows are there twice, which is harmless."""
        try:
            self._files.delete(name)
        except FileNotFoundError:
            pass
        except StorageError as error:
            logger.warning("a segment was joined and stays: %s", error)

    def set_aside(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._files.move(name, f"damaged/{name}")


def _write(table: pa.Table, file: Any) -> None:
    pq.write_table(table, file, compression="zstd", write_page_checksum=True)


def _sync_folder(folder: Path) -> None:
    """Let a rename survive a loss of power, as the file's content does."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
