"""Gaussian convolutional encoder (Locatello et al. 2019, conv-64), for any power-of-two image size."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

SMALLEST_SIZE = 32
LARGEST_SIZE = 1024
GRID = 4
"""The convolutions stop at a grid of 4 x 4."""
HIDDEN = 256
FIRST_LOGVAR = -4.0
"""log sigma^2 before training: codes that carry something from the first step, where unit noise would drown them."""


def num_scales(image_size: int) -> int:
    """How many stride-2 layers lie between an image and the 4 x 4 grid: 4 at 64 pixels.

    Raises ValueError for a size that is no power of two between 32 and 1,024.
    """
    if not SMALLEST_SIZE <= image_size <= LARGEST_SIZE or image_size & (image_size - 1):
        sizes = ", ".join(str(2**power) for power in range(5, 11))
        raise ValueError(
            f"image_size is {image_size}, but the encoder halves an image down to 4 x 4: take one of {sizes}"
        )
    return image_size.bit_length() - 3


@torch.no_grad()
def keep_variance(module: nn.Module, last: nn.Module) -> None:
    """Initialise weights so that signals keep their variance through ReLU layers (He et al. 2015); biases are 0.

    last: the output layer, which no ReLU follows. A pixel of a transposed 4 x 4 convolution of stride 2 sums 4 taps.
    torch's own default shrinks signals layer by layer, which costs hundreds of steps at this depth.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            taps = 4 * layer.in_channels if isinstance(layer, nn.ConvTranspose2d) else layer.weight[0].numel()
            gain = 1.0 if layer is last else 2.0
            layer.weight.normal_(0.0, (gain / taps) ** 0.5)
            if layer.bias is not None:
                layer.bias.zero_()


class ConvEncoder(nn.Module):
    """q(z | x) = N(mu, diag(sigma^2)): images [B, 3, S, S] in [0, 1] to mu and log sigma^2, both [B, Z].

    At 64 pixels: convolutions 32 (4x4), 32 (4x4), 64 (2x2), 64 (2x2), all of stride 2, then 256 units, as in the
    table "Encoder and Decoder architecture" of Locatello et al. 2019. Larger images take more layers of 64.
    """

    def __init__(self, image_size: int, num_latents: int, base_channels: int = 32) -> None:
        super().__init__()
        self.convolutions, channels = self.trunk(num_scales(image_size), base_channels)
        self.hidden = nn.Linear(channels * GRID * GRID, HIDDEN)
        self.moments = nn.Linear(HIDDEN, 2 * num_latents)
        keep_variance(self, last=self.moments)
        with torch.no_grad():
            self.moments.weight[num_latents:].mul_(0.1)
            self.moments.bias[num_latents:].fill_(FIRST_LOGVAR)

    def trunk(self, scales: int, base_channels: int) -> tuple[nn.Sequential, int]:
        """The layers from an image to the 4 x 4 grid, and the grid's channels."""
        layers: list[nn.Module] = []
        channels = 3
        for scale in range(scales):
            early = scale < 2
            width = base_channels if early else 2 * base_channels
            layers += [nn.Conv2d(channels, width, 4 if early else 2, stride=2, padding=1 if early else 0), nn.ReLU()]
            channels = width
        return nn.Sequential(*layers), channels

    def forward(self, images: Float[Tensor, "B 3 S S"]) -> tuple[Float[Tensor, "B Z"], Float[Tensor, "B Z"]]:
        features = self.convolutions(images).flatten(1)
        moments = self.moments(torch.relu(self.hidden(features)))
        mu, logvar = moments.float().chunk(2, dim=1)
        return mu, logvar
