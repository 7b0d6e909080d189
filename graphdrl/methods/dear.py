"""DEAR (Shen et al. 2022): a bidirectional GAN whose prior is a causal model over a given graph, and few labels."""

from collections.abc import Callable
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from graphdrl.methods import joint
from graphdrl.methods.base import Batch, MethodParameters, ModelShape, register
from graphdrl.methods.losses import grade_regression, squared_error
from graphdrl.models.critic import JointCritic
from graphdrl.models.gem import GEM, Outputs
from graphdrl.relations.edges import RelationsVersion


class DEARParameters(MethodParameters):
    """Weights are relative to the divergence of the two joint distributions."""

    causes: tuple[tuple[str, str], ...] = Field(
        default=(), description="the given graph: pairs (cause, effect) of attributes, without cycles"
    )
    regression_weight: float = Field(
        default=5.0, ge=0, le=10_000, description="weight of an attribute's squared error of the grade"
    )
    reconstruction_weight: float = Field(
        default=0.0, ge=0, le=1000, description="weight of the squared error, which the paper does without"
    )


@register
class DEAR:
    """The critic plays at every step: it is all that teaches the decoder. No graph stands before the decoder."""

    name: ClassVar[str] = "dear"
    Parameters: ClassVar[type[DEARParameters]] = DEARParameters
    pairs: ClassVar[bool] = False

    def __init__(self, parameters: DEARParameters) -> None:
        self.parameters = parameters

    def build(self, shape: ModelShape) -> tuple[GEM, nn.Module]:
        generator = GEM(shape.config(graph_learner="none", causes=self.parameters.causes))
        return generator, JointCritic(shape.image_size, shape.num_latents)

    def wants_critic(self, step: int) -> bool:
        return True

    def generator_loss(
        self, generator: Callable[..., Outputs], critic: nn.Module | None, batch: Batch
    ) -> tuple[dict[str, Tensor], Outputs]:
        assert critic is not None, "the critic plays at every step"
        settings = self.parameters
        outputs = generator(torch.cat([batch.plain, batch.scored]), batch.noise_plain, batch.prior)
        losses = {
            "divergence": joint.divergence(critic, batch, outputs),
            "regression": grade_regression(outputs.mu[len(batch.plain) :], batch.scored_grades),
            "reconstruction": squared_error(outputs.reconstruction, batch.plain),
        }
        total = (
            losses["divergence"]
            + settings.regression_weight * losses["regression"]
            + settings.reconstruction_weight * losses["reconstruction"]
        )
        return {"total": total, **losses}, outputs

    def critic_loss(self, critic: Callable[..., Tensor], batch: Batch, outputs: Outputs) -> dict[str, Tensor]:
        return joint.critic_losses(critic, batch, outputs)

    def set_relations(self, generator: nn.Module, version: RelationsVersion) -> None:
        """Relations are for reading only: the graph was given."""
