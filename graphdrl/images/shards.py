"""Image sets on disk: Parquet shards of raw pixels, the relations they were drawn from, and a manifest.

A folder holds `shard-00000.parquet` ..., `relations.parquet` when the relations are known, and `manifest.json`, which
names the shards that are complete. Every file is written under another name and renamed, so that a name never stands
for half a file.
"""

import errno
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from graphdrl.images.sources.base import ImageSet

FORMAT = 1
MANIFEST, RELATIONS = "manifest.json", "relations.parquet"

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_LARGEST_MANIFEST_BYTES = 64 << 20


class DiskFull(OSError):  # noqa: N818 - it names the disk's state
    """No room for a file; what was complete before it is still there."""


class Shard(BaseModel):
    """One file of the manifest's list."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    file: str = Field(pattern=r"^shard-\d{5,}\.parquet$")
    rows: int = Field(gt=0)


class Manifest(BaseModel):
    """What a folder of shards holds.

    source, parameters, seed: where the images came from, when it is known.
    complete: False while shards are still to be written.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: int = FORMAT
    source: str | None = None
    parameters: dict[str, Any] = {}
    seed: int | None = None
    attributes: tuple[str, ...] = ()
    factor_names: tuple[str, ...] = ()
    has_grades: bool = False
    size: int = Field(ge=1, le=8192)
    num_images: int = Field(ge=1)
    names: tuple[str, ...] = ()
    skipped: tuple[tuple[str, str], ...] = ()
    shards: tuple[Shard, ...] = ()
    complete: bool = False


def write_shards(
    image_set: ImageSet,
    folder: Path,
    rows_per_shard: int = 4096,
    source: str | None = None,
    parameters: dict[str, Any] | None = None,
    seed: int | None = None,
) -> Manifest:
    """Write an image set; a folder that holds shards already is refused.

    Raises ValueError when the folder is taken, and DiskFull when the disk has no room: the shards that were complete
    stay readable (`read_shards(folder, allow_partial=True)`).
    """
    if (folder / MANIFEST).exists():
        raise ValueError(f"folder {str(folder)!r} holds shards already: choose another one, or remove it first")
    folder.mkdir(parents=True, exist_ok=True)
    manifest = Manifest(
        source=source,
        parameters=parameters or {},
        seed=seed,
        attributes=image_set.attributes,
        factor_names=image_set.factor_names if image_set.factors is not None else (),
        has_grades=image_set.grades is not None,
        size=image_set.images.shape[1],
        num_images=len(image_set),
        names=image_set.names,
        skipped=image_set.skipped,
    )
    if image_set.relations:
        relations = _relations(image_set.relations)
        _write(folder / RELATIONS, lambda file: pq.write_table(relations, file), relations.nbytes)
    for start in range(0, len(image_set), rows_per_shard):
        rows = slice(start, min(start + rows_per_shard, len(image_set)))
        shard = Shard(file=f"shard-{len(manifest.shards):05d}.parquet", rows=rows.stop - rows.start)
        table = _table(image_set, rows)
        still_needed = (len(image_set) - start) * (table.nbytes // shard.rows)
        _write(folder / shard.file, partial(_write_table, table), still_needed)
        manifest = manifest.model_copy(update={"shards": (*manifest.shards, shard)})
        _write_manifest(manifest, folder)
    manifest = manifest.model_copy(update={"complete": True})
    _write_manifest(manifest, folder)
    return manifest


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a folder of shards; ValueError when there is none or it is damaged."""
    path = folder / MANIFEST
    if not path.is_file():
        raise ValueError(f"folder {str(folder)!r} holds no shards: it has no {MANIFEST}")
    if path.stat().st_size > _LARGEST_MANIFEST_BYTES:
        raise ValueError(f"{str(path)!r} is larger than the limit of {_LARGEST_MANIFEST_BYTES:,} bytes")
    try:
        manifest = Manifest.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(
            f"{str(path)!r} is damaged ({first['loc']}: {first['msg']}): write the shards again"
        ) from error
    if manifest.format != FORMAT:
        raise ValueError(f"{str(path)!r} has format {manifest.format}; this version reads format {FORMAT}")
    return manifest


def read_shards(folder: Path, allow_partial: bool = False) -> ImageSet:
    """The image set of a folder; one shard at a time is held beside the result.

    allow_partial: take the complete shards of a folder whose writing was cut short.
    Raises ValueError that names the file when one is missing or damaged.
    """
    manifest = read_manifest(folder)
    num = sum(shard.rows for shard in manifest.shards)
    if not (allow_partial and num) and (not manifest.complete or num != manifest.num_images):
        raise ValueError(
            f"folder {str(folder)!r} holds {num} of {manifest.num_images} images, its writing was cut short: "
            "write it again, or read what there is with allow_partial=True"
        )
    ids: list[str] = []
    images = np.empty((num, manifest.size, manifest.size, 3), np.uint8)
    grades = np.empty((num, len(manifest.attributes)), np.float32) if manifest.has_grades else None
    factors = np.empty((num, len(manifest.factor_names)), np.float32) if manifest.factor_names else None
    for shard in manifest.shards:
        rows = slice(len(ids), len(ids) + shard.rows)
        table = _read_table(folder / shard.file, manifest, shard.rows)
        images[rows] = _pixels(table, manifest.size)
        if grades is not None:
            grades[rows] = _columns(table, "grade", manifest.attributes)
        if factors is not None:
            factors[rows] = _columns(table, "factor", manifest.factor_names)
        ids += table["image_id"].to_pylist()
    return ImageSet(
        images,
        tuple(ids),
        attributes=manifest.attributes,
        grades=grades,
        factors=factors,
        factor_names=manifest.factor_names,
        relations=read_relations(folder),
        names=manifest.names[:num],
        skipped=manifest.skipped,
    )


def read_relations(folder: Path) -> tuple[tuple[str, str, float], ...]:
    """(parent, child, weight) of the network that the images were drawn from; empty when it is not known."""
    path = folder / RELATIONS
    if not path.exists():
        return ()
    with _damage_named(path):
        table = pq.read_table(path, columns=["parent", "child", "weight"])
    return tuple((row["parent"], row["child"], row["weight"]) for row in table.to_pylist())


def _relations(edges: Sequence[tuple[str, str, float]]) -> pa.Table:
    schema = pa.schema([("parent", pa.string()), ("child", pa.string()), ("weight", pa.float64())])
    return pa.Table.from_pylist([dict(zip(schema.names, edge, strict=True)) for edge in edges], schema)


def _schema(size: int, attributes: tuple[str, ...], factor_names: tuple[str, ...]) -> pa.Schema:
    return pa.schema(
        [
            ("image_id", pa.string()),
            ("image", pa.binary(size * size * 3)),
            ("height", pa.int32()),
            ("width", pa.int32()),
            *((f"grade:{name}", pa.float32()) for name in attributes),
            *((f"factor:{name}", pa.float32()) for name in factor_names),
        ]
    )


def _table(image_set: ImageSet, rows: slice) -> pa.Table:
    """Rows of an image set as a table; the pixels are not copied."""
    images = np.ascontiguousarray(image_set.images[rows])
    num, size = images.shape[:2]
    pixels = pa.binary(size * size * 3)
    columns = [
        pa.array(image_set.ids[rows], pa.string()),
        pa.Array.from_buffers(pixels, num, [None, pa.py_buffer(images)]),
        pa.array(np.full(num, size, np.int32)),
        pa.array(np.full(num, size, np.int32)),
    ]
    graded: tuple[str, ...] = ()
    factored: tuple[str, ...] = ()
    if image_set.grades is not None:
        graded = image_set.attributes
        columns += [pa.array(column) for column in np.ascontiguousarray(image_set.grades[rows].T)]
    if image_set.factors is not None:
        factored = image_set.factor_names
        columns += [pa.array(column) for column in np.ascontiguousarray(image_set.factors[rows].T)]
    return pa.table(columns, schema=_schema(size, graded, factored))


def _write_table(table: pa.Table, file: IO[bytes]) -> None:
    pq.write_table(table, file, compression="zstd", compression_level=1, use_dictionary=False, write_page_checksum=True)


def _write_manifest(manifest: Manifest, folder: Path) -> None:
    content = json.dumps(manifest.model_dump(mode="json"), indent=1).encode()
    _write(folder / MANIFEST, lambda file: file.write(content), len(content))


def _write(path: Path, write: Callable[[IO[bytes]], Any], needed_bytes: int) -> None:
    """Write a file under another name and rename it when it is whole and on the disk.

    needed_bytes: what this file and those after it take at most, for the message of DiskFull.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with draft.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise DiskFull(
            error.errno,
            f"no room for {path.name} in {str(path.parent)!r}: up to {needed_bytes:,} bytes more are needed; "
            "free some space or choose another folder (the files before it are complete)",
        ) from error
    finally:
        draft.unlink(missing_ok=True)


@contextmanager
def _damage_named(path: Path) -> Iterator[None]:
    """Whatever Arrow finds wrong with a file, said in one sentence that names it."""
    try:
        yield
    except (pa.ArrowException, OSError, KeyError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{str(path)!r} is missing or damaged ({reason}): write the shards again") from error


def _read_table(path: Path, manifest: Manifest, num_rows: int) -> pa.Table:
    """A shard, held against what the manifest says of it before its pixels are read."""
    expected = _schema(manifest.size, manifest.attributes if manifest.has_grades else (), manifest.factor_names)
    with _damage_named(path), pq.ParquetFile(path, page_checksum_verification=True) as file:
        if file.metadata.num_rows != num_rows or not file.schema_arrow.equals(expected):
            raise pa.ArrowInvalid(f"its rows or columns are not those that {MANIFEST} names")
        return file.read()


def _pixels(table: pa.Table, size: int) -> np.ndarray:
    """uint8 [N, S, S, 3], a view of the table."""
    column = table["image"].combine_chunks()
    pixels = np.frombuffer(
        column.buffers()[1], np.uint8, len(column) * size * size * 3, column.offset * size * size * 3
    )
    return pixels.reshape(len(column), size, size, 3)


def _columns(table: pa.Table, kind: str, names: tuple[str, ...]) -> np.ndarray:
    return np.stack([table[f"{kind}:{name}"].to_numpy() for name in names], axis=1)
