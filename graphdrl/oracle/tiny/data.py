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
from graphdrl.images.bayesnet import FAINTEST
from graphdrl.images.sources.avatars import draw as draw_avatars
from graphdrl.images.sources.avatars import render as render_avatars

ATTRIBUTES = faces.ATTRIBUTES + tuple(name for name in avatars.ATTRIBUTES if name not in faces.ATTRIBUTES)
"""The K names that the built-in model knows, by which it is asked."""

TRAINING_SEED = 900_000
"""Training draws take their seeds from here up to `HELD_OUT_SEED`; every other seed shows it new images."""

HELD_OUT_SEED = avatars.HELD_OUT_SEED

IMAGE_SIZE = 64

_CHUNK = 1_000  # images drawn with one seed
_PRESENCE = 0.7
_LEAST_CHANGE = 0.35


@dataclass(frozen=True)
class Pictures:
    """images: uint8 [N, 64, 64, 3]; values: float32 [N, K] in [0, 1], NaN where an attribute cannot be shown.

    changed: int64 [N], the row of the same picture with one attribute changed, -1 where there is none.
    """

    images: np.ndarray
    values: np.ndarray
    changed: np.ndarray

    def __len__(self) -> int:
        return len(self.images)

    def head(self, num: int) -> "Pictures":
        """The first `num` of them, without changes."""
        return plain(self.images[:num], self.values[:num])

    def pairs(self) -> tuple["Pictures", "Pictures"]:
        """The pictures of which there is a changed one, and those."""
        first = np.flatnonzero(self.changed >= 0)
        second = self.changed[first]
        return plain(self.images[first], self.values[first]), plain(self.images[second], self.values[second])


def plain(images: np.ndarray, values: np.ndarray) -> Pictures:
    """Pictures without changes."""
    return Pictures(images, values, np.full(len(images), -1))


def joined(parts: Sequence[Pictures]) -> Pictures:
    """All parts' pictures, one part after the other."""
    starts = np.cumsum([0, *(len(part) for part in parts)])
    changed = [np.where(part.changed < 0, -1, part.changed + start) for part, start in zip(parts, starts, strict=False)]
    images = np.concatenate([part.images for part in parts])
    return Pictures(images, np.concatenate([part.values for part in parts]), np.concatenate(changed))


def draw_faces(num: int, seed: int, presence: float | None = None, num_changed: int = 0) -> Pictures:
    """Faces with independent attributes, each showing with probability `presence` (None: as often as in the data).

    The first `num_changed` of them follow once more behind all, each with one attribute changed.
    """
    factors = faces.NETWORK.sample_independent(num, seed, presence)
    columns = [faces.NETWORK.nodes.index(name) for name in faces.ATTRIBUTES]
    factors = np.concatenate([factors, _change_faces(factors[:num_changed], columns, seed)])
    values = _spread(faces.ATTRIBUTES, factors[:, columns])
    return Pictures(faces.render(factors, IMAGE_SIZE), values, _behind(num, np.arange(num_changed)))


def draw_portraits(num: int, seed: int, style: str, num_changed: int = 0) -> Pictures:
    """Avatars of one style, their attributes as independent as its exclusive parts allow.

    Those of the first `num_changed` of which one attribute can be changed alone follow once more, so changed.
    """
    drawn = draw_avatars(num, IMAGE_SIZE, seed, independent=True, style=style)
    assert drawn.grades is not None
    assert drawn.factors is not None
    grades = _change_portraits(avatars.STYLES[style], drawn.grades[:num_changed], seed)
    nuisances = drawn.factors[: len(grades), drawn.grades.shape[1] :]
    alone = np.flatnonzero((grades != drawn.grades[: len(grades)]).sum(axis=1) == 1)
    again = render_avatars(avatars.STYLES[style], grades, nuisances, IMAGE_SIZE, seed)[alone]
    values = _spread(drawn.attributes, np.concatenate([drawn.grades, grades[alone]]))
    return Pictures(np.concatenate([drawn.images, again]), values, _behind(num, alone))


def training_pictures(num_faces: int, num_avatars: int, cache: Path | None = None) -> Pictures:
    """Faces and, shared equally among the styles learnt from, avatars; kept in the file `cache` when one is named.

    About every second picture comes changed in one attribute as well.
    """
    if cache is not None and cache.exists():
        with np.load(cache, allow_pickle=False) as kept:
            return Pictures(kept["images"], kept["values"], kept["changed"])
    per_style = num_avatars // len(avatars.TRAINING_STYLES)
    parts = [draw_faces(size, seed, _PRESENCE, size // 2) for size, seed in _chunks(num_faces, TRAINING_SEED)]
    for style in avatars.TRAINING_STYLES:
        parts += [draw_portraits(size, seed, style, size // 2) for size, seed in _chunks(per_style, TRAINING_SEED)]
    pictures = joined(parts)
    if cache is not None:
        cache.parent.mkdir(parents=True, exist_ok=True)
        np.savez(cache, images=pictures.images, values=pictures.values, changed=pictures.changed)
    return pictures


def held_out_pictures(num: int) -> dict[str, Pictures]:
    """`num` pictures of each kind that training never draws: "faces" and the avatar styles learnt from.

    Faces show each attribute with probability 0.7. At an attribute's own rate p the ties of its absent cases would cap
    any continuous score's Spearman at sqrt(1 - (1 - p)^3): 0.81 for p = 0.3.
    """
    styles = {style: draw_portraits(num, HELD_OUT_SEED, style) for style in avatars.TRAINING_STYLES}
    return {"faces": draw_faces(num, HELD_OUT_SEED, _PRESENCE), **styles}


def held_out_changes(num: int) -> dict[str, tuple[Pictures, Pictures]]:
    """Of each kind, held-out pictures and the same with one attribute changed: `num` faces, fewer avatars."""
    seed = HELD_OUT_SEED + 1
    styles = {style: draw_portraits(num, seed, style, num).pairs() for style in avatars.TRAINING_STYLES}
    return {"faces": draw_faces(num, seed, _PRESENCE, num).pairs(), **styles}


@dataclass(frozen=True)
class Batch:
    """pixels: [B, 3, 64, 64] in [-1, 1]; values: [B, K]; changed: int64 [C, 2], pairs of one attribute's change."""

    pixels: torch.Tensor
    values: torch.Tensor
    changed: torch.Tensor


def batches(pictures: Pictures, batch_size: int, num_changed: int, seed: int) -> Iterator[Batch]:
    """Endless shuffled, augmented batches; the changes of up to `num_changed` of a batch's pictures end it."""
    shuffler, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    num = batch_size - num_changed
    originals = np.setdiff1d(np.arange(len(pictures)), pictures.changed)
    while True:
        order = shuffler.permutation(originals)
        for start in range(0, len(order) - num + 1, num):
            rows = np.sort(order[start : start + num])
            first = shuffler.permutation(np.flatnonzero(pictures.changed[rows] >= 0))[:num_changed]
            changed = torch.from_numpy(np.stack([first, num + np.arange(len(first))], axis=1))
            rows = np.concatenate([rows, pictures.changed[rows[first]]])
            pixels = augment(to_pixels(pictures.images[rows]), generator)
            yield Batch(pixels, torch.from_numpy(pictures.values[rows]), changed)


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


def _behind(num: int, first: np.ndarray) -> np.ndarray:
    """Which row is each picture's change, when those of the pictures `first` follow behind all `num`."""
    changed = np.full(num + len(first), -1)
    changed[first] = num + np.arange(len(first))
    return changed


def _change_faces(factors: np.ndarray, columns: Sequence[int], seed: int) -> np.ndarray:
    """Factors [N, F] with one attribute of each row moved by `_LEAST_CHANGE` or more, seldom to where it is absent."""
    rng = np.random.default_rng([seed, 3])
    rows, chosen = np.arange(len(factors)), rng.choice(columns, len(factors))
    value = factors[rows, chosen]
    low = np.where(value < 0.5, value + _LEAST_CHANGE, 0)
    high = np.where(value < 0.5, 1, value - _LEAST_CHANGE)
    moved = rng.uniform(low, high)
    can_be_absent = ~np.isin(chosen, [faces.NETWORK.nodes.index(name) for name in ("age", "blond", "skin")])
    changed = factors.copy()
    changed[rows, chosen] = np.where(can_be_absent & (moved < FAINTEST), 0, moved)
    return changed


def _change_portraits(style: avatars.Style, grades: np.ndarray, seed: int) -> np.ndarray:
    """Grades [N, K] that the style can show after it was asked to change one attribute of each row."""
    rng = np.random.default_rng([seed, 3])
    wanted = grades.copy()
    for row, k in enumerate(rng.integers(len(style.attributes), size=len(grades))):
        levels = style.levels(style.attributes[k])
        wanted[row, k] = rng.choice(levels[np.abs(levels - grades[row, k]) >= _LEAST_CHANGE])
    return avatars.settle(style, wanted)[0]


def _spread(attributes: Sequence[str], grades: np.ndarray) -> np.ndarray:
    """Grades of some attributes as columns among all `ATTRIBUTES`."""
    values = np.full((len(grades), len(ATTRIBUTES)), np.nan, np.float32)
    values[:, [ATTRIBUTES.index(name) for name in attributes]] = grades
    return values
