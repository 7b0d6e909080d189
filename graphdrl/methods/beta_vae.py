"""beta-VAE (Higgins et al. 2017): reconstruction and beta times the KL term; it knows no scores and no graph."""

from typing import ClassVar

from pydantic import Field
from torch import Tensor

from graphdrl.methods.autoencoding import Autoencoding, AutoencodingParameters
from graphdrl.methods.base import Batch, register
from graphdrl.methods.losses import gaussian_kl
from graphdrl.models.gem import Outputs


class BetaVAEParameters(AutoencodingParameters):
    """beta 1 is the VAE."""

    beta: float = Field(default=1.0, ge=0, le=1000, description="weight of the KL term")


@register
class BetaVAE(Autoencoding):
    """Every image of a step, plain or scored, is encoded and decoded."""

    name: ClassVar[str] = "beta_vae"
    Parameters: ClassVar[type[BetaVAEParameters]] = BetaVAEParameters
    parameters: BetaVAEParameters

    def terms(self, outputs: Outputs, batch: Batch) -> dict[str, tuple[float, Tensor]]:
        return {"kl": (self.parameters.beta, gaussian_kl(outputs.mu, outputs.logvar))}
