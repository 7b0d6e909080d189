"""Asks an oracle how exclusively a model's nodes move its attributes; `graphdrl.metrics` makes figures of the answers.

It costs num_latents x 2 x B x K grades, of which those that the store knows are free: 4 images for a comparison while
models train, 16 for a figure to be kept.
"""

import numpy as np
import torch

from graphdrl.images import to_uint8
from graphdrl.metrics.oracle_disentanglement import moves, oracle_disentanglement
from graphdrl.models import GEM
from graphdrl.oracle.protocol import Oracle
from graphdrl.training.naming import graded_along

ENDS = (-2.0, 2.0)
"""Where a node is put, in standard deviations of the aggregate code."""


def measure_oracle_disentanglement(
    model: GEM, oracle: Oracle, images: np.ndarray, attributes: tuple[str, ...], *, client: str = ""
) -> dict[str, float]:
    """Traverse every latent dimension from B images uint8 [B, S, S, 3] and let the oracle grade K attributes.

    Returns the figures of `graphdrl.metrics.oracle_disentanglement`. Waits for the answers; a busy oracle is asked
    again. The model must be calibrated (`model.calibrate`): until then it is moved in units of the prior.
    Raises OracleError when the oracle fails, ValueError for fewer than two attributes.
    """
    if len(attributes) < 2:
        raise ValueError(
            f"oracle disentanglement compares attributes and there are {len(attributes)}: name two at least"
        )
    strips = traversals(model, images)
    expected = graded_along(oracle, strips, attributes, client)
    return oracle_disentanglement(moves(expected), _owners(model, attributes))


@torch.no_grad()
def traversals(model: GEM, images: np.ndarray, values: tuple[float, ...] = ENDS) -> np.ndarray:
    """Every dimension of the images' codes put at V values: uint8 [Z, V, B, S, S, 3]."""
    codes = model.encode(images)
    strips = [model.traverse(codes, node, values).transpose(0, 1) for node in model.nodes]
    return np.stack([to_uint8(strip.flatten(0, 1)).reshape(len(values), *images.shape) for strip in strips])


def _owners(model: GEM, attributes: tuple[str, ...]) -> tuple[int, ...]:
    """The dimension that is named after each attribute, -1 for none; empty when no dimension has a name."""
    owners = tuple(model.nodes.index(name) if name in model.nodes else -1 for name in attributes)
    return owners if max(owners) >= 0 else ()
