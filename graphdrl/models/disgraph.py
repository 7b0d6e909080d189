"""DisGraph: the relation graph inside the model, and the graph learners that stand between codes and decoder."""

from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from graphdrl.models.convolution import ResidualGCN
from graphdrl.models.refinement import RefinedMixing
from graphdrl.relations.edges import NodeMap

GraphLearner = Literal["gcn", "mixing", "refined", "none"]


class Mixing(nn.Module):
    """The paper's form, z_rel = (I + A)^T z: a node takes its neighbours' values with the weight of the edge."""

    def forward(self, values: Float[Tensor, "B K"], adjacency: Float[Tensor, "K K"]) -> Float[Tensor, "B K"]:
        return values @ adjacency


class DisGraph(nn.Module):
    """G = (A, E, S): attributes are nodes, relations are edges, their weights the adjacency.

    Node k is latent dimension `dimensions[k]` with the sign `signs[k]`; a sign of 0 says that no dimension shows the
    attribute. The graph learner reads the named codes and its output is added to them; unnamed codes pass through.
    """

    adjacency: Tensor
    dimensions: Tensor
    signs: Tensor

    def __init__(self, num_attributes: int, graph_learner: GraphLearner, node_map: NodeMap) -> None:
        super().__init__()
        self.register_buffer("adjacency", torch.zeros(num_attributes, num_attributes))
        self.register_buffer("dimensions", torch.zeros(num_attributes, dtype=torch.int64))
        self.register_buffer("signs", torch.zeros(num_attributes))
        self.learner = _build_learner(graph_learner, num_attributes)
        self.set_nodes(node_map)

    @torch.no_grad()
    def set_adjacency(self, weights: np.ndarray) -> None:
        """Take new edge weights [K, K] in [-1, 1], in place and between two steps; raises ValueError on others."""
        weights = np.array(weights, dtype=np.float32)
        if weights.shape != tuple(self.adjacency.shape):
            raise ValueError(f"the graph has {len(self.adjacency)} nodes, but the weights are {list(weights.shape)}")
        if not (np.abs(weights) <= 1).all():
            raise ValueError("edge weights must lie in [-1, 1]")
        self.adjacency.copy_(torch.from_numpy(weights))
        if isinstance(self.learner, RefinedMixing):
            self.learner.restart(self.adjacency)

    @torch.no_grad()
    def set_nodes(self, node_map: NodeMap) -> None:
        """Say which latent dimension shows which attribute, in place; raises ValueError on a map that does not fit."""
        if not len(node_map.dimensions) == len(node_map.signs) == len(self.dimensions):
            raise ValueError(
                f"the graph has {len(self.dimensions)} nodes, but the map names {len(node_map.dimensions)}"
            )
        shown = [dimension for dimension in node_map.dimensions if dimension >= 0]
        if len(set(shown)) != len(shown):
            raise ValueError(f"a latent dimension can show one attribute only: {list(node_map.dimensions)}")
        dimensions = torch.tensor(node_map.dimensions, dtype=torch.int64)
        signs = torch.tensor(node_map.signs, dtype=self.signs.dtype)
        self.dimensions.copy_(dimensions.clamp(min=0))
        self.signs.copy_(torch.where(dimensions < 0, torch.zeros_like(signs), signs))

    @property
    def node_map(self) -> NodeMap:
        """The map as it stands; dimension -1: no dimension shows the attribute."""
        signs = [int(sign) for sign in self.signs.tolist()]
        dimensions = [dim if sign else -1 for dim, sign in zip(self.dimensions.tolist(), signs, strict=True)]
        return NodeMap(tuple(dimensions), tuple(sign or 1 for sign in signs))

    @property
    def refined(self) -> Float[Tensor, "K K"]:
        """The adjacency that the learner mixes along: its own where it refines, else the observed one."""
        return self.learner.refined(self.adjacency) if isinstance(self.learner, RefinedMixing) else self.adjacency

    def contrast(self, noise: Float[Tensor, "D Z"]) -> Tensor:
        """What refining the graph costs (see `RefinedMixing.contrast`); 0 for the other learners."""
        if isinstance(self.learner, RefinedMixing):
            return self.learner.contrast(self.adjacency, noise)
        return noise.new_zeros(())

    def named(self, codes: Float[Tensor, "B Z"]) -> Float[Tensor, "B K"]:
        """The values of the nodes: named codes with their sign, 0 where no dimension shows the attribute."""
        return codes[:, self.dimensions] * self.signs

    def moved(self, codes: Float[Tensor, "B Z"], change: Float[Tensor, "B K"]) -> Float[Tensor, "B Z"]:
        """The codes after their nodes changed by `change`."""
        return codes.index_add(1, self.dimensions, change * self.signs)

    def forward(self, codes: Float[Tensor, "B Z"]) -> Float[Tensor, "B Z"]:
        if self.learner is None:
            return codes
        return self.moved(codes, self.learner(self.named(codes), self.adjacency))


def _build_learner(name: GraphLearner, num_nodes: int) -> nn.Module | None:
    if name == "none" or num_nodes == 0:
        return None
    if name == "mixing":
        return Mixing()
    return ResidualGCN(num_nodes) if name == "gcn" else RefinedMixing(num_nodes)
