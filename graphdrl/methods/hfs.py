"""HFS (Roth et al. 2023): every combination of two codes' values is to occur, however the factors correlate."""

from typing import ClassVar

from pydantic import Field
from torch import Tensor

from graphdrl.methods.autoencoding import Autoencoding, AutoencodingParameters
from graphdrl.methods.base import Batch, register
from graphdrl.methods.losses import factorised_support_distance, gaussian_kl
from graphdrl.models.gem import Outputs

_MOST_IMAGES = 32


class HFSParameters(AutoencodingParameters):
    """beta-VAE and the Hausdorff distance to a factorised support."""

    beta: float = Field(default=1.0, ge=0, le=1000, description="weight of the KL term")
    gamma: float = Field(default=10.0, ge=0, le=10_000, description="weight of the distance, mean over pairs of codes")


@register
class HFS(Autoencoding):
    """Only the support of the codes has to factorise, not their distribution: correlation is left as it is.

    The distance is that of the mean codes of the first plain images in one rank's share of a step: its cost grows with
    the cube of their number.
    """

    name: ClassVar[str] = "hfs"
    Parameters: ClassVar[type[HFSParameters]] = HFSParameters
    parameters: HFSParameters

    def terms(self, outputs: Outputs, batch: Batch) -> dict[str, tuple[float, Tensor]]:
        return {
            "kl": (self.parameters.beta, gaussian_kl(outputs.mu, outputs.logvar)),
            "distance": (
                self.parameters.gamma,
                factorised_support_distance(outputs.mu[: min(len(batch.plain), _MOST_IMAGES)]),
            ),
        }
