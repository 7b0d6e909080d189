"""Batches of images held in memory or in a memory map: the same for the same seed, however many ranks share them."""

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from graphdrl.images.sources.base import ImageSet

if TYPE_CHECKING:  # whoever only reads images, as the oracle's front does, need not wait for torch
    import torch


@dataclass(frozen=True)
class Batch:
    """B images of one step: their rows in the image set, int64 [B], and their pixels, uint8 [B, S, S, 3]."""

    rows: np.ndarray
    images: np.ndarray


class Loader:
    """Deals out an image set, epoch after epoch, each in an order of its own.

    The global batch of a step depends on (seed, step) alone; rank r takes the r-th contiguous part of it. So a run can
    go on from any step, with any number of ranks, and see what it would have seen.
    """

    def __init__(
        self, image_set: ImageSet, batch_size: int, seed: int, rank: int = 0, world_size: int = 1, together: int = 1
    ) -> None:
        """batch_size: images of one step over all ranks. together: 2 keeps the image set's pairs side by side.

        Raises ValueError when a rank would get no image, or a part of a pair.
        """
        if not 0 <= rank < world_size:
            raise ValueError(f"rank {rank} is not one of {world_size} ranks")
        if batch_size < world_size:
            raise ValueError(f"a batch of {batch_size} images cannot be shared by {world_size} ranks: one each or more")
        if len(image_set) < together:
            raise ValueError("an empty image set has no batches")
        if together > 1 and batch_size % (world_size * together):
            raise ValueError(f"a batch of {batch_size} images is no whole number of pairs on {world_size} ranks")
        self._images = image_set.images
        self._batch_size = batch_size
        self._part = slice(rank * batch_size // world_size, (rank + 1) * batch_size // world_size)
        self._num_dealt = len(image_set) // together * together
        self._order = lru_cache(maxsize=2)(lambda epoch: _permutation(len(image_set), seed, epoch, together))

    def global_rows(self, step: int) -> np.ndarray:
        """Rows of the images of a step over all ranks, int64 [batch_size]; an epoch's end may lie within."""
        places = np.arange(step * self._batch_size, (step + 1) * self._batch_size)
        epochs, places = np.divmod(places, self._num_dealt)
        return np.concatenate([self._order(int(epoch))[places[epochs == epoch]] for epoch in np.unique(epochs)])

    def rows(self, step: int) -> np.ndarray:
        """Rows of this rank's images of a step, int64 [B]."""
        return self.global_rows(step)[self._part]

    def batch(self, step: int) -> Batch:
        """This rank's images of a step."""
        rows = self.rows(step)
        return Batch(rows, self._images[rows])


def to_float(images: np.ndarray, device: "torch.device | str" = "cpu") -> "torch.Tensor":
    """Images uint8 [B, S, S, 3] as float32 [B, 3, S, S] in [0, 1], channels last in memory.

    They travel to the device as bytes.
    """
    import torch

    pixels = torch.from_numpy(images if images.flags.writeable else images.copy())
    return pixels.to(device, non_blocking=True).permute(0, 3, 1, 2).to(torch.float32).div_(255)


def to_uint8(images: "torch.Tensor") -> np.ndarray:
    """Images float [B, 3, S, S] in [0, 1] as uint8 [B, S, S, 3] in the memory of the host."""
    pixels = images.detach().float().clamp(0, 1).mul(255).round()
    return np.ascontiguousarray(pixels.byte().permute(0, 2, 3, 1).cpu().numpy())


def _permutation(num: int, seed: int, epoch: int, together: int) -> np.ndarray:
    groups = np.random.default_rng([seed, epoch]).permutation(num // together)
    return (groups[:, None] * together + np.arange(together)).ravel()
