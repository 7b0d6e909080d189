"""The built-in faces as a source: drawn by us, graded, with true relations."""

from typing import ClassVar

import numpy as np
from pydantic import Field

from graphdrl.images.faces import ATTRIBUTES, NETWORK, render
from graphdrl.images.ids import image_ids
from graphdrl.images.sources.base import ImageSet, SourceParameters


class FacesParameters(SourceParameters):
    """presence: probability of showing of each attribute that can be absent, in independent draws; None: its own.

    pairs: images 2i and 2i + 1 differ in one factor, for methods that learn from pairs.
    """

    presence: float | None = Field(default=None, gt=0, le=1)
    pairs: bool = False


class FacesSource:
    """Faces drawn from `graphdrl.images.faces.NETWORK`."""

    name: ClassVar[str] = "faces"
    Parameters: ClassVar[type[SourceParameters]] = FacesParameters
    graded: ClassVar[bool] = True

    def __init__(self, parameters: FacesParameters) -> None:
        self._presence, self._pairs = parameters.presence, parameters.pairs

    @property
    def attributes(self) -> tuple[str, ...]:
        """The ten graded attributes."""
        return ATTRIBUTES

    @property
    def factor_names(self) -> tuple[str, ...]:
        """The attributes, then the nuisances."""
        return NETWORK.nodes

    def sample(self, num: int, seed: int) -> np.ndarray:
        """Factors float32 [num, F] from `NETWORK`."""
        return NETWORK.sample(num, seed)

    def draw(self, num: int | None, size: int, seed: int, independent: bool = False) -> ImageSet:
        """`num` faces of `size` x `size` pixels; they can be drawn without end, so `num` must be given."""
        if num is None:
            raise ValueError("faces are drawn without end: say how many")
        if independent:
            factors = NETWORK.sample_independent(num, seed, self._presence)
        else:
            factors = NETWORK.sample_pairs(num, seed) if self._pairs else self.sample(num, seed)
        images = render(factors, size)
        return ImageSet(
            images,
            image_ids(images),
            attributes=ATTRIBUTES,
            grades=factors[:, : len(ATTRIBUTES)],
            factors=factors,
            factor_names=NETWORK.nodes,
            relations=NETWORK.edges,
        )
