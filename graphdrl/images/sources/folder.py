"""A folder of image files as a source: a person's own images."""

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np

from graphdrl.images.checks import FORMATS, find_image_files, read_images
from graphdrl.images.ids import image_ids
from graphdrl.images.sources.base import ImageSet, SourceParameters, UnknownFactors


class FolderParameters(SourceParameters):
    """path: the folder, searched with all that is below it. attributes: what can be asked of its images, if known."""

    path: Path
    attributes: tuple[str, ...] = ()


class FolderSource(UnknownFactors):
    """Image files of any size, cut to their centre square."""

    name: ClassVar[str] = "folder"
    Parameters: ClassVar[type[SourceParameters]] = FolderParameters
    graded: ClassVar[bool] = False

    def __init__(self, parameters: FolderParameters) -> None:
        self._path = parameters.path
        self._attributes = parameters.attributes

    @property
    def attributes(self) -> tuple[str, ...]:
        """The attributes that its owner named."""
        return self._attributes

    def draw(self, num: int | None, size: int, seed: int, independent: bool = False) -> ImageSet:
        """Up to `num` of the folder's images, chosen by the seed and in the order of their names; None: all.

        What cannot be read, and what shows the same pixels as a file before it, is left out and listed as skipped.
        Raises ValueError when the folder holds no readable image, or when independent attributes are asked for.
        """
        if independent:
            raise ValueError(f"the images of folder {str(self._path)!r} cannot be drawn independently: they are given")
        names = find_image_files(self._path)
        if num is not None and num < len(names):
            chosen = np.random.default_rng(seed).choice(len(names), num, replace=False)
            names = [names[row] for row in np.sort(chosen)]
        images, kept, skipped = read_images(self._path, names, size)
        if not kept:
            raise ValueError(_nothing_readable(self._path, skipped))
        ids = image_ids(images)
        rows, repeated = _first_of_each(ids, kept)
        if repeated:
            images, ids, kept = images[rows], tuple(ids[row] for row in rows), [kept[row] for row in rows]
        return ImageSet(
            images, ids, attributes=self._attributes, names=tuple(map(str, kept)), skipped=(*skipped, *repeated)
        )


def _first_of_each(ids: Sequence[str], names: Sequence[str]) -> tuple[list[int], list[tuple[str, str]]]:
    """Rows of the distinct images, and (name, reason) of the others."""
    first: dict[str, int] = {}
    repeated = []
    for row, (image, name) in enumerate(zip(ids, names, strict=True)):
        if first.setdefault(image, row) != row:
            repeated.append((name, f"shows the same as {names[first[image]]}"))
    return list(first.values()), repeated


def _nothing_readable(folder: Path, skipped: Sequence[tuple[str, str]]) -> str:
    found = f"none of its {len(skipped)} image files can be read ({skipped[0][0]} {skipped[0][1]})" if skipped else ""
    return (
        f"folder {str(folder)!r} holds no image that can be used: {found or 'it has no image files'}; "
        f"accepted formats are {', '.join(FORMATS)}"
    )
