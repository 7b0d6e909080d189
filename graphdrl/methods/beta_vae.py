"""beta-VAE (Higgins et al. 2017): reconstruction and beta times the KL term; it knows no scores and no graph."""

from collections.abc import Callable
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from graphdrl.methods.base import Batch, MethodParameters, ModelShape, register
from graphdrl.methods.losses import gaussian_kl, squared_error
from graphdrl.models.gem import GEM, Outputs
from graphdrl.relations.edges import RelationsVersion


class BetaVAEParameters(MethodParameters):
    """beta 1 is the VAE."""

    beta: float = Field(default=1.0, ge=0, le=1000, description="weight of the KL term")
    reconstruction_weight: float = Field(default=3.0, gt=0, le=1000, description="weight of the squared error")


@register
class BetaVAE:
    """Every image of a step, plain or scored, is encoded and decoded."""

    name: ClassVar[str] = "beta_vae"
    Parameters: ClassVar[type[MethodParameters]] = BetaVAEParameters

    def __init__(self, parameters: BetaVAEParameters) -> None:
        self.parameters = parameters

    def build(self, shape: ModelShape) -> tuple[nn.Module, None]:
        return GEM(shape.config(graph_learner="none")), None

    def wants_critic(self, step: int) -> bool:
        return False

    def generator_loss(
        self, generator: Callable[..., Outputs], critic: nn.Module | None, batch: Batch
    ) -> tuple[dict[str, Tensor], Outputs]:
        images = torch.cat([batch.plain, batch.scored])
        noise = torch.cat([batch.noise_plain, batch.noise_scored])
        outputs = generator(images, noise, batch.prior[:0])
        reconstruction = squared_error(outputs.reconstruction, images)
        kl = gaussian_kl(outputs.mu, outputs.logvar)
        total = self.parameters.reconstruction_weight * reconstruction + self.parameters.beta * kl
        return {"total": total, "reconstruction": reconstruction, "kl": kl}, outputs

    def critic_loss(self, critic: Callable[..., Tensor], batch: Batch, outputs: Outputs) -> dict[str, Tensor]:
        raise AssertionError("beta_vae has no critic: wants_critic is never true")

    def set_relations(self, generator: nn.Module, version: RelationsVersion) -> None:
        """Relations are for reading only: there is no graph in the model."""
