"""Graph convolutions (Kipf and Welling 2017) over signed and directed edges."""

import torch
from jaxtyping import Float
from torch import Tensor, nn


def normalised(adjacency: Float[Tensor, "K K"]) -> Float[Tensor, "K K"]:
    """A + I divided by the square roots of its degrees, row by row and column by column (Kipf and Welling 2017).

    Weights are signed and edges directed, so the degrees are those of |A| + I, out of the row and into the column.
    """
    loops = adjacency + torch.eye(len(adjacency), device=adjacency.device, dtype=adjacency.dtype)
    out_degree, in_degree = loops.abs().sum(1), loops.abs().sum(0)
    return loops / (out_degree[:, None] * in_degree[None, :]).sqrt()


class ResidualGCN(nn.Module):
    """What the neighbours add to a node: two graph convolutions over values [B, K], the last layer starting at zero.

    A node's features are its value times a learned vector of its own, so that nodes can differ in what they pass on;
    all other weights are shared, hence permuting nodes, vectors and adjacency permutes the result.
    """

    def __init__(self, num_nodes: int, embedding: int = 8, hidden: int = 16) -> None:
        super().__init__()
        self.embeddings = nn.Parameter(torch.randn(num_nodes, embedding))
        self.first = nn.Linear(embedding, hidden)
        self.second = nn.Linear(hidden, hidden)
        self.out = nn.Linear(hidden, 1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, values: Float[Tensor, "B K"], adjacency: Float[Tensor, "K K"]) -> Float[Tensor, "B K"]:
        incoming = normalised(adjacency).T  # node j hears i with the weight of the edge i -> j
        features = values[..., None] * self.embeddings
        features = torch.relu(self.first(incoming @ features))
        features = torch.relu(self.second(incoming @ features))
        return self.out(features).squeeze(-1)
