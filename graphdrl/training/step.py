"""One training step: the same on a laptop and behind DeepSpeed."""

from dataclasses import dataclass

import torch

from graphdrl.methods import Batch, Method
from graphdrl.models import Outputs
from graphdrl.training.engine import Engine


@dataclass(frozen=True)
class Engines:
    """The generator (encoder, graph, decoder) and the critic that judges it; a method may have no critic."""

    generator: Engine
    critic: Engine | None


def train_step(method: Method, engines: Engines, batch: Batch, step: int) -> dict[str, torch.Tensor]:
    """Update the generator and, when it plays, the critic; returns the detached losses by name."""
    critic = engines.critic if method.wants_critic(step) else None
    if critic is None:
        losses, _ = _update_generator(method, engines.generator, None, batch)
        return losses
    with critic.frozen() as judge:
        losses, outputs = _update_generator(method, engines.generator, judge, batch)
    critic_losses = method.critic_loss(critic, batch, outputs)
    critic.backward(critic_losses["total"])
    critic.step()
    return losses | {f"critic/{name}": loss.detach() for name, loss in critic_losses.items()}


def _update_generator(
    method: Method, generator: Engine, judge: torch.nn.Module | None, batch: Batch
) -> tuple[dict[str, torch.Tensor], Outputs]:
    losses, outputs = method.generator_loss(generator, judge, batch)
    generator.backward(losses["total"])
    generator.step()
    return {name: loss.detach() for name, loss in losses.items()}, outputs
