"""Encoder, decoder and critic: sizes, precision and what they refuse."""

import pytest
import torch

from graphdrl.models import JointCritic
from graphdrl.models.decoders import ConvDecoder
from graphdrl.models.encoders import ConvEncoder


@pytest.mark.parametrize("image_size", [32, 64, 128, 256])
def test_encoder_and_decoder_meet_at_any_power_of_two(image_size: int) -> None:
    images = torch.rand(2, 3, image_size, image_size)
    mu, logvar = ConvEncoder(image_size, num_latents=5, base_channels=4)(images)
    assert mu.shape == logvar.shape == (2, 5)
    assert ConvDecoder(image_size, num_latents=5, base_channels=4)(mu).shape == images.shape


def test_conv_64_is_that_of_locatello_et_al() -> None:
    encoder, decoder = ConvEncoder(64, num_latents=10), ConvDecoder(64, num_latents=10)
    kernels = [tuple(layer.weight.shape) for layer in encoder.convolutions if hasattr(layer, "weight")]
    assert kernels == [(32, 3, 4, 4), (32, 32, 4, 4), (64, 32, 2, 2), (64, 64, 2, 2)]
    transposed = [tuple(layer.weight.shape) for layer in decoder.convolutions if hasattr(layer, "weight")]
    assert transposed == [(64, 64, 4, 4), (64, 32, 4, 4), (32, 32, 4, 4), (32, 3, 4, 4)]
    assert encoder.hidden.out_features == decoder.hidden.out_features == 256


@pytest.mark.parametrize("image_size", [16, 48, 100, 2048])
def test_other_sizes_are_refused_with_those_that_go(image_size: int) -> None:
    with pytest.raises(ValueError, match=rf"image_size is {image_size}.*32, 64, 128"):
        ConvEncoder(image_size, num_latents=5)


@pytest.mark.parametrize("image_size", [32, 128])
def test_critic_judges_image_and_code_together(image_size: int) -> None:
    torch.manual_seed(0)
    critic = JointCritic(image_size, num_latents=6)
    images, codes = torch.rand(4, 3, image_size, image_size), torch.randn(4, 6)
    logits = critic(images, codes)
    assert logits.shape == (4,)
    assert not torch.allclose(logits, critic(images, codes.flip(0)))
    assert not torch.allclose(logits, critic(images.flip(0), codes))
