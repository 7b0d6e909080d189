"""What the built-in model learns from: faces and avatars whose attributes are drawn independently of each other.

It learns to see, then, and knows of no relation that it could read into an image. Attributes that a kind of image
cannot show have no grade there and are not asked.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from graphdrl.images import avatars, faces
from graphdrl.images.sources.avatars import draw as draw_avatars

ATTRIBUTES = faces.ATTRIBUTES + tuple(name for name in avatars.ATTRIBUTES if name not in faces.ATTRIBUTES)
"""The K names that the built-in model knows, by which it is asked."""

TRAINING_SEED = 900_000
"""Training draws take their seeds from here up to `HELD_OUT_SEED`; every other seed shows it new images."""

HELD_OUT_SEED = avatars.HELD_OUT_SEED

IMAGE_SIZE = 64

_CHUNK = 1_000  # images drawn with one seed
_PRESENCE = 0.7


@dataclass(frozen=True)
class Pictures:
    """images: uint8 [N, 64, 64, 3]; values: float32 [N, K] in [0, 1], NaN where an attribute cannot be shown."""

    images: np.ndarray
    values: np.ndarray

    def __len__(self) -> int:
        return len(self.images)

    def head(self, num: int) -> "Pictures":
        """The first `num` of them."""
        return Pictures(self.images[:num], self.values[:num])


def draw_faces(num: int, seed: int, presence: float | None = None) -> Pictures:
    """Faces with independent attributes, each showing with probability `presence` (None: as often as in the data)."""
    factors = faces.NETWORK.sample_independent(num, seed, presence)
    columns = [faces.NETWORK.nodes.index(name) for name in faces.ATTRIBUTES]
    return Pictures(faces.render(factors, IMAGE_SIZE), _spread(faces.ATTRIBUTES, factors[:, columns]))


def draw_portraits(num: int, seed: int, style: str) -> Pictures:
    """Avatars of one style, their attributes as independent as its exclusive parts allow."""
    drawn = draw_avatars(num, IMAGE_SIZE, seed, independent=True, style=style)
    assert drawn.grades is not None
    return Pictures(drawn.images, _spread(drawn.attributes, drawn.grades))


def training_pictures(num_faces: int, num_avatars: int, cache: Path | None = None) -> Pictures:
    """Faces and, shared equally among the styles learnt from, avatars; kept in the file `cache` when one is named."""
    if cache is not None and cache.exists():
        with np.load(cache, allow_pickle=False) as kept:
            return Pictures(kept["images"], kept["values"])
    per_style = num_avatars // len(avatars.TRAINING_STYLES)
    parts = [draw_faces(size, seed, _PRESENCE) for size, seed in _chunks(num_faces, TRAINING_SEED)]
    for style in avatars.TRAINING_STYLES:
        parts += [draw_portraits(size, seed, style) for size, seed in _chunks(per_style, TRAINING_SEED)]
    pictures = Pictures(
        np.concatenate([part.images for part in parts]), np.concatenate([part.values for part in parts])
    )
    if cache is not None:
        cache.parent.mkdir(parents=True, exist_ok=True)
        np.savez(cache, images=pictures.images, values=pictures.values)
    return pictures


def held_out_pictures(num: int) -> dict[str, Pictures]:
    """`num` pictures of each kind that training never draws: "faces" and the avatar styles learnt from.

    Faces show each attribute with probability 0.7. At an attribute's own rate p the ties of its absent cases would cap
    any continuous score's Spearman at sqrt(1 - (1 - p)^3): 0.81 for p = 0.3.
    """
    styles = {style: draw_portraits(num, HELD_OUT_SEED, style) for style in avatars.TRAINING_STYLES}
    return {"faces": draw_faces(num, HELD_OUT_SEED, _PRESENCE), **styles}


def batches(pictures: Pictures, batch_size: int, seed: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Endless shuffled, augmented batches: pixels [B, 3, 64, 64] in [-1, 1] and values [B, K]."""
    shuffler, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    while True:
        order = shuffler.permutation(len(pictures))
        for start in range(0, len(order) - batch_size + 1, batch_size):
            rows = np.sort(order[start : start + batch_size])
            pixels = augment(to_pixels(pictures.images[rows]), generator)
            yield pixels, torch.from_numpy(pictures.values[rows])


def to_pixels(images: np.ndarray) -> torch.Tensor:
    """uint8 [B, H, W, 3] as the model takes them: float32 [B, 3, H, W] in [-1, 1]."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float().div(127.5).sub(1.0)


def augment(pixels: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Half of the images moved a little, a third blurred (as decoders blur), all with some gain and noise."""
    num = len(pixels)

    def uniform(low: float, high: float, *shape: int) -> torch.Tensor:
        return torch.rand(shape or (num,), generator=generator) * (high - low) + low

    moved = uniform(0, 1) < 0.5
    if moved.any():
        pixels = torch.where(moved[:, None, None, None], _move(pixels, uniform), pixels)
    blurred = functional.avg_pool2d(functional.pad(pixels, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    share = (uniform(-2, 1).clamp(min=0))[:, None, None, None]
    pixels = pixels + share * (blurred - pixels)
    gain = uniform(0.95, 1.05)[:, None, None, None]
    noise = torch.randn(pixels.shape, generator=generator) * uniform(0, 0.04)[:, None, None, None]
    return ((pixels + 1) * gain - 1 + noise).clamp(-1, 1)


def _move(pixels: torch.Tensor, uniform) -> torch.Tensor:
    """Each image turned (up to 4 degrees), scaled (5 %), shifted (4 %) and mirrored at random."""
    angle, zoom = uniform(-0.07, 0.07), uniform(0.95, 1.05)
    mirror = torch.where(uniform(0, 1) < 0.5, 1.0, -1.0)
    cos, sin = zoom * angle.cos(), zoom * angle.sin()
    rows = [cos * mirror, -sin, uniform(-0.08, 0.08), sin * mirror, cos, uniform(-0.08, 0.08)]
    grid = functional.affine_grid(torch.stack(rows, 1).view(-1, 2, 3), list(pixels.shape), align_corners=False)
    return functional.grid_sample(pixels, grid, padding_mode="border", align_corners=False)


def _chunks(num: int, first_seed: int) -> list[tuple[int, int]]:
    """(images, seed) of the draws that make up `num` images."""
    starts = range(0, num, _CHUNK)
    return [(min(_CHUNK, num - start), first_seed + index) for index, start in enumerate(starts)]


def _spread(attributes: Sequence[str], grades: np.ndarray) -> np.ndarray:
    """Grades of some attributes as columns among all `ATTRIBUTES`."""
    values = np.full((len(grades), len(ATTRIBUTES)), np.nan, np.float32)
    values[:, [ATTRIBUTES.index(name) for name in attributes]] = grades
    return values
