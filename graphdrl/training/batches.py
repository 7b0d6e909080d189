"""Assembles what a step needs, as a function of (seed, step) alone: any number of ranks sees the same global step."""

from dataclasses import dataclass

import numpy as np
import torch

from graphdrl.images import Loader, to_float
from graphdrl.methods import Batch
from graphdrl.training.supervision import Supervision


@dataclass(frozen=True)
class StepShape:
    """Sizes of one global step; every count is divided among the ranks.

    batch_size: plain images; pair_groups x group_size: scored images, paired inside a group only.
    """

    batch_size: int
    pair_groups: int
    group_size: int

    def check(self, world_size: int) -> None:
        """Raises ValueError when the ranks cannot share a step equally."""
        for name, count in (("batch_size", self.batch_size), ("pair_groups", self.pair_groups)):
            if count % world_size:
                raise ValueError(
                    f"training.{name}={count} cannot be divided among {world_size} workers; "
                    f"take a multiple of {world_size}"
                )


class Batches:
    """One rank's share of every step; images: uint8 [N, S, S, 3], all of the data set."""

    def __init__(
        self,
        images: np.ndarray,
        loader: Loader,
        shape: StepShape,
        *,
        num_latents: int,
        num_attributes: int,
        seed: int,
        rank: int,
        world_size: int,
        device: torch.device,
    ) -> None:
        shape.check(world_size)
        self._images, self._loader, self._shape = images, loader, shape
        self._num_latents, self._num_attributes = num_latents, num_attributes
        self._seed, self._rank, self._world_size, self._device = seed, rank, world_size, device

    def at(self, step: int, progress: float, supervision: Supervision | None) -> Batch:
        """The batch of this rank at `step`; without supervision it holds no scored images."""
        num_scored = self._shape.pair_groups * self._shape.group_size if supervision else 0
        noise = self._noise(step, num_scored)
        if supervision:
            drawn = self._share(torch.from_numpy(supervision.draw(self._seed, step, num_scored))).numpy()
            scored = self._images[supervision.rows[drawn]]
            grades = torch.from_numpy(supervision.grades[drawn])
            pair_scale = torch.from_numpy(supervision.pair_scale)
        else:
            scored = self._images[:0]
            grades = torch.zeros(0, self._num_attributes)
            pair_scale = torch.ones(self._num_attributes)
        return Batch(
            plain=to_float(self._loader.batch(step).images, self._device),
            scored=to_float(scored, self._device),
            scored_grades=grades.to(self._device),
            pair_scale=pair_scale.to(self._device),
            noise_plain=noise[0].to(self._device),
            noise_scored=noise[1].to(self._device),
            prior=noise[2].to(self._device),
            progress=progress,
            group_size=self._shape.group_size,
        )

    @property
    def sample_images(self) -> np.ndarray:
        """The data set's first images, uint8 [<= 2,000, S, S, 3], enough to measure the codes' spread."""
        return self._images[:2_000]

    def _noise(self, step: int, num_scored: int) -> tuple[torch.Tensor, ...]:
        generator = torch.Generator().manual_seed(self._seed * 1_000_003 + step)
        sizes = (self._shape.batch_size, num_scored, self._shape.batch_size)
        return tuple(self._share(torch.randn(size, self._num_latents, generator=generator)) for size in sizes)

    def _share(self, globally: torch.Tensor) -> torch.Tensor:
        return globally.chunk(self._world_size)[self._rank] if len(globally) else globally
