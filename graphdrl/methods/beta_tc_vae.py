"""beta-TCVAE (Chen et al. 2018): the total correlation of the codes weighs more than the rest of the KL term."""

from typing import ClassVar

from pydantic import Field
from torch import Tensor

from graphdrl.methods.autoencoding import Autoencoding, AutoencodingParameters
from graphdrl.methods.base import Batch, register
from graphdrl.methods.losses import gaussian_kl, total_correlation
from graphdrl.models.gem import Outputs


class BetaTCVAEParameters(AutoencodingParameters):
    """KL + (beta - 1) TC: beta 1 is the VAE."""

    beta: float = Field(default=6.0, ge=1, le=1000, description="weight of the total correlation inside the KL term")


@register
class BetaTCVAE(Autoencoding):
    """The total correlation is estimated inside one rank's share of a step."""

    name: ClassVar[str] = "beta_tc_vae"
    Parameters: ClassVar[type[BetaTCVAEParameters]] = BetaTCVAEParameters
    parameters: BetaTCVAEParameters

    def terms(self, outputs: Outputs, batch: Batch) -> dict[str, tuple[float, Tensor]]:
        return {
            "kl": (1.0, gaussian_kl(outputs.mu, outputs.logvar)),
            "total_correlation": (
                self.parameters.beta - 1,
                total_correlation(outputs.z, outputs.mu, outputs.logvar),
            ),
        }
