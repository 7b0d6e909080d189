"""Discovered nodes without a further question: a dimension is named after the attribute whose scores its code follows.

For runs whose scores are all there before they begin; the oracle's own look at traversals is `training.naming`.
"""

import numpy as np
import torch
from scipy.stats import spearmanr

from graphdrl.images import to_float
from graphdrl.models.naming import match
from graphdrl.training.engine import Engine
from graphdrl.training.relations_source import RelationsSource


class NamerByScores:
    """Names the dimensions at the given steps, by Spearman's rho of codes and grades over the scored images.

    images: uint8 [N, S, S, 3]; row_of: where each image lies among them; least: the smallest |rho| that makes a name.
    """

    def __init__(
        self,
        images: np.ndarray,
        row_of: dict[str, int],
        *,
        at_steps: frozenset[int],
        device: torch.device,
        least: float,
    ) -> None:
        self._images, self._row_of, self._at_steps, self._device = images, row_of, at_steps, device
        self._least = least

    def after_step(self, step: int, generator: Engine, relations: RelationsSource) -> None:
        """Name the nodes when their step has come; the version that follows carries the map."""
        if step not in self._at_steps or not relations.latest():
            return
        scores = relations.get(relations.latest()).scores
        rows = [self._row_of[image] for image in scores.image_ids]
        with generator.gathered() as model:
            codes = model.encode(to_float(self._images[rows], self._device)).cpu().numpy()
        num_latents = codes.shape[1]
        rho = spearmanr(codes, scores.expected).statistic[:num_latents, num_latents:]
        relations.set_node_map(match(np.nan_to_num(rho), self._least))
