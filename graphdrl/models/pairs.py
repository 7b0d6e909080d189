"""What two images of a pair have in common, as their posteriors say (Locatello et al. 2020, Ada-GVAE, section 5)."""

import torch
from jaxtyping import Float
from torch import Tensor


def shared_in_pairs(
    mu: Float[Tensor, "B Z"], logvar: Float[Tensor, "B Z"], num_pairs: int
) -> tuple[Float[Tensor, "B Z"], Float[Tensor, "B Z"]]:
    """Moments with those of the pairs (0, 1), (2, 3), ... averaged in the dimensions that the two seem to share.

    A dimension seems shared when the KL divergence between a pair's posteriors is below the middle between its least
    and its greatest over the pair's dimensions. Means are averaged, and so are variances. Rows after the pairs stay.
    """
    paired_mu, paired_logvar = (rows[: 2 * num_pairs].unflatten(0, (-1, 2)) for rows in (mu, logvar))
    variances = paired_logvar.exp()
    with torch.no_grad():
        apart = (paired_mu[:, 0] - paired_mu[:, 1]).square() / variances[:, 1]
        ratio = variances[:, 0] / variances[:, 1]
        divergence = 0.5 * (apart + ratio - 1 - ratio.log())
        middle = 0.5 * (divergence.amin(1, keepdim=True) + divergence.amax(1, keepdim=True))
        shared = (divergence < middle)[:, None]
    averaged_mu = torch.where(shared, paired_mu.mean(1, keepdim=True), paired_mu)
    averaged_logvar = torch.where(shared, variances.mean(1, keepdim=True).log(), paired_logvar)
    return (
        torch.cat([averaged_mu.flatten(0, 1), mu[2 * num_pairs :]]),
        torch.cat([averaged_logvar.flatten(0, 1), logvar[2 * num_pairs :]]),
    )
