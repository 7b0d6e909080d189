"""Images that a model makes, in batches: what is compared with the images that it was trained on."""

import numpy as np
import torch

from graphdrl.images import to_uint8
from graphdrl.models import GEM

_BATCH = 250


def reconstructions(model: GEM, images: np.ndarray) -> np.ndarray:
    """Images uint8 [N, S, S, 3] as the model sees them, of the same shape."""
    starts = range(0, len(images), _BATCH)
    with torch.inference_mode():
        return np.concatenate([to_uint8(model.reconstruct(images[start : start + _BATCH])) for start in starts])


def samples(model: GEM, num: int, seed: int = 0) -> np.ndarray:
    """New images uint8 [num, S, S, 3], drawn as `GEM.sample` draws them: related where the model has relations."""
    sizes = [min(_BATCH, num - start) for start in range(0, num, _BATCH)]
    seeds = np.random.SeedSequence(seed).generate_state(len(sizes))
    with torch.inference_mode():
        parts = [to_uint8(model.sample(size, int(own))) for size, own in zip(sizes, seeds, strict=True)]
    return np.concatenate(parts)
