"""Semi-supervised beta-VAE (Locatello et al. 2020, few labels): the first K mean codes are regressed on the grades."""

from typing import ClassVar

from pydantic import Field
from torch import Tensor

from graphdrl.methods.autoencoding import Autoencoding, AutoencodingParameters
from graphdrl.methods.base import Batch, register
from graphdrl.methods.losses import gaussian_kl, grade_regression
from graphdrl.models.gem import Outputs


class SemiBetaVAEParameters(AutoencodingParameters):
    """The rival at equal supervision: it sees the same scored images as GEM."""

    beta: float = Field(default=1.0, ge=0, le=1000, description="weight of the KL term")
    regression_weight: float = Field(
        default=100.0, ge=0, le=10_000, description="weight of an attribute's squared error of the grade"
    )


@register
class SemiBetaVAE(Autoencoding):
    """Scored images are drawn with equal probability unless relations.decorrelate says otherwise."""

    name: ClassVar[str] = "semi_beta_vae"
    Parameters: ClassVar[type[SemiBetaVAEParameters]] = SemiBetaVAEParameters
    parameters: SemiBetaVAEParameters

    def terms(self, outputs: Outputs, batch: Batch) -> dict[str, tuple[float, Tensor]]:
        return {
            "kl": (self.parameters.beta, gaussian_kl(outputs.mu, outputs.logvar)),
            "regression": (
                self.parameters.regression_weight,
                grade_regression(outputs.mu[len(batch.plain) :], batch.scored_grades),
            ),
        }
