"""Ada-GVAE (Locatello et al. 2020, weak supervision): pairs of images that share all factors but a few."""

from typing import ClassVar

from pydantic import Field
from torch import Tensor

from graphdrl.methods.autoencoding import Autoencoding, AutoencodingParameters
from graphdrl.methods.base import Batch, register
from graphdrl.methods.losses import gaussian_kl
from graphdrl.models.gem import Outputs


class AdaGVAEParameters(AutoencodingParameters):
    """The beta-VAE of pairs."""

    beta: float = Field(default=1.0, ge=0, le=1000, description="weight of the KL term")


@register
class AdaGVAE(Autoencoding):
    """A pair's posteriors are averaged in the dimensions where they differ least; nobody says in which, or how many.

    It needs pairs: faces have them with data.parameters={pairs: true}.
    """

    name: ClassVar[str] = "ada_gvae"
    Parameters: ClassVar[type[AdaGVAEParameters]] = AdaGVAEParameters
    parameters: AdaGVAEParameters
    pairs: ClassVar[bool] = True

    def terms(self, outputs: Outputs, batch: Batch) -> dict[str, tuple[float, Tensor]]:
        return {"kl": (self.parameters.beta, gaussian_kl(outputs.mu, outputs.logvar))}
