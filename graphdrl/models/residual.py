"""Residual encoder and decoder (He et al. 2016), for images with more in them than conv-64 holds.

At 64 pixels and 32 base channels: blocks of 32, 64, 128 and 256, each at half of the resolution of the one before.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from graphdrl.models.decoders import ConvDecoder
from graphdrl.models.encoders import ConvEncoder

_WIDEST = 8
"""Blocks grow no wider than so many times the base channels."""


class ResidualBlock(nn.Module):
    """x + f(x), f two 3 x 3 convolutions whose second starts at zero; a 1 x 1 convolution where the width changes."""

    def __init__(self, inner: int, outer: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inner, outer, 3, padding=1)
        self.second = nn.Conv2d(outer, outer, 3, padding=1)
        self.skip = nn.Conv2d(inner, outer, 1) if inner != outer else nn.Identity()

    def rest(self) -> None:
        """Make f zero: the block passes on what it gets."""
        nn.init.zeros_(self.second.weight)

    def forward(self, features: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D H W"]:
        return self.skip(features) + self.second(torch.relu(self.first(torch.relu(features))))


class ResidualEncoder(ConvEncoder):
    """As `ConvEncoder`: a 3 x 3 convolution, then at every scale a block and a mean over 2 x 2."""

    def __init__(self, image_size: int, num_latents: int, base_channels: int = 32) -> None:
        super().__init__(image_size, num_latents, base_channels)
        _rest(self)

    def trunk(self, scales: int, base_channels: int) -> tuple[nn.Sequential, int]:
        widths = _widths(scales, base_channels)
        layers: list[nn.Module] = [nn.Conv2d(3, widths[0], 3, padding=1)]
        for inner, outer in zip([widths[0], *widths], widths, strict=False):
            layers += [ResidualBlock(inner, outer), nn.AvgPool2d(2)]
        return nn.Sequential(*layers, nn.ReLU()), widths[-1]


class ResidualDecoder(ConvDecoder):
    """As `ConvDecoder`: at every scale a doubling of the resolution and a block, then a 3 x 3 convolution."""

    def __init__(self, image_size: int, num_latents: int, base_channels: int = 32) -> None:
        super().__init__(image_size, num_latents, base_channels)
        _rest(self)

    def trunk(self, scales: int, base_channels: int) -> tuple[nn.Sequential, int]:
        widths = _widths(scales, base_channels)[::-1]
        layers: list[nn.Module] = []
        for inner, outer in zip([widths[0], *widths], widths, strict=False):
            layers += [nn.Upsample(scale_factor=2), ResidualBlock(inner, outer)]
        return nn.Sequential(*layers, nn.ReLU(), nn.Conv2d(widths[-1], 3, 3, padding=1)), widths[0]


def _widths(scales: int, base_channels: int) -> list[int]:
    """Channels of the blocks, the finest first."""
    return [base_channels * min(2**scale, _WIDEST) for scale in range(scales)]


def _rest(module: nn.Module) -> None:
    for block in module.modules():
        if isinstance(block, ResidualBlock):
            block.rest()
