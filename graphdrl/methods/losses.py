"""Losses as pure functions; each is a mean over images, groups or pairs of one share, so shares of one size average.

B images, Z latent dimensions, K attributes, G groups of g scored images.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import softplus


def gaussian_kl(mu: Float[Tensor, "B Z"], logvar: Float[Tensor, "B Z"]) -> Tensor:
    """KL(N(mu, sigma^2) || N(0, I)) in nats, summed over dimensions, mean over images."""
    return 0.5 * (mu.square() + logvar.exp() - logvar - 1).sum(1).mean()


def squared_error(reconstruction: Float[Tensor, "B C S S"], images: Float[Tensor, "B C S S"]) -> Tensor:
    """Squared error summed over an image's pixels and channels, mean over images, in float32."""
    return (reconstruction.float() - images.float()).square().sum((1, 2, 3)).mean()


def rank_loss(
    values: Float[Tensor, "N K"],
    grades: Float[Tensor, "N K"],
    pair_scale: Float[Tensor, " K"],
    group_size: int,
    margin: float,
) -> Tensor:
    """Which of two images has more of an attribute: softplus(-(mu_a - mu_b) sign(s_a - s_b)), summed over attributes.

    The rank pairing of Shu et al. 2020. Pairs are formed inside a group of `group_size`; pairs whose grades differ by
    less than `margin` are ties and left out. An attribute's sum over its untied pairs is divided by the number of all
    pairs and multiplied by `pair_scale`, the inverse of the untied share in the whole data: a constant, so that groups
    average exactly however they lie on the ranks. 0 without scored images.
    """
    if not len(values):
        return values.sum()
    values, grades = (rows.unflatten(0, (-1, group_size)) for rows in (values, grades))
    first, second = torch.triu_indices(group_size, group_size, offset=1, device=values.device)
    difference = values[:, first] - values[:, second]
    graded = grades[:, first] - grades[:, second]
    untied = graded.abs() >= margin
    losses = softplus(-difference * graded.sign()) * untied
    return (losses.mean((0, 1)) * pair_scale).sum()


def untied_share(grades: Float[Tensor, "N K"], probability: Float[Tensor, " N"], margin: float) -> Float[Tensor, " K"]:
    """Probability that two images, each drawn with `probability`, differ by `margin` or more in each attribute."""
    order = grades.double().argsort(0)
    ordered = grades.double().gather(0, order).T.contiguous()
    weights = probability.double()[order].T
    below = torch.cat([torch.zeros(len(weights), 1, dtype=torch.float64), weights.cumsum(1)], dim=1)
    lower = torch.searchsorted(ordered, ordered - margin, right=True)
    return 2 * (weights * below.gather(1, lower)).sum(1).float()


def pair_scale(grades: Float[Tensor, "N K"], probability: Float[Tensor, " N"], margin: float) -> Float[Tensor, " K"]:
    """1 / share of untied pairs, for `rank_loss`.

    Bounded at 50: an attribute that hardly ever differs must not drown the others through its few pairs.
    """
    return 1.0 / untied_share(grades, probability, margin).clamp(min=0.02)


def critic_loss(encoder_logits: Float[Tensor, " B"], decoder_logits: Float[Tensor, " P"]) -> Tensor:
    """Trains D towards log q(x, z) / p(x, z): softplus(-D) on encoder pairs, softplus(D) on decoder pairs."""
    return softplus(-encoder_logits).mean() + softplus(decoder_logits).mean()


def joint_divergence(encoder_logits: Float[Tensor, " B"], decoder_logits: Float[Tensor, " P"]) -> Tensor:
    """What the encoder and the decoder lower to bring their joint distributions together, given the critic's D.

    The encoder lowers E_q[D], the estimate of KL(q(x, z) || p(x, z)); the decoder lowers E_p[-D], that of the reverse
    divergence, whose gradient needs no weights exp(D) and so cannot blow up (see Shen et al. 2022 for the weighted
    form).
    """
    return encoder_logits.mean() - decoder_logits.mean()
