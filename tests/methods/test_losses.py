"""Losses against torch's own distributions and against cases worked by hand."""

import pytest
import torch
from torch.distributions import Normal, kl_divergence
from torch.nn.functional import softplus

from graphdrl.methods.losses import (
    critic_loss,
    gaussian_kl,
    grade_trust,
    joint_divergence,
    pair_scale,
    rank_loss,
    squared_error,
)


def test_kl_equals_that_of_torch_distributions() -> None:
    torch.manual_seed(0)
    mu, logvar = torch.randn(6, 4), torch.randn(6, 4)
    exact = kl_divergence(Normal(mu, (0.5 * logvar).exp()), Normal(0.0, 1.0)).sum(1).mean()
    torch.testing.assert_close(gaussian_kl(mu, logvar), exact)


def test_squared_error_is_summed_over_an_image_and_averaged_over_images() -> None:
    images = torch.zeros(2, 3, 4, 4)
    reconstruction = torch.stack([torch.full((3, 4, 4), 0.5), torch.zeros(3, 4, 4)])
    assert squared_error(reconstruction, images).item() == pytest.approx(48 * 0.25 / 2)


def test_rank_loss_against_a_case_worked_by_hand() -> None:
    values = torch.tensor([[1.0], [3.0], [2.0]])
    grades = torch.tensor([[0.0], [4.0], [4.2]])
    # Pairs: (0, 1) ordered rightly by 2, (0, 2) rightly by 1, (1, 2) tied; divided by all three pairs, scaled by 1.5.
    expected = 1.5 / 3 * (softplus(torch.tensor(-2.0)) + softplus(torch.tensor(-1.0)))
    torch.testing.assert_close(rank_loss(values, grades, torch.tensor([1.5]), 3, margin=0.5), expected)
    reversed_order = 1.5 / 3 * (softplus(torch.tensor(2.0)) + softplus(torch.tensor(1.0)))
    torch.testing.assert_close(rank_loss(-values, grades, torch.tensor([1.5]), 3, margin=0.5), reversed_order)


def test_rank_loss_pairs_inside_groups_only() -> None:
    values, grades = torch.randn(6, 2), torch.rand(6, 2) * 5
    scale = torch.tensor([1.0, 2.0])
    groups = [rank_loss(values[rows], grades[rows], scale, 3, 0.5) for rows in (slice(0, 3), slice(3, 6))]
    torch.testing.assert_close(rank_loss(values, grades, scale, 3, 0.5), sum(groups) / 2)


def test_rank_loss_depends_on_the_order_of_grades_alone() -> None:
    values, grades = torch.randn(8, 2), torch.rand(8, 2).mul(5).round()
    scale = torch.ones(2)
    torch.testing.assert_close(
        rank_loss(values, grades, scale, 8, 0.5), rank_loss(values, grades**2 + grades, scale, 8, 0.5)
    )


def test_temperature_moves_the_bend_and_leaves_the_pull_where_two_images_meet() -> None:
    values, grades = torch.tensor([[0.3], [0.3], [-5.0]], requires_grad=True), torch.tensor([[0.0], [5.0], [0.0]])

    def pulls(temperature: float) -> torch.Tensor:
        loss = rank_loss(values, grades, torch.ones(1), 3, 0.5, temperature)
        (gradient,) = torch.autograd.grad(loss, values)
        return gradient[:, 0]

    # Pairs (0, 1) and (1, 2), of three: T softplus(-d / T) has the slope -sigmoid(-d / T).
    for temperature in (1.0, 4.0):
        meets, apart = 0.5, torch.sigmoid(torch.tensor(-5.3 / temperature))
        expected = torch.tensor([meets, -meets - apart, apart]) / 3
        torch.testing.assert_close(pulls(temperature), expected)


def test_trust_moves_weight_between_pairs_and_takes_none_away() -> None:
    values, grades = torch.tensor([[0.0], [1.0], [3.0]]), torch.tensor([[0.0], [2.0], [4.0]])
    trust = torch.tensor([[1.0], [1.0], [0.5]])
    # Pairs (0, 1), (0, 2), (1, 2) count 1, 1/2, 1/2; over their mean 3/2, 3/4, 3/4.
    ordered = softplus(torch.tensor([-1.0, -3.0, -2.0]))
    expected = (ordered * torch.tensor([1.5, 0.75, 0.75])).sum() / 3
    torch.testing.assert_close(rank_loss(values, grades, torch.ones(1), 3, 0.5, trust=trust), expected)
    plain = rank_loss(values, grades, torch.ones(1), 3, 0.5)
    torch.testing.assert_close(rank_loss(values, grades, torch.ones(1), 3, 0.5, trust=trust * 0 + 0.3), plain)
    nobody = rank_loss(values, grades, torch.ones(1), 3, 0.5, trust=trust * 0)
    assert nobody.item() == 0


def test_a_grade_that_a_sure_model_contradicts_is_doubted_and_no_other() -> None:
    torch.manual_seed(0)
    codes = torch.linspace(-2, 2, 24)[:, None].repeat(1, 2)
    grades = (1.25 * (codes + 2) + 0.2 * torch.randn(24, 2)).clamp(0, 5)
    grades[3, 0] = 5.0
    trust = grade_trust(codes, grades, 24, slips=0.2)
    assert trust[3, 0] < 0.01
    assert trust[:3].min() > 0.9
    assert trust[:, 1].min() > 0.9
    torch.testing.assert_close(grade_trust(codes, grades, 24, slips=0.0), torch.ones(24, 2))


def test_a_code_that_says_nothing_of_its_attribute_leaves_its_grades_believed() -> None:
    torch.manual_seed(0)
    trust = grade_trust(torch.randn(240, 1), torch.randint(0, 6, (240, 1)).float(), 240, slips=0.2)
    assert trust.min() > 0.3
    assert trust.mean() > 0.7


def test_trust_depends_on_no_other_group() -> None:
    torch.manual_seed(0)
    codes, grades = torch.randn(16, 3), torch.randint(0, 6, (16, 3)).float()
    both = grade_trust(codes, grades, 8, slips=0.2)
    torch.testing.assert_close(both[:8], grade_trust(codes[:8], grades[:8], 8, slips=0.2))
    torch.testing.assert_close(both[8:], grade_trust(codes[8:], grades[8:], 8, slips=0.2))
    assert not grade_trust(torch.zeros(0, 3), torch.zeros(0, 3), 8, slips=0.2).numel()


def test_without_scored_images_the_rank_loss_is_zero_and_has_a_gradient() -> None:
    values = torch.zeros(0, 2, requires_grad=True)
    loss = rank_loss(values, torch.zeros(0, 2), torch.ones(2), 24, 0.5)
    loss.backward()
    assert loss.item() == 0


def test_pair_scale_is_the_inverse_share_of_untied_pairs() -> None:
    grades = torch.tensor([[0.0, 2.0], [0.2, 2.0], [1.0, 2.0], [5.0, 2.0]])
    probability = torch.tensor([0.1, 0.2, 0.3, 0.4])
    shares = [0.0, 0.0]
    for first in range(4):
        for second in range(4):
            weight = float(probability[first] * probability[second])
            for attribute in range(2):
                if abs(grades[first, attribute] - grades[second, attribute]) >= 0.5:
                    shares[attribute] += weight
    scale = pair_scale(grades, probability, margin=0.5)
    assert scale[0].item() == pytest.approx(1 / shares[0])
    assert shares[1] == 0
    assert scale[1].item() == pytest.approx(50), "an attribute that never differs stays bounded"


def test_pair_scale_makes_an_order_at_random_cost_log_2_per_attribute() -> None:
    torch.manual_seed(0)
    grades = torch.rand(64, 3).mul(5) * torch.tensor([1.0, 0.2, 0.5])
    scale = pair_scale(grades, torch.full((64,), 1 / 64), 0.5)
    # The share counts an image paired with itself, a group does not.
    loss = rank_loss(torch.zeros(64, 3), grades, scale, 64, 0.5) * 63 / 64
    assert loss.item() == pytest.approx(3 * torch.log(torch.tensor(2.0)).item(), rel=1e-4)


def test_the_critics_optimum_is_the_log_ratio_of_the_joints() -> None:
    encoder, decoder = torch.tensor([0.6, 0.4]), torch.tensor([0.2, 0.8])  # q and p over two pairs (x, z)
    logits = (encoder / decoder).log().requires_grad_()
    # Expectations over pairs become sums with their probabilities: repeat pairs in proportion.
    loss = critic_loss(logits.repeat_interleave(torch.tensor([3, 2])), logits.repeat_interleave(torch.tensor([1, 4])))
    (gradient,) = torch.autograd.grad(loss, logits)
    torch.testing.assert_close(gradient, torch.zeros(2), atol=1e-6, rtol=0)
    exact = (encoder * (encoder / decoder).log()).sum() + (decoder * (decoder / encoder).log()).sum()
    estimate = joint_divergence(
        logits.repeat_interleave(torch.tensor([3, 2])), logits.repeat_interleave(torch.tensor([1, 4]))
    )
    torch.testing.assert_close(estimate, exact)
