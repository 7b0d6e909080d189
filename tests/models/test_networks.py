"""Encoder, decoder and critic: sizes, precision and what they refuse."""

import pytest
import torch

from graphdrl.models import GEM, GEMConfig, JointCritic
from graphdrl.models.decoders import ConvDecoder
from graphdrl.models.encoders import ConvEncoder
from graphdrl.models.gem import NETWORKS
from graphdrl.models.residual import ResidualBlock, ResidualEncoder


@pytest.mark.parametrize("image_size", [32, 64, 128, 256])
@pytest.mark.parametrize("architecture", NETWORKS)
def test_encoder_and_decoder_meet_at_any_power_of_two(architecture: str, image_size: int) -> None:
    encoder, decoder = NETWORKS[architecture]
    images = torch.rand(2, 3, image_size, image_size)
    mu, logvar = encoder(image_size, num_latents=5, base_channels=4)(images)
    assert mu.shape == logvar.shape == (2, 5)
    assert decoder(image_size, num_latents=5, base_channels=4)(mu).shape == images.shape


def test_residual_blocks_double_and_start_at_rest() -> None:
    encoder = ResidualEncoder(64, num_latents=10)
    blocks = [layer for layer in encoder.convolutions if isinstance(layer, ResidualBlock)]
    assert [block.second.out_channels for block in blocks] == [32, 64, 128, 256]
    features = torch.rand(1, 32, 8, 8)
    torch.testing.assert_close(blocks[0](features), features + blocks[0].second.bias[:, None, None])


def test_blocks_at_rest_learn() -> None:
    torch.manual_seed(0)
    model = GEM(GEMConfig(image_size=32, num_latents=6, base_channels=8, architecture="residual"))
    images = torch.rand(8, 3, 1, 1).expand(8, 3, 32, 32).contiguous()
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    errors = []
    for _ in range(60):
        outputs = model(images, torch.zeros(8, 6), torch.zeros(0, 6))
        error = (outputs.reconstruction - images).square().mean()
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        errors.append(error.item())
    assert errors[-1] < errors[0] / 2


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
