"""Convolutional decoder (Locatello et al. 2019, conv-64), for any power-of-two image size."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from graphdrl.models.encoders import GRID, HIDDEN, keep_variance, num_scales


class ConvDecoder(nn.Module):
    """Codes [B, Z] to images [B, 3, S, S] in [0, 1].

    At 64 pixels: 256 units, 4 x 4 x 64, then transposed 4x4 convolutions 64, 32, 32, 3, all of stride 2, as in the
    table "Encoder and Decoder architecture" of Locatello et al. 2019. Larger images take more layers of 64.
    """

    def __init__(self, image_size: int, num_latents: int, base_channels: int = 32) -> None:
        super().__init__()
        self.convolutions, self.grid_channels = self.trunk(num_scales(image_size), base_channels)
        self.hidden = nn.Linear(num_latents, HIDDEN)
        self.grid = nn.Linear(HIDDEN, self.grid_channels * GRID * GRID)
        keep_variance(self, last=self.convolutions[-1])

    def trunk(self, scales: int, base_channels: int) -> tuple[nn.Sequential, int]:
        """The layers from the 4 x 4 grid to an image's logits, and the grid's channels."""
        grid_channels = 2 * base_channels
        widths = [2 * base_channels] * (scales - 3) + [base_channels] * 2
        layers: list[nn.Module] = []
        for inner, outer in zip([grid_channels, *widths], [*widths, 3], strict=True):
            layers += [nn.ConvTranspose2d(inner, outer, 4, stride=2, padding=1), nn.ReLU()]
        return nn.Sequential(*layers[:-1]), grid_channels

    def forward(self, codes: Float[Tensor, "B Z"]) -> Float[Tensor, "B 3 S S"]:
        hidden = torch.relu(self.hidden(codes))
        grid = torch.relu(self.grid(hidden)).unflatten(1, (self.grid_channels, GRID, GRID))
        logits = self.convolutions(grid.contiguous(memory_format=torch.channels_last))
        return torch.sigmoid(logits.float())
