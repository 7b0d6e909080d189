"""GEM with our defaults: rank supervision of named codes, a residual GCN before the decoder, a small joint critic."""

from collections.abc import Callable
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from graphdrl.methods import joint
from graphdrl.methods.base import Batch, MethodParameters, ModelShape, register
from graphdrl.methods.losses import gaussian_kl, grade_trust, rank_loss, squared_error
from graphdrl.models.critic import JointCritic
from graphdrl.models.disgraph import GraphLearner
from graphdrl.models.gem import GEM, Outputs
from graphdrl.relations.edges import RelationsVersion

_DOUBTING = (0.1, 0.3)
"""Shares of the steps at which grades begin to be doubted, and are in full."""


class GEMParameters(MethodParameters):
    """Weights of the terms, relative to one nat of the KL term."""

    beta: float = Field(default=1.0, ge=0, le=1000, description="weight of the KL term")
    reconstruction_weight: float = Field(default=3.0, gt=0, le=1000, description="weight of the squared error")
    rank_weight: float = Field(default=100.0, ge=0, le=10_000, description="weight of an attribute's rank loss")
    rank_warmup: float = Field(default=0.1, ge=0, le=1, description="share of the steps over which it rises from 0")
    rank_temperature: float = Field(
        default=1.0, gt=0, le=100, description="how far apart two images are still pulled; 1 is the logistic loss"
    )
    slips: float = Field(
        default=0.2, ge=0, lt=1, description="share of grades held to say nothing of their image at first; 0: none"
    )
    decode_scored: bool = Field(
        default=True, description="whether scored images are reconstructed too: false saves nearly half of a step"
    )
    nodes: Literal["ranked", "discovered"] = Field(
        default="ranked", description="ranked: scores order the named codes; discovered: named after training"
    )
    use_graph: bool = Field(default=True, description="whether the relations enter the model")
    graph_learner: Literal["gcn", "mixing", "refined"] = Field(
        default="gcn", description="mixing is the paper's A^T z, refined the same along a graph that is learned"
    )
    critic_weight: float = Field(default=1.0, ge=0, le=1000, description="weight of the joint critic's term; 0: none")
    critic_every: int = Field(default=4, ge=1, le=10_000, description="the critic plays at every n-th step")


@register
class GEMMethod:
    """All images are encoded and decoded, and scored ones ordered by their named codes.

    With discovered nodes scored images are images like others: their grades are not used.
    """

    name: ClassVar[str] = "gem"
    Parameters: ClassVar[type[MethodParameters]] = GEMParameters
    pairs: ClassVar[bool] = False

    def __init__(self, parameters: GEMParameters) -> None:
        self.parameters = parameters

    def build(self, shape: ModelShape) -> tuple[GEM, nn.Module | None]:
        learner: GraphLearner = self.parameters.graph_learner if self.parameters.use_graph else "none"
        discovered = self.parameters.nodes == "discovered"
        dimensions = (-1,) * len(shape.attributes) if discovered else None
        generator = GEM(shape.config(graph_learner=learner, dimensions=dimensions))
        critic = JointCritic(shape.image_size, shape.num_latents) if self.parameters.critic_weight else None
        return generator, critic

    def wants_critic(self, step: int) -> bool:
        return self.parameters.critic_weight > 0 and step % self.parameters.critic_every == 0

    def generator_loss(
        self, generator: Callable[..., Outputs], critic: nn.Module | None, batch: Batch
    ) -> tuple[dict[str, Tensor], Outputs]:
        settings = self.parameters
        images, noise = self._seen(batch)
        prior = batch.prior if critic is not None else batch.prior[:0]
        outputs = generator(images, noise, prior)
        decoded = len(noise)
        losses = {
            "reconstruction": squared_error(outputs.reconstruction, images[:decoded]),
            "kl": gaussian_kl(outputs.mu[:decoded], outputs.logvar[:decoded]),
        }
        total = settings.reconstruction_weight * losses["reconstruction"] + settings.beta * losses["kl"]
        if settings.nodes == "ranked":
            losses["rank"] = self._rank(outputs.mu[len(batch.plain) :], batch)
            total = total + settings.rank_weight * self._warmed(batch.progress) * losses["rank"]
        if settings.graph_learner == "refined":
            losses["contrast"] = outputs.contrast
            total = total + losses["contrast"]
        if critic is not None:
            losses["divergence"] = joint.divergence(critic, batch, outputs)
            total = total + settings.critic_weight * losses["divergence"]
        return {"total": total, **losses}, outputs

    def critic_loss(self, critic: Callable[..., Tensor], batch: Batch, outputs: Outputs) -> dict[str, Tensor]:
        return joint.critic_losses(critic, batch, outputs)

    def set_relations(self, generator: nn.Module, version: RelationsVersion) -> None:
        assert isinstance(generator, GEM), "the plain module, not an engine around it"
        generator.set_relations(version.edges, version.node_map)

    def _seen(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The images to encode, and noise for those that are decoded as well: the first ones."""
        images = torch.cat([batch.plain, batch.scored])
        if self.parameters.decode_scored:
            return images, torch.cat([batch.noise_plain, batch.noise_scored])
        return images if self.parameters.nodes == "ranked" else batch.plain, batch.noise_plain

    def _rank(self, mu_scored: Tensor, batch: Batch) -> Tensor:
        settings = self.parameters
        # Ranked nodes are the first K codes, whatever a version says of them.
        values, grades = mu_scored[:, : batch.scored_grades.shape[1]], batch.scored_grades
        group_size = batch.group_size or len(batch.scored)
        trust = None
        if settings.slips and (doubting := self._doubting(batch.progress)):
            trust = 1 - doubting * (1 - grade_trust(values, grades, group_size, settings.slips))
        return rank_loss(
            values, grades, batch.pair_scale, group_size, settings.tie_margin, settings.rank_temperature, trust
        )

    def _doubting(self, progress: float) -> float:
        """From 0 to 1 while codes come to say something of the grades: before, there is nothing to doubt them by."""
        begin, whole = _DOUBTING
        return min(1.0, max(0.0, (progress - begin) / (whole - begin)))

    def _warmed(self, progress: float) -> float:
        warmup = self.parameters.rank_warmup
        return min(1.0, progress / warmup) if warmup else 1.0
