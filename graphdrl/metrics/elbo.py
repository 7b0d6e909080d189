"""The evidence lower bound of an image, in nats, so that models trained with different losses can be compared.

p(x | z) is normal around the decoder's image with one fixed variance, 1 / 6 (sigma 0.41), for every pixel and channel
of intensity in [0, 1]. With it the bound is, up to its constant, what our methods maximise at their default weights:
3 times the squared error (3 = 1 / (2 * 1 / 6)) plus once the KL divergence. Whatever beta or reconstruction weight a
model was trained with, it is measured by this one model of observation and with beta 1.
"""

import math

import numpy as np

OBSERVATION_VARIANCE = 1.0 / 6.0


def elbo(squared_error: np.ndarray, kl: np.ndarray, num_values: int) -> np.ndarray:
    """E_q[log p(x | z)] - KL(q(z | x) || p(z)) in nats, [N]; higher is better.

    squared_error: [N], of the image decoded from one draw z ~ q(z | x), summed over its `num_values` pixels and
    channels. kl: [N, Z] or [N], in nats. log p is a density of intensities, so the bound may be above 0.
    """
    divergence = kl.sum(axis=1) if kl.ndim == 2 else kl
    constant = 0.5 * num_values * math.log(2 * math.pi * OBSERVATION_VARIANCE)
    return -squared_error / (2 * OBSERVATION_VARIANCE) - constant - divergence


def kl_per_dimension(mu: np.ndarray, logvar: np.ndarray) -> np.ndarray:
    """KL(N(mu, sigma^2) || N(0, 1)) of each dimension in nats, [N, Z]; logvar is log sigma^2."""
    return 0.5 * (np.square(mu) + np.exp(logvar) - logvar - 1)
