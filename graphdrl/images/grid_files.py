"""The published files of factor grids (dSprites, Shapes3D, MPI3D), of which only the wanted images are read.

Nothing is unpickled. Stored arrays of an npz are mapped into memory, packed ones are read through once, and of HDF5
those chunks are read that hold a wanted image.
"""

import math
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from graphdrl.images.grid import Grid

_BLOCK = 4096  # images that are unpacked at a time
_LOCAL_HEADER = struct.Struct("<26xHH")  # of zip: lengths of the name and of the extra field, which follow it


@dataclass(frozen=True)
class Layout:
    """What a published file holds.

    dataset: its name; images: the array of the images, uint8 [num, *shape]; brightest: their white.
    labels: the array of the factors [num, F], perhaps after other columns; None: the order alone says it.
    """

    dataset: str
    images: str
    shape: tuple[int, ...]
    brightest: int = 255
    labels: str | None = None


def read_grid_images(path: Path, rows: np.ndarray, grid: Grid, layout: Layout) -> np.ndarray:
    """Images uint8 [N, H, W, 3] of a file.

    rows: their numbers in the grid, int64 [N], increasing.
    Raises ValueError when the file is missing, damaged or not the published one; ImportError when HDF5 cannot be read.
    """
    with _opened(path, layout) as file:
        _check(path, file, grid, layout)
        pixels = file.take(layout.images, rows)
    if pixels.ndim == 3:
        pixels = np.repeat(pixels[..., None], 3, axis=3)
    return pixels * np.uint8(255 // layout.brightest)


@dataclass(frozen=True)
class _Stored:
    """Where an array begins in its member of the zip file, and what it is."""

    shape: tuple[int, ...]
    dtype: np.dtype
    offset: int


class _Npz:
    """Arrays of an npz, a few rows at a time."""

    def __init__(self, path: Path) -> None:
        self._path, self._zip = path, zipfile.ZipFile(path)

    def __enter__(self) -> "_Npz":
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()

    def __contains__(self, name: str) -> bool:
        return f"{name}.npy" in self._zip.namelist()

    def kind(self, name: str) -> tuple[np.dtype, tuple[int, ...]]:
        with self._zip.open(f"{name}.npy") as member:
            found = _header(member)
        return found.dtype, found.shape

    def whole(self, name: str) -> np.ndarray:
        with self._zip.open(f"{name}.npy") as member:
            return np.lib.format.read_array(member, allow_pickle=False)

    def take(self, name: str, rows: np.ndarray) -> np.ndarray:
        info = self._zip.getinfo(f"{name}.npy")
        with self._zip.open(info) as member:
            found = _header(member)
            if info.compress_type == zipfile.ZIP_STORED:
                offset = self._start(info) + found.offset
                return np.memmap(self._path, found.dtype, "r", offset, found.shape)[rows]
            return _unpack(member, found, rows)

    def _start(self, info: zipfile.ZipInfo) -> int:
        """Where a member's content begins in the file; its local header may be longer than the directory says."""
        with self._path.open("rb") as file:
            file.seek(info.header_offset)
            name, extra = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
        return info.header_offset + _LOCAL_HEADER.size + name + extra


class _Hdf5:
    """Arrays of an HDF5 file, a few rows at a time."""

    def __init__(self, path: Path) -> None:
        self._file = _h5py().File(path, "r")

    def __enter__(self) -> "_Hdf5":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __contains__(self, name: str) -> bool:
        return name in self._file

    def kind(self, name: str) -> tuple[np.dtype, tuple[int, ...]]:
        return self._file[name].dtype, self._file[name].shape

    def whole(self, name: str) -> np.ndarray:
        return self._file[name][()]

    def take(self, name: str, rows: np.ndarray) -> np.ndarray:
        """Reads chunk by chunk: picking single rows would unpack a chunk anew for each of them."""
        array = self._file[name]
        block = array.chunks[0] if array.chunks else 1
        taken = np.empty((len(rows), *array.shape[1:]), array.dtype)
        for start, wanted in _blocks(rows, block):
            taken[wanted] = array[start : start + block][rows[wanted] - start]
        return taken


def _h5py() -> Any:
    try:
        import h5py
    except ImportError as error:
        raise ImportError("HDF5 files need an optional package: install graphdrl[hdf5]") from error
    return h5py


@contextmanager
def _opened(path: Path, layout: Layout) -> Iterator["_Npz | _Hdf5"]:
    """The file by what it is; whatever is wrong with it, said in one sentence that names it."""
    if not path.is_file():
        raise ValueError(f"there is no file {str(path)!r}")
    try:
        with _Npz(path) if zipfile.is_zipfile(path) else _Hdf5(path) as file:
            yield file
    except (OSError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        reason = str(error).splitlines()[0] if str(error) else "it ends too early"
        raise ValueError(f"{str(path)!r} cannot be read as {layout.dataset}'s file ({reason})") from error


def _check(path: Path, file: _Npz | _Hdf5, grid: Grid, layout: Layout) -> None:
    """Raises ValueError unless the file holds the whole grid in its own order."""
    expected = (np.dtype(np.uint8), (grid.num, *layout.shape))
    for name in filter(None, (layout.images, layout.labels)):
        if name not in file:
            raise ValueError(f"{str(path)!r} is not {layout.dataset}'s file: it has no array {name!r}")
    found = file.kind(layout.images)
    if found != expected:
        raise ValueError(
            f"{str(path)!r} is not {layout.dataset}'s file: {layout.images!r} is {found[0]} {list(found[1])}, and the "
            f"grid of {' x '.join(map(str, grid.shape))} images is {expected[0]} {list(expected[1])}"
        )
    if layout.labels is not None:
        labels = file.whole(layout.labels)
        if labels.ndim != 2 or not np.array_equal(_levels(labels[:, -len(grid.sizes) :]), _in_order(grid)):
            raise ValueError(
                f"{str(path)!r} is not {layout.dataset}'s file: its {layout.labels!r} are not those of the grid of "
                f"{', '.join(grid.names)} in order"
            )


def _levels(labels: np.ndarray) -> np.ndarray:
    """Labels [N, F] as the place of each among the distinct values of its column."""
    return np.stack([np.unique(column, return_inverse=True)[1] for column in labels.T], axis=1)


def _in_order(grid: Grid) -> np.ndarray:
    return grid.levels(np.arange(grid.num))


def _header(member: IO[bytes]) -> _Stored:
    """Reads the header of an npy file, which says what follows."""
    version = np.lib.format.read_magic(member)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(member)
    if fortran or dtype.hasobject:
        raise KeyError("it holds arrays that are not plain rows of numbers")
    return _Stored(shape, dtype, member.tell())


def _unpack(member: IO[bytes], found: _Stored, rows: np.ndarray) -> np.ndarray:
    """The wanted rows of a packed array; a block of it at a time is held beside them."""
    taken = np.empty((len(rows), *found.shape[1:]), found.dtype)
    row_bytes = math.prod(found.shape[1:]) * found.dtype.itemsize
    position = 0
    for start, wanted in _blocks(rows, _BLOCK):
        _skip(member, (start - position) * row_bytes)
        num = min(_BLOCK, found.shape[0] - start)
        content = member.read(num * row_bytes)
        if len(content) < num * row_bytes:
            raise EOFError
        taken[wanted] = np.frombuffer(content, found.dtype).reshape(num, *found.shape[1:])[rows[wanted] - start]
        position = start + num
    return taken


def _skip(member: IO[bytes], num_bytes: int) -> None:
    while num_bytes > 0:
        read = len(member.read(min(num_bytes, 1 << 24)))
        if not read:
            raise EOFError
        num_bytes -= read


def _blocks(rows: np.ndarray, size: int) -> Iterator[tuple[int, slice]]:
    """(first row of the block, which of the increasing `rows` lie in it) of every block of `size` that has any."""
    numbers, firsts = np.unique(rows // size, return_index=True)
    for number, first, last in zip(numbers, firsts, [*firsts[1:], len(rows)], strict=True):
        yield int(number) * size, slice(int(first), int(last))
