"""How far reconstructions are from the images."""

import numpy as np


def reconstruction(images: np.ndarray, reconstructions: np.ndarray) -> dict[str, float]:
    """Errors per pixel and channel of images [N, H, W, 3], uint8 or in [0, 1], on the scale [0, 1].

    `reconstruction_mse`, `reconstruction_mae`, `reconstruction_psnr` (dB, of the mean squared error over all images).
    """
    if images.shape != reconstructions.shape:
        raise ValueError(
            f"images {list(images.shape)} and reconstructions {list(reconstructions.shape)} differ in shape"
        )
    difference = _unit(images) - _unit(reconstructions)
    squared = float(np.square(difference).mean())
    return {
        "reconstruction_mse": squared,
        "reconstruction_mae": float(np.abs(difference).mean()),
        "reconstruction_psnr": float(-10 * np.log10(max(squared, 1e-12))),
    }


def _unit(images: np.ndarray) -> np.ndarray:
    return images.astype(np.float64) / 255 if images.dtype == np.uint8 else images.astype(np.float64)
