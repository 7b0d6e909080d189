"""Terms of the rivals' losses, against cases worked by hand and closed forms."""

import math

import pytest
import torch

from graphdrl.methods.losses import (
    factorised_support_distance,
    grade_regression,
    squared_off_identity,
    total_correlation,
)


def test_the_total_correlation_is_that_of_the_mixture_of_the_posteriors() -> None:
    torch.manual_seed(0)
    mu, logvar = torch.randn(7, 3), torch.randn(7, 3)
    z = mu + torch.randn(7, 3) * (0.5 * logvar).exp()
    densities = torch.distributions.Normal(mu[None], (0.5 * logvar).exp()[None]).log_prob(z[:, None]).exp()
    joint, marginals = densities.prod(2).mean(1), densities.mean(1).prod(1)
    # The estimator leaves out 1/B, once in the joint density and once in each of the three marginals.
    expected = (joint.log() - marginals.log()).mean() - 2 * math.log(7)
    torch.testing.assert_close(total_correlation(z, mu, logvar), expected)


def test_independent_codes_have_less_total_correlation_than_repeated_ones() -> None:
    torch.manual_seed(0)
    independent, logvar = torch.randn(256, 2), torch.full((256, 2), -4.0)
    repeated = independent[:, :1].expand(256, 2)
    assert total_correlation(repeated, repeated, logvar) > total_correlation(independent, independent, logvar) + 0.5


def test_the_squares_off_the_identity() -> None:
    off_diagonal, diagonal = squared_off_identity(torch.tensor([[1.0, 0.5], [0.5, 3.0]]))
    assert (off_diagonal.item(), diagonal.item()) == pytest.approx((0.5, 4.0))


def test_the_support_of_a_grid_is_factorised_and_that_of_a_diagonal_is_not() -> None:
    grid = torch.cartesian_prod(torch.arange(3.0), torch.arange(3.0))
    assert factorised_support_distance(grid).item() == pytest.approx(0, abs=1e-5)
    # The corner (0, 2) is missing: its nearest image on the diagonal is (1, 1).
    diagonal = torch.arange(3.0)[:, None].expand(3, 2)
    assert factorised_support_distance(diagonal).item() == pytest.approx(math.sqrt(2))


def test_the_distance_to_a_factorised_support_is_a_mean_over_pairs_and_has_a_gradient() -> None:
    line = torch.tensor([[0.0, 0.0, 0.0], [2.0, 2.0, 0.0]], requires_grad=True)
    distance = factorised_support_distance(line)
    assert distance.item() == pytest.approx(2 / 3)  # only the first two dimensions lack combinations
    distance.backward()
    assert line.grad.isfinite().all()
    assert line.grad.abs().sum() > 0


def test_grades_spread_evenly_are_regressed_as_unit_variance() -> None:
    grades = torch.linspace(0, 5, 1001)[:, None]
    assert grade_regression(torch.zeros(1001, 4), grades).item() == pytest.approx(1.0, abs=0.01)
    exact = (grades - 2.5) * math.sqrt(12) / 5
    assert grade_regression(torch.cat([exact, torch.ones(1001, 1)], 1), grades).item() == pytest.approx(0, abs=1e-9)
    assert grade_regression(torch.zeros(0, 4), torch.zeros(0, 1)).item() == 0
