"""GEM: encoder, DisGraph and decoder in one module, with what people do with it: encode, edit, traverse, sample."""

from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from graphdrl.images import to_uint8
from graphdrl.models import pretrained
from graphdrl.models.causal_prior import CausalPrior
from graphdrl.models.decoders import ConvDecoder
from graphdrl.models.disgraph import DisGraph, GraphLearner
from graphdrl.models.encoders import ConvEncoder, num_scales
from graphdrl.models.naming import LEAST_SLOPE, TRAVERSAL, match, slopes
from graphdrl.models.pairs import shared_in_pairs
from graphdrl.models.pixels import Pixels, as_images
from graphdrl.models.residual import ResidualDecoder, ResidualEncoder
from graphdrl.relations.edges import Edges, NodeMap
from graphdrl.relations.weights import latent_correlation

Architecture = Literal["conv", "residual"]

NETWORKS: dict[Architecture, tuple[type[ConvEncoder], type[ConvDecoder]]] = {
    "conv": (ConvEncoder, ConvDecoder),
    "residual": (ResidualEncoder, ResidualDecoder),
}

MAX_LOGVAR = 10.0
"""Bound on log sigma^2 on both sides, so that one bad step cannot overflow the exponential."""


class GEMConfig(BaseModel):
    """Everything that fixes a model's shape; written beside its weights.

    dimensions, signs: which latent dimension shows which attribute; None: the first K, or none without attributes.
    causes: (cause, effect) among the attributes, for a prior that hangs together as they say; none: N(0, I).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    image_size: int = Field(default=64, description="side of the square images, a power of two")
    num_latents: int = Field(default=24, ge=1, le=1024)
    attributes: tuple[str, ...] = Field(default=(), max_length=1024, description="names of the nodes")
    graph_learner: GraphLearner = "gcn"
    architecture: Architecture = "conv"
    base_channels: int = Field(default=32, ge=4, le=256, description="width of the outermost convolutions")
    dimensions: tuple[int, ...] | None = None
    signs: tuple[int, ...] | None = None
    causes: tuple[tuple[str, str], ...] = ()

    @model_validator(mode="after")
    def _check(self) -> "GEMConfig":
        num_scales(self.image_size)
        if len(set(self.attributes)) != len(self.attributes):
            raise ValueError(f"attributes must be distinct: {list(self.attributes)}")
        node_map = self.node_map
        if not len(node_map.dimensions) == len(node_map.signs) == len(self.attributes):
            raise ValueError("dimensions and signs must name one entry for every attribute")
        if any(not -1 <= dimension < self.num_latents for dimension in node_map.dimensions):
            raise ValueError(
                f"{len(self.attributes)} attributes do not fit into num_latents={self.num_latents}: "
                "each node needs a latent dimension of its own"
            )
        if any(sign not in (-1, 1) for sign in node_map.signs):
            raise ValueError(f"signs must be -1 or 1: {list(node_map.signs)}")
        unknown = sorted({name for edge in self.causes for name in edge} - set(self.attributes))
        if unknown:
            raise ValueError(f"causes name {unknown}, which are no attributes; there are: {', '.join(self.attributes)}")
        return self

    @property
    def node_map(self) -> NodeMap:
        """Which latent dimension shows which attribute."""
        ranked = NodeMap.ranked(len(self.attributes))
        dimensions = ranked.dimensions if self.dimensions is None else self.dimensions
        return NodeMap(dimensions, ranked.signs if self.signs is None else self.signs)


class Outputs(NamedTuple):
    """What one training pass gives: B images encoded, the first D of them decoded, P draws from the prior decoded.

    mu, logvar: [B, Z]; z: [D, Z], sampled; reconstruction: [D, 3, S, S]; prior: [P, Z], the codes of the draws;
    generated: [P, 3, S, S]. contrast: what refining the graph costs, 0 where it is not refined.
    """

    reconstruction: Tensor
    mu: Tensor
    logvar: Tensor
    z: Tensor
    prior: Tensor
    generated: Tensor
    contrast: Tensor


class GEM(nn.Module):
    """A variational autoencoder whose named codes are the nodes of a relation graph.

    mixed_precision: run encoder and decoder in bfloat16; codes, graph and losses stay in float32.
    relations: the edges that the graph was last set to, if any; `relations.table()` has a row for each pair and source.
    """

    code_mean: Tensor
    code_scale: Tensor

    def __init__(self, config: GEMConfig) -> None:
        super().__init__()
        self.config = config
        self.mixed_precision = False
        self.relations: Edges | None = None
        shape = (config.image_size, config.num_latents, config.base_channels)
        make_encoder, make_decoder = NETWORKS[config.architecture]
        self.encoder = make_encoder(*shape)
        self.disgraph = DisGraph(len(config.attributes), config.graph_learner, config.node_map)
        self.decoder = make_decoder(*shape)
        self.causal_prior = _causal_prior(config)
        self.register_buffer("code_mean", torch.zeros(config.num_latents))
        self.register_buffer("code_scale", torch.ones(config.num_latents))
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's stubs

    # Training -------------------------------------------------------------------------------------------------------

    def forward(
        self,
        images: Float[Tensor, "B 3 S S"],
        noise: Float[Tensor, "D Z"],
        prior: Float[Tensor, "P Z"],
        num_pairs: int = 0,
    ) -> Outputs:
        """One pass for a training step.

        noise: standard normal, one row for each image that is sampled and decoded, the first D; it makes the pass a
        function of weights and inputs. prior: standard normal draws for the critic, 0 rows when it does not play.
        num_pairs: so many pairs of images, the first ones, share what their posteriors seem to have in common.
        """
        mu, logvar = self._moments(images)
        if num_pairs:
            mu, logvar = shared_in_pairs(mu, logvar, num_pairs)
        decoded = len(noise)
        z = mu[:decoded] + torch.exp(0.5 * logvar[:decoded]) * noise
        if self.causal_prior is not None:
            prior = self.causal_prior(prior)
        reconstruction, generated = self._render(torch.cat([z, prior])).split([decoded, len(prior)])
        return Outputs(reconstruction, mu, logvar, z, prior, generated, self.disgraph.contrast(noise))

    def _moments(self, images: Tensor) -> tuple[Tensor, Tensor]:
        images = images.contiguous(memory_format=torch.channels_last)
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.mixed_precision):
            mu, logvar = self.encoder(images)
        return mu, logvar.clamp(-MAX_LOGVAR, MAX_LOGVAR)

    def _render(self, codes: Tensor) -> Tensor:
        related = self.disgraph(codes)
        with torch.autocast(codes.device.type, torch.bfloat16, enabled=self.mixed_precision):
            return self.decoder(related)

    def set_relations(self, edges: Edges, node_map: NodeMap) -> None:
        """Take new relations between two steps: the resolved edges become the adjacency, the map names the nodes.

        Raises ValueError when the edges are those of other attributes.
        """
        if edges.attributes != self.config.attributes:
            raise ValueError(f"edges among {list(edges.attributes)} do not fit nodes {list(self.config.attributes)}")
        self.disgraph.set_adjacency(edges.adjacency())
        self.disgraph.set_nodes(node_map)
        self.relations = edges

    @torch.no_grad()
    def calibrate(self, images: Pixels, batch_size: int = 256) -> None:
        """Measure mean and standard deviation of the aggregate code: the units of `edit`, `traverse` and `sample`."""
        pixels = as_images(images, self.config.image_size, self._device)
        moments = [self._moments(pixels[start : start + batch_size]) for start in range(0, len(pixels), batch_size)]
        mu = torch.cat([mean for mean, _ in moments])
        variance = torch.cat([logvar for _, logvar in moments]).exp().mean(0) + mu.var(0, correction=0)
        self.code_mean.copy_(mu.mean(0))
        self.code_scale.copy_(variance.sqrt())

    # Use ------------------------------------------------------------------------------------------------------------

    @property
    def nodes(self) -> tuple[str, ...]:
        """A name for every latent dimension: its attribute, or `factor_7`."""
        names = [f"factor_{dimension}" for dimension in range(self.config.num_latents)]
        for attribute, dimension in zip(self.config.attributes, self.disgraph.node_map.dimensions, strict=True):
            if dimension >= 0:
                names[dimension] = attribute
        return tuple(names)

    @torch.no_grad()
    def encode(self, images: Pixels) -> Float[Tensor, "B Z"]:
        """Mean codes of images: float [B, 3, S, S] in [0, 1] or uint8 [B, S, S, 3]."""
        return self._moments(as_images(images, self.config.image_size, self._device))[0]

    @torch.no_grad()
    def decode(self, codes: Float[Tensor, "B Z"]) -> Float[Tensor, "B 3 S S"]:
        """Images in [0, 1] of codes."""
        return self._render(codes.to(self._device))

    def reconstruct(self, images: Pixels) -> Float[Tensor, "B 3 S S"]:
        """Images in [0, 1] as the model sees them."""
        return self.decode(self.encode(images))

    def edit(self, images: Pixels, changes: Mapping[str, float], propagate: bool = False) -> Float[Tensor, "B 3 S S"]:
        """Images with some nodes moved, in standard deviations of the aggregate code: {"bald": 2}.

        propagate: a moved node takes its neighbours along, each by the weight of the edge that leads to it; nodes that
        `changes` names stay where it puts them.
        Raises ValueError for an unknown node, with the valid ones and the nearest.
        """
        shift = torch.zeros(self.config.num_latents, device=self._device)
        for node, deviations in changes.items():
            dimension, sign = self._locate(node)
            shift[dimension] = sign * deviations
        if propagate:
            named = self.disgraph.named(shift[None])
            asked = torch.tensor([name in changes for name in self.config.attributes], device=self._device)
            carried = (named @ self.disgraph.adjacency).masked_fill(asked, 0.0)
            shift = self.disgraph.moved(shift[None], carried)[0]
        return self.decode(self.encode(images) + shift * self.code_scale)

    def traverse(self, start: Pixels, node: str, values: Sequence[float]) -> Float[Tensor, "B V 3 S S"]:
        """Images with one node set to each of V values, in standard deviations from the aggregate code's mean.

        start: images, or codes [B, Z]. Raises ValueError for an unknown node.
        """
        codes = start.to(self._device) if isinstance(start, Tensor) and start.ndim == 2 else self.encode(start)
        dimension, sign = self._locate(node)
        return self._along(codes, dimension, [sign * value for value in values])

    def _along(self, codes: Tensor, dimension: int, values: Sequence[float]) -> Float[Tensor, "B V 3 S S"]:
        steps = torch.tensor(values, dtype=codes.dtype, device=self._device)
        grid = codes[:, None].repeat(1, len(values), 1)
        grid[:, :, dimension] = self.code_mean[dimension] + steps * self.code_scale[dimension]
        return self.decode(grid.flatten(0, 1)).unflatten(0, (len(codes), len(values)))

    def name_nodes(
        self, grade: Callable[[np.ndarray], np.ndarray], images: Pixels, least_slope: float = LEAST_SLOPE
    ) -> tuple[str, ...]:
        """Name dimensions after the attributes whose grades move most along their traversals; returns `nodes`.

        grade: pictures uint8 [N, S, S, 3] to grades [N, K] of `config.attributes`, NaN where there is none, as
        `graphdrl.oracle.asking.grader` makes it of an oracle. images: whose traversals are graded, a few.
        least_slope: grades per standard deviation below which no dimension shows an attribute.
        """
        codes = self.encode(images)
        expected = [
            grade(to_uint8(self._along(codes, dimension, TRAVERSAL).transpose(0, 1).flatten(0, 1)))
            for dimension in range(self.config.num_latents)
        ]
        by_value = np.stack(expected).reshape(self.config.num_latents, len(TRAVERSAL), len(codes), -1)
        self.disgraph.set_nodes(match(slopes(np.nan_to_num(by_value)), least_slope))
        return self.nodes

    def sample(
        self, num: int, seed: int = 0, related: bool = True, given: Mapping[str, float] | None = None
    ) -> Float[Tensor, "B 3 S S"]:
        """New images from the prior; `related`: named codes hang together as the relations say, if there are any.

        given: nodes that are set, in standard deviations from the mean: {"age": 2}. The others are drawn given those,
        by the same correlation: not what setting them would do, but what goes along with them.
        A causal prior, where the model has one, is drawn from as it is.
        Raises ValueError for an unknown node, and for given nodes under a causal prior.
        """
        draws = torch.randn(num, self.config.num_latents, generator=torch.Generator().manual_seed(seed))
        draws = draws.to(self._device)
        places = {self._locate(node): value for node, value in (given or {}).items()}
        if self.causal_prior is not None:
            if places:
                raise ValueError("a model with a causal prior draws no nodes given others: leave out `given`")
            return self.decode(self.causal_prior(draws))
        if related and self.relations is not None:
            draws = self._related(draws, self.relations, given or {})
        for (dimension, sign), value in places.items():
            draws[:, dimension] = sign * value
        return self.decode(self.code_mean + draws * self.code_scale)

    def _related(self, draws: Tensor, edges: Edges, given: Mapping[str, float]) -> Tensor:
        """Standard normal codes whose nodes have the correlation that the resolved edges imply, given some of them.

        A draw x of N(0, Sigma) becomes one given x_G = g by adding Sigma[:, G] Sigma[G, G]^-1 (g - x_G).
        """
        covariance = torch.from_numpy(latent_correlation(edges)).to(draws)
        named = self.disgraph.named(draws)
        related = named @ torch.linalg.cholesky(covariance).T
        known = [edges.attributes.index(node) for node in given if node in edges.attributes]
        if known:
            values = torch.tensor([given[edges.attributes[node]] for node in known]).to(draws)
            pull = torch.linalg.solve(covariance[known][:, known], covariance[known])
            related = related + (values - related[:, known]) @ pull
        return self.disgraph.moved(draws, related - named)

    def _locate(self, node: str) -> tuple[int, int]:
        """Latent dimension and sign of a node by name."""
        names = self.nodes
        if node not in names:
            near = get_close_matches(node, names, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise ValueError(f"unknown attribute {node!r}; {hint}this model has: {', '.join(names)}")
        attributes = self.config.attributes
        sign = self.disgraph.node_map.signs[attributes.index(node)] if node in attributes else 1
        return names.index(node), sign

    @property
    def _device(self) -> torch.device:
        return self.code_mean.device

    # Storage --------------------------------------------------------------------------------------------------------

    def save_pretrained(self, folder: str | Path) -> None:
        """Write `model.safetensors`, `config.json` and, once there are relations, `relations.json`."""
        node_map = self.disgraph.node_map
        config = self.config.model_copy(update={"dimensions": node_map.dimensions, "signs": node_map.signs})
        pretrained.save(Path(folder), config.model_dump(mode="json"), self.state_dict(), self.relations)

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> "GEM":
        """The model in `folder`, in evaluation mode; raises ValueError with one sentence on anything else."""
        stored = pretrained.load(Path(folder), GEMConfig)
        model = cls(stored.config)
        pretrained.fill(model, stored.weights, Path(folder))
        model.relations = stored.relations
        return model.eval()


def _causal_prior(config: GEMConfig) -> CausalPrior | None:
    if not config.causes:
        return None
    place = {name: dimension for dimension, name in enumerate(config.attributes)}
    return CausalPrior(config.num_latents, [(place[cause], place[effect]) for cause, effect in config.causes])
