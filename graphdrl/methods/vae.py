"""VAE (Kingma and Welling 2014): reconstruction and the KL term, one nat for one nat."""

from typing import ClassVar

from torch import Tensor

from graphdrl.methods.autoencoding import Autoencoding, AutoencodingParameters
from graphdrl.methods.base import Batch, register
from graphdrl.methods.losses import gaussian_kl
from graphdrl.models.gem import Outputs


@register
class VAE(Autoencoding):
    """The beta-VAE at beta 1, and the root of all others."""

    name: ClassVar[str] = "vae"
    Parameters: ClassVar[type[AutoencodingParameters]] = AutoencodingParameters

    def terms(self, outputs: Outputs, batch: Batch) -> dict[str, tuple[float, Tensor]]:
        return {"kl": (1.0, gaussian_kl(outputs.mu, outputs.logvar))}
