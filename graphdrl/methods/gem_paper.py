"""GEM as the paper states it (Xie et al. 2024): three weighted losses, and mixing along a refined graph."""

from collections.abc import Callable
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from graphdrl.methods import joint
from graphdrl.methods.base import Batch, MethodParameters, ModelShape, register
from graphdrl.methods.losses import gaussian_kl, squared_error
from graphdrl.models.critic import JointCritic
from graphdrl.models.gem import GEM, Outputs
from graphdrl.relations.edges import RelationsVersion


class GEMPaperParameters(MethodParameters):
    """L = .8 L_adv + .6 L_dis + .6 L_gem (section 3.4); beta and the weight of the graph's contrast are not given."""

    nodes: Literal["discovered"] = Field(default="discovered", description="no scores order the codes")
    beta: float = Field(default=1.0, ge=0, le=1000, description="weight of the KL term inside L_dis")
    reconstruction_weight: float = Field(default=3.0, gt=0, le=1000, description="of the squared error inside L_dis")
    adversarial_weight: float = Field(default=0.8, ge=0, le=1000, description="of L_adv, which trains the critic")
    disentangling_weight: float = Field(default=0.6, ge=0, le=1000, description="of L_dis, the beta-VAE's loss")
    joint_weight: float = Field(default=0.6, ge=0, le=1000, description="of L_gem, the divergence that the critic sees")
    contrast_weight: float = Field(default=1.0, ge=0, le=1000, description="of refining the graph")


@register
class GEMPaper:
    """All images are encoded and decoded; grades enter through the graph alone."""

    name: ClassVar[str] = "gem_paper"
    Parameters: ClassVar[type[GEMPaperParameters]] = GEMPaperParameters
    pairs: ClassVar[bool] = False

    def __init__(self, parameters: GEMPaperParameters) -> None:
        self.parameters = parameters

    def build(self, shape: ModelShape) -> tuple[GEM, nn.Module]:
        generator = GEM(shape.config(graph_learner="refined", dimensions=(-1,) * len(shape.attributes)))
        return generator, JointCritic(shape.image_size, shape.num_latents)

    def wants_critic(self, step: int) -> bool:
        return True

    def generator_loss(
        self, generator: Callable[..., Outputs], critic: nn.Module | None, batch: Batch
    ) -> tuple[dict[str, Tensor], Outputs]:
        assert critic is not None, "the critic plays at every step"
        settings = self.parameters
        images = torch.cat([batch.plain, batch.scored])
        outputs = generator(images, torch.cat([batch.noise_plain, batch.noise_scored]), batch.prior)
        losses = {
            "reconstruction": squared_error(outputs.reconstruction, images),
            "kl": gaussian_kl(outputs.mu, outputs.logvar),
            "divergence": joint.divergence(critic, batch, outputs),
            "contrast": outputs.contrast,
        }
        disentangling = settings.reconstruction_weight * losses["reconstruction"] + settings.beta * losses["kl"]
        total = (
            settings.disentangling_weight * disentangling
            + settings.joint_weight * losses["divergence"]
            + settings.contrast_weight * losses["contrast"]
        )
        return {"total": total, **losses}, outputs

    def critic_loss(self, critic: Callable[..., Tensor], batch: Batch, outputs: Outputs) -> dict[str, Tensor]:
        losses = joint.critic_losses(critic, batch, outputs)
        return losses | {"total": self.parameters.adversarial_weight * losses["total"]}

    def set_relations(self, generator: nn.Module, version: RelationsVersion) -> None:
        assert isinstance(generator, GEM), "the plain module, not an engine around it"
        generator.set_relations(version.edges, version.node_map)
