"""What pairs share, worked by hand."""

import torch
from torch.distributions import Normal, kl_divergence

from graphdrl.models.pairs import shared_in_pairs


def test_dimensions_that_differ_least_are_averaged_and_the_others_stay() -> None:
    mu = torch.tensor([[0.0, 1.0, 5.0], [0.2, 3.0, -5.0], [9.0, 9.0, 9.0]])
    variance = torch.tensor([[1.0, 2.0, 1.0], [1.0, 4.0, 1.0], [7.0, 7.0, 7.0]])
    divergence = kl_divergence(Normal(mu[0], variance[0].sqrt()), Normal(mu[1], variance[1].sqrt()))
    assert (divergence < (divergence.min() + divergence.max()) / 2).tolist() == [True, True, False]
    shared_mu, shared_logvar = shared_in_pairs(mu, variance.log(), num_pairs=1)
    torch.testing.assert_close(shared_mu, torch.tensor([[0.1, 2.0, 5.0], [0.1, 2.0, -5.0], [9.0, 9.0, 9.0]]))
    expected = torch.tensor([[1.0, 3.0, 1.0], [1.0, 3.0, 1.0], [7.0, 7.0, 7.0]])
    torch.testing.assert_close(shared_logvar.exp(), expected)


def test_every_pair_decides_for_itself() -> None:
    mu = torch.tensor([[0.0, 0.0], [0.0, 4.0], [0.0, 0.0], [4.0, 0.0]])
    shared, _ = shared_in_pairs(mu, torch.zeros(4, 2), num_pairs=2)
    assert torch.equal(shared, mu)
    apart, _ = shared_in_pairs(mu + torch.tensor([[0.0], [0.1], [0.0], [0.1]]), torch.zeros(4, 2), num_pairs=2)
    torch.testing.assert_close(apart[:, 0], torch.tensor([0.05, 0.05, 0.0, 4.1]))
    torch.testing.assert_close(apart[:, 1], torch.tensor([0.0, 4.1, 0.05, 0.05]))
