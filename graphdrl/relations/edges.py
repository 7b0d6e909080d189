"""The relation graph as it travels: edges with intervals, and the numbered version that every rank trains on."""

from dataclasses import dataclass, field

import numpy as np

from graphdrl.oracle.questions import RelateAnswer, Scores
from graphdrl.relations.table import Evidence, Relation, rows


@dataclass(frozen=True)
class DoEdges:
    """Effects among K attributes; entry [i, j] is E[change of j's grade | do(node i one standard deviation up)].

    effects: float32 [K, K], in grades of 0..5. The diagonal is what a node does to its own attribute. NaN where no node
        shows i, or the oracle could not grade j.
    low, high: float32 [K, K], the 95 % interval over images.
    resolved: bool [K, K], intervals that keep clear of 0 after the false-discovery-rate control; never the diagonal.
    propagate: whether the moved node took its neighbours along, each by the weight of the edge that leads to it
        (True), or was moved alone (False: does an edit leave j alone?).
    deviations: how far up and down a node was moved, in standard deviations of the aggregate code.
    num_images: that were moved. oracle: whose grades; see `oracle.identity.model_key`.
    """

    attributes: tuple[str, ...]
    effects: np.ndarray
    low: np.ndarray
    high: np.ndarray
    resolved: np.ndarray
    propagate: bool
    deviations: float
    num_images: int
    oracle: str = ""


@dataclass(frozen=True)
class Edges:
    """Weighted relations among K attributes; entry [i, j] is the edge i -> j, diagonals are 0.

    weights: float32 [K, K] in [-1, 1], of the chosen estimator.
    low, high: float32 [K, K], the 95 % interval of each weight.
    resolved: bool [K, K], edges whose interval keeps clear of 0 after the false-discovery-rate control.
    strength: float32 [K, K], symmetric (Kendall's tau-b).
    partial: float32 [K, K], predictive weight of i for j given all the other attributes; partial_low, partial_high,
        partial_resolved: the same of it as of the weights, None in relations that were kept without.
    do: what a model does when its nodes are moved, once it was asked; they belong to that model and to no other.
    beliefs: what a multimodal model thinks of the same attributes without looking, once it was asked.
    """

    attributes: tuple[str, ...]
    weights: np.ndarray
    low: np.ndarray
    high: np.ndarray
    resolved: np.ndarray
    strength: np.ndarray
    partial: np.ndarray
    estimator: str
    num_scored: int
    partial_low: np.ndarray | None = None
    partial_high: np.ndarray | None = None
    partial_resolved: np.ndarray | None = None
    do: tuple[DoEdges, ...] = ()
    beliefs: RelateAnswer | None = None

    def table(self) -> list[Relation]:
        """All that is known of every pair of attributes, in both directions, a row for each source."""
        kinds = [
            Evidence("data", self.estimator, self.weights, self.low, self.high, self.resolved),
            Evidence("partial", "partial", self.partial, self.partial_low, self.partial_high, self.partial_resolved),
        ]
        if self.beliefs is not None:
            kinds.append(Evidence("belief", self.beliefs.model, self.beliefs.weights))
        for one in self.do:
            measure = "propagated" if one.propagate else "alone"
            kinds.append(Evidence("do", measure, one.effects, one.low, one.high, one.resolved))
        return list(rows(self.attributes, kinds))

    def adjacency(self) -> np.ndarray:
        """Weights of the resolved edges, 0 elsewhere: what the graph in the model is made of."""
        return np.where(self.resolved, self.weights, 0.0).astype(np.float32)


@dataclass(frozen=True)
class NodeMap:
    """Which latent dimension shows which attribute, and with which sign; dimension -1: no node shows it."""

    dimensions: tuple[int, ...]
    signs: tuple[int, ...]

    @classmethod
    def ranked(cls, num_attributes: int) -> "NodeMap":
        """The first K latent dimensions are the K attributes, as rank supervision makes them."""
        return cls(tuple(range(num_attributes)), (1,) * num_attributes)

    @classmethod
    def unnamed(cls, num_attributes: int) -> "NodeMap":
        """No attribute has a node yet, as before discovered nodes are named."""
        return cls((-1,) * num_attributes, (1,) * num_attributes)


@dataclass(frozen=True)
class RelationsVersion:
    """All that a rank needs for its supervision, put once into the object store.

    version: 1, 2, 3 ...; key: data, attributes, model, prompt and estimator, so that runs on other data never mix.
    sample_weights: float32 [N], sums to 1: how often each scored image is drawn for supervision (decorrelating).
    effective_sample_size: 1 / sum of squared sample weights.
    notes: what a reader must know, such as that Sigma had to be shrunk.
    """

    version: int
    key: str
    edges: Edges
    scores: Scores
    sample_weights: np.ndarray
    node_map: NodeMap
    effective_sample_size: float
    notes: tuple[str, ...] = field(default=())
