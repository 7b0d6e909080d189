"""Measures a trained model from what its run left: disentanglement, reconstruction, recovered relations."""

import numpy as np
import torch

from graphdrl.images import ImageSet, to_float
from graphdrl.metrics import evaluate_codes
from graphdrl.metrics.dci import DEFAULT_BACKEND
from graphdrl.models import GEM

_BATCH = 500


def measure(
    model: GEM, test: ImageSet, seed: int = 0, dci_backends: tuple[str, ...] = (DEFAULT_BACKEND,)
) -> dict[str, float | str]:
    """Disentanglement of the mean codes and reconstruction on images whose factors were drawn independently.

    Factors are the attributes that the test images have grades for; `test.grades` must not be None.
    """
    assert test.grades is not None
    codes, error = codes_and_error(model, test.images)
    found = evaluate_codes(codes, test.grades, test.attributes, seed, dci_backends=dci_backends)
    return {"reconstruction_mse": error} | found


def codes_and_error(model: GEM, images: np.ndarray) -> tuple[np.ndarray, float]:
    """Mean codes float32 [N, Z] of images uint8 [N, S, S, 3], and the mean squared error of a pixel in [0, 1]."""
    codes, errors = [], []
    with torch.inference_mode():
        for start in range(0, len(images), _BATCH):
            pixels = to_float(images[start : start + _BATCH])
            code = model.encode(pixels)
            codes.append(code.numpy())
            errors.append((model.decode(code) - pixels).square().mean(dim=(1, 2, 3)).numpy())
    return np.concatenate(codes), float(np.concatenate(errors).mean())
