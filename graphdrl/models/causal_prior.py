"""The prior of DEAR (Shen et al. 2022): codes that hang together as a given directed acyclic graph says."""

from collections.abc import Sequence
from graphlib import CycleError, TopologicalSorter

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import softplus

_UNIT = 0.5413
"""softplus of it is 1."""


class CausalPrior(nn.Module):
    """z = f((I - A^T)^-1 h(eps)): standard normal draws [B, Z] to codes [B, Z] (equation 3 of the paper).

    A has a weight for every given edge, between dimensions; h scales and f bends every dimension by itself, f with a
    slope of its own on each side of 0. All of it is learned.

    Raises ValueError when the edges have a cycle.
    """

    mask: Tensor

    def __init__(self, num_latents: int, edges: Sequence[tuple[int, int]]) -> None:
        super().__init__()
        _check_acyclic(edges)
        mask = torch.zeros(num_latents, num_latents)
        for cause, effect in edges:
            mask[cause, effect] = 1.0
        self.register_buffer("mask", mask)
        self.weights = nn.Parameter(torch.zeros(num_latents, num_latents))
        self.scale = nn.Parameter(torch.full((num_latents,), _UNIT))
        self.slopes = nn.Parameter(torch.full((2, num_latents), _UNIT))
        self.shift = nn.Parameter(torch.zeros(num_latents))

    def forward(self, draws: Float[Tensor, "B Z"]) -> Float[Tensor, "B Z"]:
        own = draws * softplus(self.scale)
        left = torch.eye(len(self.mask), device=draws.device, dtype=draws.dtype) - self.weights * self.mask
        linear = torch.linalg.solve(left, own, left=False)
        above, below = softplus(self.slopes)
        return above * linear.clamp(min=0) + below * linear.clamp(max=0) + self.shift


def _check_acyclic(edges: Sequence[tuple[int, int]]) -> None:
    order: TopologicalSorter[int] = TopologicalSorter()
    for cause, effect in edges:
        order.add(effect, cause)
    try:
        order.prepare()
    except CycleError as error:
        raise ValueError(f"the graph of a causal prior has no cycles, but {error.args[1]} is one") from None
