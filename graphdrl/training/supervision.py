"""Draws the scored images that supervise a step: by the version's decorrelating weights, the same for any ranks."""

from dataclasses import dataclass

import numpy as np
import torch

from graphdrl.methods.losses import pair_scale
from graphdrl.relations.edges import RelationsVersion


@dataclass(frozen=True)
class Supervision:
    """The scored images of one relations version, found again in the data set.

    rows: int64 [N], where each scored image lies in the data set.
    grades: float32 [N, K], expected grades 0..5.
    probability: float64 [N], with which an image is drawn.
    pair_scale: float32 [K], 1 / share of untied pairs: a constant of the version, so that the losses of groups
        average exactly, however the groups lie on the ranks.
    """

    rows: np.ndarray
    grades: np.ndarray
    probability: np.ndarray
    pair_scale: np.ndarray

    @classmethod
    def of(cls, version: RelationsVersion, row_of: dict[str, int], tie_margin: float) -> "Supervision":
        """Raises ValueError when none of the version's images is in the data set."""
        known = [index for index, image in enumerate(version.scores.image_ids) if image in row_of]
        if not known:
            raise ValueError(
                f"none of the {len(version.scores)} scored images of relations version {version.version} is in "
                "this data set; train on the data that was scored, or score this data"
            )
        probability = np.asarray(version.sample_weights, np.float64)[known]
        probability = probability / probability.sum()
        grades = version.scores.expected[known]
        return cls(
            rows=np.asarray([row_of[version.scores.image_ids[index]] for index in known]),
            grades=grades,
            probability=probability,
            pair_scale=pair_scale(torch.from_numpy(grades), torch.from_numpy(probability), tie_margin).numpy(),
        )

    def draw(self, seed: int, step: int, num: int) -> np.ndarray:
        """Indices int64 [num] into the scored images, a function of (seed, step) alone."""
        generator = np.random.default_rng((seed, step, 1))
        return generator.choice(len(self.rows), size=num, p=self.probability)
