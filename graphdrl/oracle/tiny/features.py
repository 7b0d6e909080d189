"""What the built-in model's vision tower sees in images, for FID and KID where no Inception network is at hand."""

import numpy as np
import torch
from transformers import AutoImageProcessor, AutoModelForImageTextToText

from graphdrl.oracle.identity import BUILTIN, model_folder


class VisionFeatures:
    """The last hidden states of the vision tower, mean over an image's patches: 128 features.

    They vary little from image to image, so distances are small: compare them with each other, never with Inception's.
    The tower was trained on faces and avatars; of other images it sees less. It is the built-in model's whatever model
    a run asks, so that figures of different runs can be compared.
    """

    name = "oracle"

    def __init__(self, device: str = "cpu", batch_size: int = 64) -> None:
        folder = model_folder(BUILTIN)
        self._processor = AutoImageProcessor.from_pretrained(folder)
        model = AutoModelForImageTextToText.from_pretrained(folder)
        self._tower = model.model.vision_model.eval().to(device)
        self._device, self._batch_size = device, batch_size

    @torch.inference_mode()
    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Features float32 [N, 128] of images uint8 [N, S, S, 3]; they are scaled to the tower's 64 x 64."""
        parts = []
        for start in range(0, len(images), self._batch_size):
            batch = [[np.array(image)] for image in images[start : start + self._batch_size]]
            pixels = self._processor(batch, return_tensors="pt")["pixel_values"].flatten(0, 1)
            parts.append(self._tower(pixel_values=pixels.to(self._device)).last_hidden_state.mean(1).cpu().numpy())
        return np.concatenate(parts)
