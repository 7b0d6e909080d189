"""FactorVAE (Kim and Mnih 2018): a critic tells codes from codes permuted one by one, and so finds their dependence."""

from collections.abc import Callable
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from graphdrl.methods.autoencoding import Autoencoding, AutoencodingParameters
from graphdrl.methods.base import Batch, ModelShape, register
from graphdrl.methods.losses import gaussian_kl, told_apart
from graphdrl.models.critic import CodeCritic
from graphdrl.models.gem import GEM, Outputs


class FactorVAEParameters(AutoencodingParameters):
    """KL + gamma TC: gamma 0 is the VAE."""

    gamma: float = Field(default=10.0, ge=0, le=1000, description="weight of the total correlation")


@register
class FactorVAE(Autoencoding):
    """The critic learns log q(z) / prod_j q(z_j), whose mean over codes is their total correlation.

    Codes are permuted among the plain images of one rank's share, in an order that the step's prior draws give.
    """

    name: ClassVar[str] = "factor_vae"
    Parameters: ClassVar[type[FactorVAEParameters]] = FactorVAEParameters
    parameters: FactorVAEParameters

    def build(self, shape: ModelShape) -> tuple[GEM, nn.Module]:
        generator, _ = super().build(shape)
        return generator, CodeCritic(shape.num_latents)

    def wants_critic(self, step: int) -> bool:
        return True

    def generator_loss(
        self, generator: Callable[..., Outputs], critic: nn.Module | None, batch: Batch
    ) -> tuple[dict[str, Tensor], Outputs]:
        assert critic is not None, "the critic plays at every step"
        losses, outputs = super().generator_loss(generator, critic, batch)
        losses["total_correlation"] = critic(outputs.z).mean()
        losses["total"] = losses["total"] + self.parameters.gamma * losses["total_correlation"]
        return losses, outputs

    def terms(self, outputs: Outputs, batch: Batch) -> dict[str, tuple[float, Tensor]]:
        return {"kl": (1.0, gaussian_kl(outputs.mu, outputs.logvar))}

    def critic_loss(self, critic: Callable[..., Tensor], batch: Batch, outputs: Outputs) -> dict[str, Tensor]:
        codes = outputs.z[: len(batch.plain)].detach()
        permuted = codes.gather(0, batch.prior.argsort(0))
        return told_apart(*critic(torch.cat([codes, permuted])).chunk(2))
