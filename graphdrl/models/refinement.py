"""The paper's graph learner: mixing along an adjacency that is refined by structure bootstrapping and contrast.

Xie et al. 2024 refine A as SUBLIME does (Liu et al. 2022, Towards Unsupervised Deep Graph Structure Learning): a
learned graph and an anchor are two views of the same nodes whose embeddings are to agree; the anchor, at first the
observed relations, slowly follows the learned graph. K nodes.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from graphdrl.models.convolution import normalised

_ANCHOR_KEEPS = 0.999
"""Share of the anchor that stays at a step; SUBLIME's .9999 is for ten times as many steps."""
_TEMPERATURE = 0.2
_DROPPED = 0.2
"""Share of features and of edges that a view lacks."""


class RefinedMixing(nn.Module):
    """z_rel = (I + A)^T z with A the observed relations plus a learned change, in [-1, 1] and without loops."""

    anchor: Tensor

    def __init__(self, num_nodes: int, features: int = 16, hidden: int = 16) -> None:
        super().__init__()
        self.change = nn.Parameter(torch.zeros(num_nodes, num_nodes))
        self.register_buffer("anchor", torch.zeros(num_nodes, num_nodes))
        self.features = nn.Parameter(torch.randn(num_nodes, features))
        self.first = nn.Linear(features, hidden)
        self.second = nn.Linear(hidden, hidden)
        self.projection = nn.Sequential(nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, hidden))

    @torch.no_grad()
    def restart(self, adjacency: Float[Tensor, "K K"]) -> None:
        """New relations were observed: the anchor is those."""
        self.anchor.copy_(adjacency)

    def refined(self, adjacency: Float[Tensor, "K K"]) -> Float[Tensor, "K K"]:
        """The learned graph over the observed one."""
        loops = torch.eye(len(adjacency), device=adjacency.device, dtype=torch.bool)
        return (adjacency + torch.tanh(self.change)).clamp(-1, 1).masked_fill(loops, 0.0)

    def forward(self, values: Float[Tensor, "B K"], adjacency: Float[Tensor, "K K"]) -> Float[Tensor, "B K"]:
        return values @ self.refined(adjacency)

    def contrast(self, adjacency: Float[Tensor, "K K"], noise: Float[Tensor, "D Z"]) -> Tensor:
        """How much better a node knows itself in the other view than it knows the others; moves the anchor.

        The symmetric InfoNCE of SUBLIME (section 4.2), in nats. noise: standard normal; it decides what a view lacks.
        """
        learned = self.refined(adjacency)
        kept = _kept(noise, 2 * (self.features.numel() + learned.numel()))
        here, there = kept.chunk(2)
        one = self._embed(self.anchor, here)
        other = self._embed(learned, there)
        similarity = normalize(one, dim=1) @ normalize(other, dim=1).T / _TEMPERATURE
        nodes = torch.arange(len(similarity), device=similarity.device)
        with torch.no_grad():
            self.anchor.lerp_(learned, 1 - _ANCHOR_KEEPS)
        return 0.5 * (cross_entropy(similarity, nodes) + cross_entropy(similarity.T, nodes))

    def _embed(self, adjacency: Float[Tensor, "K K"], kept: Tensor) -> Float[Tensor, "K H"]:
        of_features = kept[: self.features.numel()].view_as(self.features)
        incoming = normalised(adjacency * kept[self.features.numel() :].view_as(adjacency)).T
        hidden = torch.relu(self.first(incoming @ (self.features * of_features)))
        return self.projection(self.second(incoming @ hidden))


def _kept(noise: Tensor, num: int) -> Tensor:
    """1 for what stays and 0 for what is dropped, [num], a function of the step's noise."""
    draws = noise.flatten()
    draws = draws.repeat(-(-num // len(draws)))[:num]
    return (torch.special.ndtr(draws) > _DROPPED).to(noise.dtype)
