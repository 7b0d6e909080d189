"""What the rivals have in common: every image of a step is encoded and decoded, and terms are added to the error."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from graphdrl.methods.base import Batch, MethodParameters, ModelShape
from graphdrl.methods.losses import squared_error
from graphdrl.models.gem import GEM, Outputs
from graphdrl.relations.edges import RelationsVersion


class AutoencodingParameters(MethodParameters):
    """Weights are relative to one nat of the KL term."""

    reconstruction_weight: float = Field(default=3.0, gt=0, le=1000, description="weight of the squared error")


class Autoencoding(ABC):
    """Base of a method without a graph: a subclass says what it adds to the reconstruction error."""

    parameters: AutoencodingParameters
    pairs: ClassVar[bool] = False

    def __init__(self, parameters: AutoencodingParameters) -> None:
        self.parameters = parameters

    @abstractmethod
    def terms(self, outputs: Outputs, batch: Batch) -> dict[str, tuple[float, Tensor]]:
        """By name, the weight and the value of every term beside the reconstruction; weight 0 is only logged."""

    def build(self, shape: ModelShape) -> tuple[GEM, nn.Module | None]:
        return GEM(shape.config(graph_learner="none")), None

    def wants_critic(self, step: int) -> bool:
        return False

    def generator_loss(
        self, generator: Callable[..., Outputs], critic: nn.Module | None, batch: Batch
    ) -> tuple[dict[str, Tensor], Outputs]:
        images = torch.cat([batch.plain, batch.scored])
        noise = torch.cat([batch.noise_plain, batch.noise_scored])
        num_pairs = len(batch.plain) // 2 if self.pairs else 0
        outputs = generator(images, noise, batch.prior[:0], num_pairs)
        losses = {"reconstruction": squared_error(outputs.reconstruction, images)}
        total = self.parameters.reconstruction_weight * losses["reconstruction"]
        for name, (weight, term) in self.terms(outputs, batch).items():
            losses[name] = term
            if weight:
                total = total + weight * term
        return {"total": total, **losses}, outputs

    def critic_loss(self, critic: Callable[..., Tensor], batch: Batch, outputs: Outputs) -> dict[str, Tensor]:
        raise AssertionError("a method whose wants_critic is never true has no critic")

    def set_relations(self, generator: nn.Module, version: RelationsVersion) -> None:  # noqa: B027 - nothing is to be done
        """Relations are for reading only: there is no graph in the model."""
