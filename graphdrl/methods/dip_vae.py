"""DIP-VAE I and II (Kumar et al. 2018): the aggregate code is to have the identity as its covariance."""

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from graphdrl.methods.autoencoding import Autoencoding, AutoencodingParameters
from graphdrl.methods.base import Batch, register
from graphdrl.methods.losses import gaussian_kl, squared_off_identity
from graphdrl.models.gem import Outputs


class DIPVAEIParameters(AutoencodingParameters):
    """Variances weigh ten times as much as covariances, as in Locatello et al. 2019."""

    off_diagonal: float = Field(default=10.0, ge=0, le=10_000, description="weight of the squared covariances")
    diagonal: float = Field(default=100.0, ge=0, le=10_000, description="weight of the squared variances less 1")


class DIPVAEIIParameters(DIPVAEIParameters):
    """Both weigh the same, as in Locatello et al. 2019."""

    diagonal: float = Field(default=10.0, ge=0, le=10_000, description="weight of the squared variances less 1")


@register
class DIPVAEI(Autoencoding):
    """The covariance is that of the mean codes of one rank's share of a step."""

    name: ClassVar[str] = "dip_vae_i"
    Parameters: ClassVar[type[DIPVAEIParameters]] = DIPVAEIParameters
    parameters: DIPVAEIParameters

    def terms(self, outputs: Outputs, batch: Batch) -> dict[str, tuple[float, Tensor]]:
        off_diagonal, diagonal = squared_off_identity(self.covariance(outputs))
        return {
            "kl": (1.0, gaussian_kl(outputs.mu, outputs.logvar)),
            "covariances": (self.parameters.off_diagonal, off_diagonal),
            "variances": (self.parameters.diagonal, diagonal),
        }

    def covariance(self, outputs: Outputs) -> Tensor:
        """[Z, Z] of the mean codes."""
        return torch.cov(outputs.mu.T, correction=0)


@register
class DIPVAEII(DIPVAEI):
    """The covariance is that of the sampled codes: the mean of the variances comes to that of the means."""

    name: ClassVar[str] = "dip_vae_ii"
    Parameters: ClassVar[type[DIPVAEIIParameters]] = DIPVAEIIParameters

    def covariance(self, outputs: Outputs) -> Tensor:
        """[Z, Z] of the sampled codes."""
        return super().covariance(outputs) + torch.diag(outputs.logvar.exp().mean(0))
