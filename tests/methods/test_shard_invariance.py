"""Losses do not depend on how a step is cut into ranks."""

import copy
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.multiprocessing import spawn

from graphdrl.methods import Batch, Method, ModelShape, load_method

SHAPE = ModelShape(image_size=32, attributes=("bald", "beard"), num_latents=5, base_channels=4)
NUM_RANKS = 2


def whole_batch() -> Batch:
    draws = torch.Generator().manual_seed(0)
    return Batch(
        plain=torch.rand(6, 3, 32, 32, generator=draws),
        scored=torch.rand(8, 3, 32, 32, generator=draws),
        scored_grades=torch.rand(8, 2, generator=draws) * 5,
        pair_scale=torch.tensor([1.2, 3.0]),
        noise_plain=torch.randn(6, 5, generator=draws),
        noise_scored=torch.randn(8, 5, generator=draws),
        prior=torch.randn(6, 5, generator=draws),
        progress=0.5,
        group_size=4,
    )


def share(batch: Batch, rank: int) -> Batch:
    """What one of the ranks gets of a global step."""
    names = ("plain", "scored", "scored_grades", "noise_plain", "noise_scored", "prior")
    return replace(batch, **{name: getattr(batch, name).chunk(NUM_RANKS)[rank] for name in names})


def build(name: str) -> tuple[Method, nn.Module, nn.Module | None]:
    torch.manual_seed(0)
    method = load_method(name)
    return method, *method.build(SHAPE)


# oneDNN takes another algorithm for another number of images, and its rounding turns rectifiers that stand at zero.
@torch.backends.mkldnn.flags(enabled=False)
def gradients(name: str, batch: Batch) -> tuple[dict[str, float], dict[str, torch.Tensor]]:
    """Losses and gradients of both modules for one share."""
    method, generator, critic = build(name)
    judge = copy.deepcopy(critic).requires_grad_(False) if critic is not None else None
    losses, outputs = method.generator_loss(generator, judge, batch)
    losses["total"].backward()
    found = {f"generator.{key}": parameter.grad for key, parameter in generator.named_parameters()}
    if critic is not None:
        critic_losses = method.critic_loss(critic, batch, outputs)
        critic_losses["total"].backward()
        losses["critic"] = critic_losses["total"]
        found |= {f"critic.{key}": parameter.grad for key, parameter in critic.named_parameters()}
    return {key: loss.item() for key, loss in losses.items()}, found


def distance(mine: torch.Tensor, theirs: torch.Tensor) -> float:
    """Relative to the whole: a processor may sum in any order, and single entries may all but cancel."""
    return float((mine - theirs).norm() / theirs.norm().clamp(min=1e-3))


@pytest.mark.parametrize("name", ["gem", "beta_vae", "semi_beta_vae", "dear"])
def test_the_mean_over_shares_is_the_whole_without_any_process(name: str) -> None:
    losses, found = gradients(name, whole_batch())
    shares = [gradients(name, share(whole_batch(), rank)) for rank in range(NUM_RANKS)]
    for key, loss in losses.items():
        assert sum(part[key] for part, _ in shares) / NUM_RANKS == pytest.approx(loss, rel=1e-5), key
    for key, gradient in found.items():
        mean = torch.stack([part[key] for _, part in shares]).mean(0)
        assert distance(mean, gradient) < 1e-5, key


def run_rank(rank: int, folder: str) -> None:
    """One of two gloo processes: average the gradients of its share with the other's."""
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=NUM_RANKS)
    _, found = gradients("gem", share(whole_batch(), rank))
    for gradient in found.values():
        dist.all_reduce(gradient)
    if rank == 0:
        torch.save({key: gradient / NUM_RANKS for key, gradient in found.items()}, f"{folder}/mean.pt")
    dist.destroy_process_group()


def test_the_averaged_gradient_of_two_gloo_processes_is_that_of_one(tmp_path: Path) -> None:
    spawn(run_rank, args=(str(tmp_path),), nprocs=NUM_RANKS)
    averaged = torch.load(tmp_path / "mean.pt", weights_only=True)
    _, found = gradients("gem", whole_batch())
    assert averaged.keys() == found.keys()
    for key, gradient in found.items():
        assert distance(averaged[key], gradient) < 1e-5, key
