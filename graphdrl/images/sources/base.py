"""What every source of images hands out, and the registry that finds a source by its name."""

from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from typing import Any, ClassVar, Protocol

import numpy as np
from pydantic import BaseModel, ConfigDict


@dataclass(frozen=True)
class ImageSet:
    """N images with what is known of them.

    images: uint8 [N, S, S, 3]; may be a memory map.
    ids: content hash of each image (`graphdrl.images.ids`).
    attributes: the K names that can be asked of the images; empty where none are given.
    grades: float32 [N, K] in [0, 1], the true strength of each attribute, or None.
    factors: float32 [N, F] in [0, 1], attributes and nuisances as drawn, named by `factor_names`, or None.
    relations: (parent, child, weight) of the Bayesian network that the factors were drawn from; empty without one.
    names: the file that each image was read from; empty where images are drawn.
    skipped: (name, reason) of every file that could not be read.
    """

    images: np.ndarray
    ids: tuple[str, ...]
    attributes: tuple[str, ...] = ()
    grades: np.ndarray | None = None
    factors: np.ndarray | None = None
    factor_names: tuple[str, ...] = ()
    relations: tuple[tuple[str, str, float], ...] = ()
    names: tuple[str, ...] = ()
    skipped: tuple[tuple[str, str], ...] = ()

    def __len__(self) -> int:
        return len(self.images)


class SourceParameters(BaseModel):
    """A source's own settings: typed and closed."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Source(Protocol):
    """Where images come from.

    A source class is made from its own parameters, `SomeSource(SomeSource.Parameters(...))`, and its file imports
    heavy packages only when it draws.
    graded: whether grades are points of a continuum (True) or ordered categories (False).
    """

    name: ClassVar[str]
    Parameters: ClassVar[type[SourceParameters]]
    graded: ClassVar[bool]

    @property
    def attributes(self) -> tuple[str, ...]:
        """Names of the attributes that this source can show."""
        ...

    @property
    def factor_names(self) -> tuple[str, ...]:
        """Names of the F factors that images are drawn from, attributes among them; empty when nobody knows them."""
        ...

    def sample(self, num: int, seed: int) -> np.ndarray:
        """Factors float32 [num, F] in [0, 1] with the dependences that `draw` draws them with: their population.

        True relations are those of a large sample.
        """
        ...

    def draw(self, num: int | None, size: int, seed: int, independent: bool = False) -> ImageSet:
        """`num` images of `size` x `size` pixels, the same for the same seed; None: all that there are.

        independent: draw the attributes without their dependences (sources that know their factors only).
        """
        ...


SOURCES: dict[str, str] = {
    "faces": "graphdrl.images.sources.faces:FacesSource",
    "avatars": "graphdrl.images.sources.avatars:AvatarsSource",
    "folder": "graphdrl.images.sources.folder:FolderSource",
    "photographs": "graphdrl.images.sources.photographs:PhotographsSource",
    "sprites": "graphdrl.images.sources.sprites:SpritesSource",
    "solids": "graphdrl.images.sources.solids:SolidsSource",
    "mpi3d": "graphdrl.images.sources.mpi3d:Mpi3dSource",
}
"""Name of a source -> module:class; a new source is one file and one line here."""


class UnknownFactors:
    """Part of a source whose images were not drawn from factors: there are none to name or to sample."""

    factor_names: ClassVar[tuple[str, ...]] = ()

    def sample(self, num: int, seed: int) -> np.ndarray:
        """Nothing, float32 [num, 0]."""
        return np.empty((num, 0), np.float32)


def source_class(name: str) -> type[Any]:
    """The class of the source called `name`, imported on demand; ValueError names the nearest match."""
    if name not in SOURCES:
        near = get_close_matches(name, SOURCES, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"no source of images is called {name!r}{hint} (there are: {', '.join(SOURCES)})")
    module, _, cls = SOURCES[name].partition(":")
    return getattr(import_module(module), cls)


def load_source(name: str, **parameters: Any) -> Source:
    """A source by name, with its own parameters (checked by its `Parameters` class)."""
    cls = source_class(name)
    return cls(cls.Parameters(**parameters))
