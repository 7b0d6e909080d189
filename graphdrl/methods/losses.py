"""Losses as pure functions; each is a mean over images, groups or pairs of one share, so shares of one size average.

B images, Z latent dimensions, K attributes, G groups of g scored images.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import softplus

_SMALLEST_SQUARE = 1e-12
"""Below it a distance is 0 and its root would have no finite gradient."""
_HIGHEST_GRADE = 5
_TRUST_ROUNDS = 4
_LEAST_GRADE_NOISE = 0.75
"""Standard deviation in grades below which no misfit is noise: grades are not proportional to codes."""
_LEAST_TRUST = 1e-6


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
    temperature: float = 1.0,
    trust: Float[Tensor, "N K"] | None = None,
) -> Tensor:
    """Which of two images has more of an attribute: T softplus(-(mu_a - mu_b) sign(s_a - s_b) / T), over attributes.

    The rank pairing of Shu et al. 2020. Pairs are formed inside a group of `group_size`; pairs whose grades differ by
    less than `margin` are ties and left out. An attribute's sum over its untied pairs is divided by the number of all
    pairs and multiplied by `pair_scale`, the inverse of the untied share in the whole data: a constant, so that groups
    average exactly however they lie on the ranks. 0 without scored images.

    temperature: T; the higher, the farther apart two images are still pulled, at the same pull where they meet.
    trust: how far each grade is believed; a pair counts by the product of its two, over the mean of a group's untied
    pairs, so that doubt moves weight from pair to pair and takes none away.
    """
    if not len(values):
        return values.sum()
    values, grades = (rows.unflatten(0, (-1, group_size)) for rows in (values, grades))
    first, second = torch.triu_indices(group_size, group_size, offset=1, device=values.device)
    difference = values[:, first] - values[:, second]
    graded = grades[:, first] - grades[:, second]
    weights = (graded.abs() >= margin).to(values.dtype)
    if trust is not None:
        trust = trust.unflatten(0, (-1, group_size))
        believed = weights * trust[:, first] * trust[:, second]
        weights = believed * weights.sum(1, keepdim=True) / believed.sum(1, keepdim=True).clamp(min=_LEAST_TRUST)
    losses = temperature * softplus(-difference * graded.sign() / temperature) * weights
    return (losses.mean((0, 1)) * pair_scale).sum()


@torch.no_grad()
def grade_trust(
    values: Float[Tensor, "N K"], grades: Float[Tensor, "N K"], group_size: int, slips: float
) -> Float[Tensor, "N K"]:
    """Probability that a grade 0..5 is meant and no slip, given the codes of all the images of its group.

    In a group, an attribute's grades are taken for a line of its codes with normal noise, or, with probability `slips`
    and whatever the image shows, for any of the six alike (a mixture as in Hogg et al. 2010, section 3); the line is
    fitted by a few rounds of expectation and maximisation. A code that says little of its attribute leaves the noise
    wide and every grade believed: what is doubted is what the model, sure of all others, contradicts.
    """
    if not len(values):
        return torch.ones_like(values)
    values, grades = (rows.unflatten(0, (-1, group_size)) for rows in (values, grades))
    trust = torch.ones_like(values)
    for _ in range(_TRUST_ROUNDS):
        total = trust.sum(1, keepdim=True)
        codes = values - (trust * values).sum(1, keepdim=True) / total
        mean = (trust * grades).sum(1, keepdim=True) / total
        spread = (trust * codes.square()).sum(1, keepdim=True).clamp(min=_SMALLEST_SQUARE)
        slope = (trust * codes * (grades - mean)).sum(1, keepdim=True) / spread
        missed = grades - (mean + slope.clamp(min=0) * codes).clamp(0, _HIGHEST_GRADE)
        variance = ((trust * missed.square()).sum(1, keepdim=True) / total).clamp(min=_LEAST_GRADE_NOISE**2)
        meant = (1 - slips) * torch.exp(-missed.square() / (2 * variance)) / (2 * math.pi * variance).sqrt()
        trust = meant / (meant + slips / (_HIGHEST_GRADE + 1))
    return trust.flatten(0, 1)


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


def told_apart(encoder_logits: Float[Tensor, " B"], decoder_logits: Float[Tensor, " P"]) -> dict[str, Tensor]:
    """A critic's loss as "total", and the share of pairs that it tells apart as "accuracy"."""
    accuracy = 0.5 * ((encoder_logits > 0).float().mean() + (decoder_logits < 0).float().mean())
    return {"total": critic_loss(encoder_logits, decoder_logits), "accuracy": accuracy}


def joint_divergence(encoder_logits: Float[Tensor, " B"], decoder_logits: Float[Tensor, " P"]) -> Tensor:
    """What the encoder and the decoder lower to bring their joint distributions together, given the critic's D.

    The encoder lowers E_q[D], the estimate of KL(q(x, z) || p(x, z)); the decoder lowers E_p[-D], that of the reverse
    divergence, whose gradient needs no weights exp(D) and so cannot blow up (see Shen et al. 2022 for the weighted
    form).
    """
    return encoder_logits.mean() - decoder_logits.mean()


def total_correlation(z: Float[Tensor, "B Z"], mu: Float[Tensor, "B Z"], logvar: Float[Tensor, "B Z"]) -> Tensor:
    """KL(q(z) || prod_j q(z_j)) in nats, up to a constant, with q(z) the mixture of this batch's posteriors.

    Minibatch weighted sampling (Chen et al. 2018, section 4.1); the constants of the estimator have no gradient.
    """
    deviation = z[:, None] - mu[None]
    log_density = -0.5 * (deviation.square() * (-logvar).exp()[None] + logvar[None] + math.log(2 * math.pi))
    joint = log_density.sum(2).logsumexp(1)
    marginals = log_density.logsumexp(1).sum(1)
    return (joint - marginals).mean()


def squared_off_identity(covariance: Float[Tensor, "Z Z"]) -> tuple[Tensor, Tensor]:
    """Squares of the covariances, and of the variances less 1, both summed (Kumar et al. 2018, section 3)."""
    diagonal = covariance.diagonal()
    return covariance.square().sum() - diagonal.square().sum(), (diagonal - 1).square().sum()


def factorised_support_distance(codes: Float[Tensor, "B Z"]) -> Tensor:
    """Hausdorff distance from the combinations of any two dimensions' values to the batch, mean over pairs.

    The pairwise Monte-Carlo form of Roth et al. 2023 (section 4.1): of all combinations (z_i of one image, z_j of
    another) the farthest from any image's own (z_i, z_j). All B^2 combinations of a pair are looked at.
    """
    first, second = torch.triu_indices(codes.shape[1], codes.shape[1], offset=1, device=codes.device)
    apart = (codes[:, None] - codes[None]).square().permute(2, 0, 1)  # [Z, combined, own]
    across, down = apart[first], apart[second]
    with torch.no_grad():
        distances, own = (across[:, :, None] + down[:, None]).min(dim=3)
        farthest = distances.flatten(1).argmax(1)
        image = own.flatten(1).gather(1, farthest[:, None])[:, 0]
    pair = torch.arange(len(first), device=codes.device)
    squares = across[pair, farthest // len(codes), image] + down[pair, farthest % len(codes), image]
    return squares.clamp(min=_SMALLEST_SQUARE).sqrt().mean()


def grade_regression(mu: Float[Tensor, "N Z"], grades: Float[Tensor, "N K"]) -> Tensor:
    """Squared error of the first K mean codes, mean over images, summed over attributes; 0 without scored images.

    The grades 0..5 are moved and scaled so that grades spread evenly have mean 0 and variance 1, as the prior has.
    """
    values = mu[:, : grades.shape[1]]
    if not len(values):
        return values.sum()
    return (values - (grades - 2.5) * math.sqrt(12) / 5).square().mean(0).sum()
