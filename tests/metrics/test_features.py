from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from graphdrl.metrics.features import InceptionFeatures


class Channels(nn.Module):
    """A stand-in for Inception: the mean of each channel."""

    def forward(self, images: Tensor) -> Tensor:
        return images.float().mean([2, 3])


class Classifier(nn.Module):
    """One that gives features only when asked for them, as StyleGAN3's file does."""

    def forward(self, images: Tensor, return_features: bool = False) -> Tensor:
        features = images.float().mean([2, 3])
        return features if return_features else features.softmax(1)


@pytest.mark.parametrize("network", [Channels(), Classifier()])
def test_features_are_what_the_file_computes_of_pixels(tmp_path: Path, network: nn.Module) -> None:
    torch.jit.script(network).save(str(tmp_path / "network.pt"))
    images = np.random.default_rng(0).integers(0, 256, (7, 8, 8, 3), dtype=np.uint8)
    features = InceptionFeatures(tmp_path / "network.pt", batch_size=3)
    assert features.name == "inception"
    np.testing.assert_allclose(features(images), images.mean(axis=(1, 2)), rtol=1e-6)


def test_what_is_no_torchscript_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no file"):
        InceptionFeatures(tmp_path / "missing.pt")
    torch.save({"weights": torch.zeros(3)}, tmp_path / "weights.pt")
    with pytest.raises(ValueError, match="is no TorchScript file"):
        InceptionFeatures(tmp_path / "weights.pt")
