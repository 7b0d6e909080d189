"""What a joint critic of images and codes is asked, by the methods that have one."""

from collections.abc import Callable

import torch
from torch import Tensor

from graphdrl.methods.base import Batch
from graphdrl.methods.losses import joint_divergence, told_apart
from graphdrl.models.gem import Outputs


def divergence(critic: Callable[..., Tensor], batch: Batch, outputs: Outputs) -> Tensor:
    """What encoder and decoder lower, from the frozen critic: pairs (x, E(x)) of plain images and (D(z), z)."""
    return joint_divergence(*_logits(critic, batch, outputs.generated, outputs.z, outputs.prior))


def critic_losses(critic: Callable[..., Tensor], batch: Batch, outputs: Outputs) -> dict[str, Tensor]:
    """The critic's own losses on the same pairs, detached."""
    detached = (outputs.generated.detach(), outputs.z.detach(), outputs.prior.detach())
    return told_apart(*_logits(critic, batch, *detached))


def _logits(
    critic: Callable[..., Tensor], batch: Batch, generated: Tensor, z: Tensor, prior: Tensor
) -> tuple[Tensor, Tensor]:
    num_plain = len(batch.plain)
    logits = critic(torch.cat([batch.plain, generated]), torch.cat([z[:num_plain], prior]))
    encoder_logits, decoder_logits = logits.split([num_plain, len(prior)])
    return encoder_logits, decoder_logits
