"""What FID and KID see of images: a network that makes features of them."""

from pathlib import Path
from typing import Protocol

import numpy as np
import torch


class Features(Protocol):
    """A network by its name, which the figures of its features carry."""

    name: str

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Features float32 [N, D] of images uint8 [N, S, S, 3]."""
        ...


class InceptionFeatures:
    """Inception's pooled features from a TorchScript file, such as the `inception-2015-12-05.pt` of StyleGAN3.

    The file's module takes pixels uint8 [B, 3, S, S], scales them itself, and gives [B, D]; one that has the argument
    `return_features` is called with it. TorchScript is loaded without unpickling.
    Raises ValueError for a file that is not there or no TorchScript.
    """

    name = "inception"

    def __init__(self, path: Path | str, device: str = "cpu", batch_size: int = 50) -> None:
        if not Path(path).is_file():
            raise ValueError(f"there is no file {str(path)!r}: name the TorchScript file of an Inception network")
        try:
            self._network = torch.jit.load(str(path), map_location=device).eval()
        except RuntimeError as error:
            raise ValueError(
                f"{str(path)!r} is no TorchScript file: weights alone are not enough, write it by torch.jit.save"
            ) from error
        arguments = {argument.name for argument in self._network.forward.schema.arguments}
        self._options = {"return_features": True} if "return_features" in arguments else {}
        self._device, self._batch_size = device, batch_size

    @torch.inference_mode()
    def __call__(self, images: np.ndarray) -> np.ndarray:
        parts = []
        for start in range(0, len(images), self._batch_size):
            pixels = torch.from_numpy(np.array(images[start : start + self._batch_size])).permute(0, 3, 1, 2)
            parts.append(self._network(pixels.to(self._device), **self._options).float().flatten(1).cpu().numpy())
        return np.concatenate(parts)
