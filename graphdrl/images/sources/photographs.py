"""Real photographs that scikit-image and scikit-learn carry, cut into patches: nothing is downloaded."""

from functools import cache
from importlib import resources
from typing import ClassVar

import numpy as np
from PIL import Image

from graphdrl.images.checks import read_image
from graphdrl.images.ids import image_id
from graphdrl.images.sources.base import ImageSet, SourceParameters, UnknownFactors

PHOTOGRAPHS = (
    ("skimage.data", "astronaut.png"),
    ("skimage.data", "chelsea.png"),
    ("skimage.data", "coffee.png"),
    ("skimage.data", "motorcycle_left.png"),
    ("skimage.data", "rocket.jpg"),
    ("sklearn.datasets.images", "china.jpg"),
    ("sklearn.datasets.images", "flower.jpg"),
)
"""(package, file) of each photograph."""

_SMALLEST_SHARE = 0.15  # of a photograph's shorter side; the largest patch is the whole side
_FLAT = 15.0  # standard deviation of the pixels below which a patch shows nothing
_TRIES = 20


class PhotographsParameters(SourceParameters):
    """Nothing to set."""


class PhotographsSource(UnknownFactors):
    """Square patches at random places and scales, half of them mirrored."""

    name: ClassVar[str] = "photographs"
    Parameters: ClassVar[type[SourceParameters]] = PhotographsParameters
    graded: ClassVar[bool] = False

    def __init__(self, parameters: PhotographsParameters) -> None:
        self._photographs = _photographs

    @property
    def attributes(self) -> tuple[str, ...]:
        """None: what the patches show has no names."""
        return ()

    def draw(self, num: int | None, size: int, seed: int, independent: bool = False) -> ImageSet:
        """`num` distinct patches of `size` x `size` pixels.

        Raises ValueError when `num` is None or attributes are to be independent, ImportError when the extra is missing.
        """
        if num is None or independent:
            raise ValueError("patches of photographs can be cut without end and have no attributes: say how many")
        rng = np.random.default_rng(seed)
        photographs = _photographs()
        patches: dict[str, np.ndarray] = {}
        for _ in range(num * _TRIES):
            if len(patches) == num:
                break
            patch = _patch(photographs[rng.integers(len(photographs))], size, rng)
            if patch.std() > _FLAT:
                patches.setdefault(image_id(patch), patch)
        if len(patches) < num:
            raise ValueError(f"the photographs gave {len(patches)} distinct patches of {size} pixels, not {num}")
        return ImageSet(np.stack(list(patches.values())), tuple(patches))


@cache
def _photographs() -> tuple[Image.Image, ...]:
    try:
        folders = {package: resources.files(package) for package, _ in PHOTOGRAPHS}
    except ImportError as error:
        raise ImportError("the photographs come with scikit-image: pip install graphdrl[photographs]") from error
    opened = []
    for package, file in PHOTOGRAPHS:
        with resources.as_file(folders[package] / file) as path:
            opened.append(Image.fromarray(read_image(path, size=None)))
    return tuple(opened)


def _patch(photograph: Image.Image, size: int, rng: np.random.Generator) -> np.ndarray:
    """One patch uint8 [size, size, 3]; small scales are as likely as large ones."""
    shortest = min(photograph.size)
    smallest = min(max(_SMALLEST_SHARE * shortest, size), shortest)
    side = smallest * (shortest / smallest) ** rng.random()
    left, top = (photograph.width - side) * rng.random(), (photograph.height - side) * rng.random()
    box = (left, top, min(left + side, photograph.width), min(top + side, photograph.height))
    patch = np.asarray(photograph.resize((size, size), Image.Resampling.LANCZOS, box=box, reducing_gap=3.0))
    return patch[:, ::-1] if rng.random() < 0.5 else patch
