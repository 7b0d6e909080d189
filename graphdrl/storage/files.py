"""Files of a remote folder, over pyarrow's filesystems: whole objects in, whole objects out, errors in one sentence."""

import logging
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path, PurePosixPath
from tempfile import TemporaryFile
from typing import TypeVar

import pyarrow as pa
from pyarrow import fs
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from graphdrl.storage.places import Place, Uri

logger = logging.getLogger(__name__)
T = TypeVar("T")

_ATTEMPTS = 3
"""Times that an operation is tried; pyarrow's own filesystems try single requests again besides."""

_THREADS = 8
_OBJECT_STORES = ("s3", "gcs", "abfs")
"""Types without folders of their own: a name is enough to write to."""

_NO_BUCKET = re.compile(r"NO_SUCH_BUCKET|bucket does not exist", re.IGNORECASE)
_NO_RIGHT = re.compile(
    r"ACCESS_DENIED|INVALID_ACCESS_KEY_ID|SIGNATURE_DOES_NOT_MATCH|INVALID_SIGNATURE|INVALID_CLIENT_TOKEN_ID|"
    r"UNRECOGNIZED_CLIENT|MISSING_AUTHENTICATION_TOKEN|EXPIRED_TOKEN|FORBIDDEN|UNAUTHORIZED|UNAUTHENTICATED|"
    r"PERMISSION.?DENIED|credentials|HTTP status 40[13]",
    re.IGNORECASE,
)
_AWS = re.compile(r"AWS Error (\w+) during \w+ operation: (.*?)(?: \(Request ID:.*)?$", re.DOTALL)


class StorageError(OSError):
    """A place cannot be read or written; the message is one sentence that names it and the way out."""


def open_filesystem(uri: Uri) -> tuple[fs.FileSystem, str]:
    """The filesystem of an address, and the folder's path on it; raises StorageError."""
    try:
        filesystem, root = fs.FileSystem.from_uri(str(uri))
    except (OSError, ValueError, ImportError, NotImplementedError) as error:
        raise _sentence(uri, "opened", error) from error
    return filesystem, root.rstrip("/")


class RemoteFolder:
    """A folder by its address; the filesystem is opened when it is first asked. Names are relative, with slashes.

    An object is whole or not there: what is cut short while it is written never appears under its name.
    Raises StorageError when the storage cannot be reached, or refuses; FileNotFoundError for a name that is not there.
    """

    def __init__(self, uri: Uri) -> None:
        self.uri = uri
        self._made: set[str] = set()

    @cached_property
    def _opened(self) -> tuple[fs.FileSystem, str]:
        return open_filesystem(self.uri)

    def sizes(self, under: str = "", attempts: int = _ATTEMPTS) -> dict[str, int]:
        """Sizes in bytes of all files below `under`, by name."""
        filesystem, root = self._opened
        selector = fs.FileSelector(self._path(under), recursive=True, allow_not_found=True)
        found = self._try("listed", lambda: filesystem.get_file_info(selector), attempts)
        names = {one.path.removeprefix(root).strip("/"): one.size for one in found if one.is_file}
        return {name: size for name, size in names.items() if _is_inside(name)}

    def read(self, name: str) -> pa.Buffer:
        def read() -> pa.Buffer:
            with self._opened[0].open_input_file(self._path(name)) as file:
                return file.read_buffer()

        return self._try("read", read)

    def write(self, name: str, content: bytes | pa.Buffer) -> None:
        self._try("written", lambda: self._write(name, content))

    def upload(self, file: Path, name: str) -> None:
        """Keep a file of this machine under `name`."""
        size = file.stat().st_size

        def copy() -> None:
            self._make_parent(name)
            here, there = fs.LocalFileSystem(), self._opened[0]
            fs.copy_files(str(file), self._path(name), source_filesystem=here, destination_filesystem=there)

        if size:
            self._try("written", copy)
        else:
            self.write(name, b"")

    def download(self, name: str, file: Path) -> None:
        """Put what is kept under `name` into a file of this machine, all of it or nothing."""
        file.parent.mkdir(parents=True, exist_ok=True)
        aside = file.with_name(f".{file.name}.{os.getpid()}.{secrets.token_hex(4)}.partial")
        try:
            self._try("read", lambda: self._copy_here(name, aside))
            os.replace(aside, file)
        finally:
            aside.unlink(missing_ok=True)

    def move(self, name: str, target: str) -> None:
        def move() -> None:
            self._make_parent(target)
            self._opened[0].move(self._path(name), self._path(target))

        self._try("written", move)

    def delete(self, name: str) -> None:
        self._try("written", lambda: self._opened[0].delete_file(self._path(name)))

    def delete_folder(self, name: str) -> None:
        """Delete all that lies below `name`; nothing happens when there is nothing."""
        self._try("written", lambda: self._opened[0].delete_dir_contents(self._path(name), missing_dir_ok=True))
        with_folders = self._opened[0].type_name not in _OBJECT_STORES
        if with_folders and self._opened[0].get_file_info(self._path(name)).type == fs.FileType.Directory:
            self._try("written", lambda: self._opened[0].delete_dir(self._path(name)))

    # Folders that one file, written last, makes complete ---------------------------------------------------------

    def upload_files(self, folder: Path, names: Iterable[str], under: str = "") -> None:
        """Keep files of a local folder under their own names, below `under`; several at a time."""
        _at_once(lambda name: self.upload(folder / name, f"{under}/{name}".lstrip("/")), names)

    def download_files(self, names: Iterable[str], folder: Path) -> None:
        """Put objects into a local folder, under their own names; several at a time."""
        _at_once(lambda name: self.download(name, folder / name), names)

    def upload_folder(self, folder: Path, name: str, last: str) -> None:
        """Keep a local folder below `name`; its file `last` is written when all others are there."""
        self.upload_files(folder, [one for one in local_files(folder) if one != last], name)
        self.upload(folder / last, f"{name}/{last}")

    def download_folder(self, name: str, folder: Path) -> None:
        """Put all that lies below `name` into a local folder, at once; one that is there already stays."""
        aside = folder.with_name(f".{folder.name}.{os.getpid()}.{secrets.token_hex(4)}.partial")
        try:
            names = [one.removeprefix(f"{name}/") for one in self.sizes(name)]
            _at_once(lambda one: self.download(f"{name}/{one}", aside / one), names)
            aside.rename(folder)
        except OSError:
            if not folder.exists():  # otherwise another process was faster
                raise
        finally:
            shutil.rmtree(aside, ignore_errors=True)

    def complete_folders(self, under: str, last: str) -> list[str]:
        """Names of the folders below `under` that hold their file `last`, in order."""
        marks = [PurePosixPath(name).relative_to(under).parts for name in self.sizes(under)]
        return sorted(parts[0] for parts in marks if len(parts) == 2 and parts[1] == last)

    # ---------------------------------------------------------------------------------------------------------------

    def _path(self, name: str) -> str:
        root = self._opened[1]
        return f"{root}/{name}" if name else root

    def _write(self, name: str, content: bytes | pa.Buffer) -> None:
        self._make_parent(name)
        with self._opened[0].open_output_stream(self._path(name)) as stream:
            stream.write(content)

    def _copy_here(self, name: str, file: Path) -> None:
        with self._opened[0].open_input_stream(self._path(name)) as source, file.open("wb") as target:
            shutil.copyfileobj(source, target, 4 << 20)

    def _make_parent(self, name: str) -> None:
        filesystem, parent = self._opened[0], self._path(name).rpartition("/")[0]
        if filesystem.type_name not in _OBJECT_STORES and parent not in self._made:
            filesystem.create_dir(parent, recursive=True)
            self._made.add(parent)

    def _try(self, what: str, operation: Callable[[], T], attempts: int = _ATTEMPTS) -> T:
        """`operation()`, again when its error may pass by itself."""
        retrying = Retrying(
            stop=stop_after_attempt(attempts),
            wait=wait_random_exponential(multiplier=0.5, max=5),
            retry=retry_if_exception(_may_pass),
            reraise=True,
        )
        try:
            return retrying(operation)
        except (FileNotFoundError, StorageError):
            raise
        except (OSError, pa.ArrowException) as error:
            raise _sentence(self.uri, what, error) from error


def local_files(folder: Path) -> list[str]:
    """Names of a folder's files, relative to it and with slashes; none that are hidden, or still being written."""
    names = (file.relative_to(folder) for file in sorted(folder.rglob("*")) if file.is_file())
    return [name.as_posix() for name in names if not any(part.startswith(".") for part in name.parts)]


def check_writable(where: Place, what: str) -> None:
    """Raises ValueError when `where`, the place for `what`, cannot be written; leaves nothing there."""
    if isinstance(where, Uri):
        files, name = RemoteFolder(where), f".probe-{secrets.token_hex(8)}"
        try:
            files._try("written", lambda: files._write(name, b"graphdrl"), attempts=1)
            files.delete(name)
        except OSError as error:
            raise ValueError(f"the {what} {error}") from error
        return
    there = next(parent for parent in (where.absolute(), *where.absolute().parents) if parent.exists())
    try:
        with TemporaryFile(dir=there) as file:
            file.write(bytes(4096))
    except OSError as error:
        raise ValueError(
            f"the {what} {where} cannot be written ({error.strerror or error}): name another folder for it, or make "
            f"{there} one that this user can write to"
        ) from error


def _sentence(uri: Uri, what: str, error: BaseException) -> StorageError:
    text = str(error)
    found = _AWS.search(text)
    reason = f"{found[1]}: {found[2]}" if found else text
    reason = " ".join(reason.split())[:300].rstrip(".:")
    if what == "opened" and isinstance(error, ValueError):
        out = "take s3://, gs://, abfs:// or hdfs:// with options that pyarrow knows, or a folder"
    elif _NO_BUCKET.search(text):
        out = "create the bucket, or name another"
    elif _NO_RIGHT.search(text):
        out = "give this process's credentials (the environment's, such as AWS_ACCESS_KEY_ID) the right to it"
    else:
        out = "see that the address is right and the storage can be reached from this machine"
    return StorageError(f"{uri} cannot be {what} ({reason}): {out}")


def _may_pass(error: BaseException) -> bool:
    text = str(error)
    lasting = isinstance(error, (FileNotFoundError, StorageError)) or _NO_BUCKET.search(text) or _NO_RIGHT.search(text)
    return isinstance(error, OSError) and not lasting


def _is_inside(name: str) -> bool:
    """Whether a name from outside stays below the folder that it is written to."""
    return bool(name) and ".." not in PurePosixPath(name).parts and not name.startswith("/") and "\\" not in name


def _at_once(work: Callable[[str], None], names: Iterable[str]) -> None:
    with ThreadPoolExecutor(_THREADS) as pool:
        for _ in pool.map(work, names):
            pass
