"""Grids of factors, of which every combination is one image, and draws from them in which factors are correlated.

Correlation as in Traeuble et al. (2021, "On Disentangled Representations Learned from Correlated Data") and Roth et
al. (2023, HFS): with factors scaled to [0, 1], a pair's weight is exp(-(c1 - c2)^2 / (2 sigma^2)), and the weights of
several pairs are multiplied.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal

import numpy as np

Kind = Literal["none", "single", "double", "confounder"]
"""none: independent; single: one pair; double: two pairs; confounder: one factor with each of the others."""

SIGMA: Mapping[str, float] = {"single": 0.1, "double": 0.1, "confounder": 0.2}
"""Width of a pair's weight in HFS's benchmark; smaller is stronger."""

_NUM_NAMED = {"none": 0, "single": 2, "double": 4, "confounder": 1}

Pair = tuple[str, str]


@dataclass(frozen=True)
class Grid:
    """The full product of F factors.

    sizes: levels of each factor, in the order in which images are numbered: the last factor changes fastest.
    """

    sizes: Mapping[str, int]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the factors."""
        return tuple(self.sizes)

    @property
    def shape(self) -> tuple[int, ...]:
        """Levels of each factor."""
        return tuple(self.sizes.values())

    @property
    def num(self) -> int:
        """Number of images."""
        return math.prod(self.shape)

    def levels(self, rows: np.ndarray) -> np.ndarray:
        """Levels int64 [N, F], counted from 0, of the images numbered `rows` [N]."""
        return np.stack(np.unravel_index(rows, self.shape), axis=1)

    def values(self, rows: np.ndarray) -> np.ndarray:
        """Factors float32 [N, F] of the images numbered `rows` [N]: levels scaled to [0, 1]."""
        highest = np.maximum(np.array(self.shape) - 1, 1)
        return (self.levels(rows) / highest).astype(np.float32)

    def weights(self, pairs: Sequence[Pair], sigma: float) -> np.ndarray:
        """How much likelier each image is than in a uniform draw, up to a constant: float64 [num]."""
        weights = np.ones(self.shape)
        for pair in pairs:
            first, second = (self._along(name) for name in pair)
            weights *= np.exp(-((first - second) ** 2) / (2 * sigma**2))
        return weights.ravel()

    def draw(self, num: int, seed: int, weights: np.ndarray | None = None) -> np.ndarray:
        """Numbers of `num` images int64, drawn with replacement by `weights` [num], None: all alike.

        The first of them do not depend on `num`.
        """
        rng = np.random.default_rng(seed)
        if weights is None:
            return rng.integers(self.num, size=num)
        return rng.choice(self.num, num, p=weights / weights.sum())

    def pairs(self, kind: Kind, named: Sequence[str]) -> tuple[Pair, ...]:
        """The pairs that are correlated.

        named: of `single` and `double` each pair in turn, of `confounder` the one factor.
        Raises ValueError for an unknown factor, one that is named twice, or another number of them.
        """
        for name in named:
            if name not in self.sizes:
                near = get_close_matches(name, self.names, n=1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise ValueError(f"these images have no factor {name!r}{hint} (there are: {', '.join(self.names)})")
            if named.count(name) > 1:
                raise ValueError(f"the correlated factors must be distinct, and {name!r} is named twice")
        if len(named) != _NUM_NAMED[kind]:
            raise ValueError(
                f"correlation: {kind} is of {_NUM_NAMED[kind]} named factors, not of {len(named)}: single and double "
                "name the two of each pair, confounder one, none nothing"
            )
        if kind == "confounder":
            return tuple((named[0], other) for other in self.names if other != named[0])
        return tuple(zip(named[::2], named[1::2], strict=True))

    def _along(self, name: str) -> np.ndarray:
        """Values of one factor, along its own axis of the grid."""
        axis = self.names.index(name)
        return np.linspace(0, 1, self.shape[axis]).reshape([-1 if k == axis else 1 for k in range(len(self.shape))])
