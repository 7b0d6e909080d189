"""ELBO: against torch.distributions, and what the losses of training say of it."""

import numpy as np
import pytest
import torch
from torch.distributions import Normal, kl_divergence

from graphdrl.methods import load_method
from graphdrl.methods.losses import gaussian_kl
from graphdrl.metrics.elbo import OBSERVATION_VARIANCE, elbo, kl_per_dimension


def test_it_is_the_log_likelihood_minus_the_divergence() -> None:
    generator = torch.Generator().manual_seed(0)
    images, decoded = torch.rand(2, 5, 12, generator=generator, dtype=torch.float64)
    mu, logvar = torch.randn(2, 5, 3, generator=generator, dtype=torch.float64)
    likelihood = Normal(decoded, OBSERVATION_VARIANCE**0.5).log_prob(images).sum(1)
    divergence = kl_divergence(Normal(mu, torch.exp(0.5 * logvar)), Normal(0.0, 1.0))
    kl = kl_per_dimension(mu.numpy(), logvar.numpy())
    np.testing.assert_allclose(kl, divergence.numpy())
    assert kl.sum(1).mean() == pytest.approx(gaussian_kl(mu, logvar).item())
    bound = elbo((images - decoded).square().sum(1).numpy(), kl, 12)
    np.testing.assert_allclose(bound, (likelihood - divergence.sum(1)).numpy())


def test_methods_maximise_it_at_their_default_weights() -> None:
    for name in ("beta_vae", "gem"):
        parameters = load_method(name).parameters
        assert parameters.reconstruction_weight == pytest.approx(1 / (2 * OBSERVATION_VARIANCE))
        assert parameters.beta == 1


def test_a_nat_of_divergence_costs_a_nat() -> None:
    assert elbo(np.zeros(1), np.array([3.0]), 0) == pytest.approx([-3.0])
    assert elbo(np.ones(1), np.zeros((1, 4)), 0) == pytest.approx([-3.0]), "3 times the squared error"
