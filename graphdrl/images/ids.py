"""An image's identity is a hash of its pixels: the key of shards, of scores and of edges."""

import hashlib

import numpy as np


def image_id(pixels: np.ndarray) -> str:
    """Content hash of one image [H, W, 3] uint8: 32 hex digits of BLAKE2b over its shape and its pixels."""
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise ValueError(f"an image is uint8 [H, W, 3], not {pixels.dtype} {list(pixels.shape)}")
    digest = hashlib.blake2b(np.asarray(pixels.shape, "<u4").tobytes(), digest_size=16)
    digest.update(np.ascontiguousarray(pixels).tobytes())
    return digest.hexdigest()


def image_ids(images: np.ndarray) -> tuple[str, ...]:
    """Content hashes of a batch of images [B, H, W, 3] uint8."""
    return tuple(image_id(image) for image in images)
