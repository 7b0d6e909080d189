"""What a trained model says of images without anybody's labels: codes, KL by dimension, evidence lower bound."""

from dataclasses import dataclass

import numpy as np
import torch

from graphdrl.images import to_float
from graphdrl.metrics.elbo import elbo, kl_per_dimension
from graphdrl.models import GEM

_BATCH = 500


@dataclass(frozen=True)
class Posterior:
    """codes: float32 [N, Z], means. kl: float64 [Z], nats, mean over images; `codes` and `kl` are what UDR takes.

    elbo: nats an image, mean over images; see `graphdrl.metrics.elbo` for the model of observation.
    """

    codes: np.ndarray
    kl: np.ndarray
    elbo: float


def posterior(model: GEM, images: np.ndarray, seed: int = 0) -> Posterior:
    """Encode and decode images uint8 [N, S, S, 3] once; one draw of the code for each image, a function of `seed`."""
    generator = torch.Generator().manual_seed(seed)
    codes, divergences, bounds = [], [], []
    for start in range(0, len(images), _BATCH):
        mu, kl, error = _encoded(model, images[start : start + _BATCH], generator)
        codes.append(mu)
        divergences.append(kl)
        bounds.append(elbo(error, kl, int(np.prod(images.shape[1:]))))
    kl = np.concatenate(divergences).mean(axis=0)
    return Posterior(np.concatenate(codes), kl, float(np.concatenate(bounds).mean()))


@torch.inference_mode()
def _encoded(model: GEM, images: np.ndarray, generator: torch.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean codes [B, Z], KL [B, Z], and the summed squared error [B] of the image decoded from one draw."""
    device = model.code_mean.device
    pixels = to_float(images, device)
    noise = torch.randn(len(images), model.config.num_latents, generator=generator).to(device)
    outputs = model(pixels, noise, noise[:0])
    error = (outputs.reconstruction.double() - pixels).square().sum((1, 2, 3))
    mu, logvar = outputs.mu.float().cpu().numpy(), outputs.logvar.double().cpu().numpy()
    return mu, kl_per_dimension(mu.astype(np.float64), logvar), error.cpu().numpy()
