"""The causal prior: draws become codes along the given graph."""

import pytest
import torch

from graphdrl.models import GEM, GEMConfig
from graphdrl.models.causal_prior import CausalPrior


def test_before_training_it_is_the_standard_normal_prior() -> None:
    draws = torch.randn(5, 3)
    torch.testing.assert_close(CausalPrior(3, [(0, 1)])(draws), draws, rtol=1e-4, atol=1e-4)


def test_effects_follow_the_edges_worked_by_hand() -> None:
    prior = CausalPrior(3, [(0, 1), (1, 2)])
    with torch.no_grad():
        prior.weights[0, 1], prior.weights[1, 2], prior.weights[2, 0] = 2.0, -1.0, 9.0  # the last is no given edge
    # z0 = 1; z1 = 1 + 2 z0 = 3; z2 = 1 - z1 = -2.
    torch.testing.assert_close(prior(torch.ones(1, 3)), torch.tensor([[1.0, 3.0, -2.0]]), rtol=1e-3, atol=1e-3)


def test_a_cycle_is_refused() -> None:
    with pytest.raises(ValueError, match="has no cycles, but"):
        CausalPrior(3, [(0, 1), (1, 0)])


def test_a_model_with_a_causal_prior_is_saved_and_samples_from_it(tmp_path) -> None:
    config = GEMConfig(
        image_size=32, num_latents=4, base_channels=4, attributes=("age", "bald"), causes=(("age", "bald"),)
    )
    model = GEM(config)
    with torch.no_grad():
        model.causal_prior.weights[0, 1] = 0.7
    model.save_pretrained(tmp_path)
    again = GEM.from_pretrained(tmp_path)
    torch.testing.assert_close(again.sample(3), model.eval().sample(3))
    assert again.causal_prior.weights[0, 1].item() == pytest.approx(0.7)
