"""Annealed beta-VAE (Burgess et al. 2018): the KL term is held to a capacity that grows while training goes on."""

from typing import ClassVar

from pydantic import Field
from torch import Tensor

from graphdrl.methods.autoencoding import Autoencoding, AutoencodingParameters
from graphdrl.methods.base import Batch, register
from graphdrl.methods.losses import gaussian_kl
from graphdrl.models.gem import Outputs


class AnnealedVAEParameters(AutoencodingParameters):
    """gamma |KL - C|, C from 0 to `capacity`."""

    gamma: float = Field(default=10.0, ge=0, le=10_000, description="weight of the distance to the capacity")
    capacity: float = Field(default=50.0, ge=0, le=10_000, description="nats that the codes may hold in the end")
    rise: float = Field(default=0.8, gt=0, le=1, description="share of the steps over which the capacity grows")


@register
class AnnealedVAE(Autoencoding):
    """Factors that matter most for the reconstruction get their codes first."""

    name: ClassVar[str] = "annealed_vae"
    Parameters: ClassVar[type[AnnealedVAEParameters]] = AnnealedVAEParameters
    parameters: AnnealedVAEParameters

    def terms(self, outputs: Outputs, batch: Batch) -> dict[str, tuple[float, Tensor]]:
        settings = self.parameters
        kl = gaussian_kl(outputs.mu, outputs.logvar)
        capacity = settings.capacity * min(1.0, batch.progress / settings.rise)
        return {"distance": (settings.gamma, (kl - capacity).abs()), "kl": (0.0, kl)}
