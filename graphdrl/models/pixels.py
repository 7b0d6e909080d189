"""Images as people hold them, made into what the networks take."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

Pixels = Tensor | np.ndarray
"""Float [B, 3, S, S] in [0, 1], or uint8 [B, S, S, 3] as images are stored."""


def as_images(pixels: Pixels, image_size: int, device: torch.device) -> Float[Tensor, "B 3 S S"]:
    """Float images [B, 3, S, S] in [0, 1] on `device`; raises ValueError naming what was given and what is taken."""
    images = pixels if isinstance(pixels, Tensor) else torch.from_numpy(np.array(pixels))
    given = f"{images.dtype} {list(images.shape)}"
    if images.dtype == torch.uint8 and images.ndim == 4:
        images = images.permute(0, 3, 1, 2).to(device).float() / 255
    if images.ndim != 4 or tuple(images.shape[1:]) != (3, image_size, image_size) or not images.is_floating_point():
        side = f"{image_size}, {image_size}"
        raise ValueError(
            f"images are {given}, but this model takes float [B, 3, {side}] in 0..1 or uint8 [B, {side}, 3]"
        )
    return images.to(device, torch.float32)
