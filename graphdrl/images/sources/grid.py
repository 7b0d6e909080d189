"""What the sources have in common whose images are the points of a grid of factors: drawn by us, or out of a file."""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Protocol

import numpy as np
from PIL import Image
from pydantic import Field

from graphdrl.images.grid import SIGMA, Grid, Kind
from graphdrl.images.grid_files import Layout, read_grid_images
from graphdrl.images.ids import image_ids
from graphdrl.images.sources.base import ImageSet, SourceParameters


class GridParameters(SourceParameters):
    """path: the published file, in place of our own pictures.

    correlation: none, single (one pair of factors), double (two pairs), confounder (one factor with all others).
    sigma: width of a pair's weight exp(-(c1 - c2)^2 / (2 sigma^2)), factors in [0, 1]; smaller is stronger. None: .1,
        for a confounder .2.
    correlated: names of the factors, of pairs one pair after the other; empty: the source's own choice.
    """

    path: Path | None = None
    correlation: Kind = "none"
    sigma: float | None = Field(default=None, gt=0)
    correlated: tuple[str, ...] = ()


class Renderer(Protocol):
    """Draws images uint8 [N, size, size, 3] of factors [N, F] in [0, 1]."""

    def __call__(self, factors: np.ndarray, size: int, /) -> np.ndarray: ...


class GridSource:
    """Points of a grid, drawn with replacement; independent draws are uniform on the whole grid.

    grid: the factors. attributes: those that have a more and a less, which is what can be asked and graded.
    correlated: which factors each kind of correlation takes when none are named; all are of HFS's benchmark.
    layout: what the published file holds. render: None where only the file has pictures.

    Raises ValueError for correlated factors that are unknown or named twice, and for a missing path without a renderer.
    """

    name: ClassVar[str]
    Parameters: ClassVar[type[SourceParameters]] = GridParameters
    graded: ClassVar[bool] = False  # levels are few and tied, though in order
    grid: ClassVar[Grid]
    attributes: ClassVar[tuple[str, ...]]
    correlated: ClassVar[Mapping[Kind, tuple[str, ...]]]
    layout: ClassVar[Layout]
    render: ClassVar[Renderer | None] = None

    def __init__(self, parameters: GridParameters) -> None:
        if parameters.path is None and self.render is None:
            raise ValueError(f"images of {self.name} are read from its published file: give data.path=FILE")
        kind = parameters.correlation
        if kind == "none" and parameters.sigma is not None:
            raise ValueError("sigma is the width of a correlation, and correlation is none: name one, or leave it out")
        self._path = parameters.path
        self._pairs = self.grid.pairs(kind, parameters.correlated or self.correlated.get(kind, ()))
        self._sigma = parameters.sigma or SIGMA.get(kind, 0.0)

    @property
    def factor_names(self) -> tuple[str, ...]:
        """All factors of the grid, attributes or not."""
        return self.grid.names

    def sample(self, num: int, seed: int) -> np.ndarray:
        """Factors float32 [num, F] in [0, 1] of the images that `draw` draws."""
        return self.grid.values(self._rows(num, seed, independent=False))

    def draw(self, num: int | None, size: int, seed: int, independent: bool = False) -> ImageSet:
        """`num` images of `size` x `size` pixels; some may be the same, so `num` must be given.

        Raises what `read_grid_images` raises.
        """
        if num is None:
            raise ValueError(f"images of {self.name} are drawn with replacement: say how many")
        rows = self._rows(num, seed, independent)
        factors = self.grid.values(rows)
        distinct, place = np.unique(rows, return_inverse=True)
        images = self._pictures(distinct, size)[place]
        return ImageSet(
            images,
            image_ids(images),
            attributes=self.attributes,
            grades=factors[:, [self.grid.names.index(name) for name in self.attributes]],
            factors=factors,
            factor_names=self.grid.names,
        )

    def _rows(self, num: int, seed: int, independent: bool) -> np.ndarray:
        weights = self.grid.weights(self._pairs, self._sigma) if self._pairs and not independent else None
        return self.grid.draw(num, seed, weights)

    def _pictures(self, rows: np.ndarray, size: int) -> np.ndarray:
        """Images uint8 [N, size, size, 3] of increasing numbers [N]."""
        if self._path is None:
            assert self.render is not None
            return self.render(self.grid.values(rows), size)
        images = read_grid_images(self._path, rows, self.grid, self.layout)
        return images if images.shape[1] == size else _resized(images, size)


def _resized(images: np.ndarray, size: int) -> np.ndarray:
    resized = (Image.fromarray(image).resize((size, size), Image.Resampling.LANCZOS) for image in images)
    return np.stack([np.asarray(image) for image in resized])
