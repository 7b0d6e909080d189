"""Critics: of images with their codes (bidirectional GAN: Donahue et al. 2017; Dumoulin et al. 2017), and of codes."""

from itertools import pairwise

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, leaky_relu

from graphdrl.models.encoders import GRID, num_scales

SEEN_SIZE = 32
"""The critic looks at images shrunk to this size: coarse structure and codes, not a decoder's blur, decide."""


class JointCritic(nn.Module):
    """D(x, z): images [B, 3, S, S] and codes [B, Z] to logits [B].

    Trained by softplus(-D) on encoder pairs and softplus(D) on decoder pairs, its optimum is log q(x, z) / p(x, z).
    A pair costs about an eighth of the multiply-adds of encoder and decoder together.
    """

    def __init__(self, image_size: int, num_latents: int, width: int = 24, hidden: int = 128) -> None:
        super().__init__()
        num_scales(image_size)  # refuses sizes that cannot be shrunk to 32
        self.shrink = image_size // SEEN_SIZE
        self.convolutions = nn.ModuleList(
            nn.Conv2d(inner, outer, 4, stride=2, padding=1)
            for inner, outer in ((3, width), (width, 2 * width), (2 * width, 2 * width))
        )
        self.image_features = nn.Linear(2 * width * GRID * GRID, hidden)
        self.code_features = nn.Linear(num_latents, hidden)
        self.joint = nn.Linear(hidden, hidden)
        self.logit = nn.Linear(hidden, 1)

    def forward(self, images: Float[Tensor, "B 3 S S"], codes: Float[Tensor, "B Z"]) -> Float[Tensor, " B"]:
        features = avg_pool2d(images, self.shrink) if self.shrink > 1 else images
        for convolution in self.convolutions:
            features = leaky_relu(convolution(features), 0.2)
        joint = leaky_relu(self.image_features(features.flatten(1)) + self.code_features(codes), 0.2)
        return self.logit(leaky_relu(self.joint(joint), 0.2)).squeeze(1).float()


class CodeCritic(nn.Sequential):
    """D(z): codes [B, Z] to logits [B], for density ratios of codes.

    Six layers, as in Kim and Mnih 2018, of 256 units where they have 1,000, which would cost more than the autoencoder.
    """

    def __init__(self, num_latents: int, units: int = 256, depth: int = 6) -> None:
        widths = [num_latents, *(units,) * depth]
        layers: list[nn.Module] = []
        for inner, outer in pairwise(widths):
            layers += [nn.Linear(inner, outer), nn.LeakyReLU(0.2)]
        super().__init__(*layers, nn.Linear(widths[-1], 1), nn.Flatten(0))
