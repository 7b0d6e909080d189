"""Re-rendered sprites: white shapes on black, drawn by us on the factor grid of dSprites (Matthey et al., 2017).

The values of the factors are those of dSprites, so the last orientation, a whole turn, looks like the first. The
pictures are not: edges are antialiased and proportions our own. Figures on them are figures on re-rendered sprites.
Lengths are shares of the image's side; y grows downwards.
"""

import math

import numpy as np
from PIL import Image, ImageDraw

from graphdrl.images.grid import Grid

GRID = Grid({"shape": 3, "scale": 6, "orientation": 40, "x": 32, "y": 32})

SUPERSAMPLE = 4

_SMALLEST = 0.5  # of the largest sprite
_MARGIN = 0.23  # from the middle of a sprite to the edge: the largest one, turned in any way, stays inside
_TURN = [2 * math.pi * step / 60 for step in range(60)]


_SQUARE = [(-0.14, -0.14), (0.14, -0.14), (0.14, 0.14), (-0.14, 0.14)]
_ELLIPSE = [(0.21 * math.cos(t), 0.105 * math.sin(t)) for t in _TURN]
_HEART = [
    (
        0.184 * math.sin(t) ** 3,
        0.023 * math.cos(3 * t) + 0.0575 * math.cos(2 * t) - 0.1495 * math.cos(t) + 0.0115 * math.cos(4 * t) - 0.0288,
    )
    for t in _TURN
]
_SHAPES = tuple(np.array(outline) for outline in (_SQUARE, _ELLIPSE, _HEART))
"""Outlines [P, 2] at full size about the origin."""


def render(factors: np.ndarray, size: int) -> np.ndarray:
    """Sprites uint8 [N, S, S, 3] of factors [N, 5] in [0, 1], columns as in `GRID.names`."""
    images = np.empty((len(factors), size, size, 3), np.uint8)
    for row, (shape, scale, orientation, x, y) in enumerate(factors.tolist()):
        angle = 2 * math.pi * orientation
        turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
        outline = (_SMALLEST + (1 - _SMALLEST) * scale) * _SHAPES[round(2 * shape)] @ turn
        middle = _MARGIN + (1 - 2 * _MARGIN) * np.array([x, y])
        images[row] = _fill(outline + middle, size)[..., None]
    return images


def _fill(outline: np.ndarray, size: int) -> np.ndarray:
    """Grey values uint8 [S, S] of one white polygon."""
    side = size * SUPERSAMPLE
    canvas = Image.new("L", (side, side))
    # Pillow counts positions from the middle of the first pixel.
    ImageDraw.Draw(canvas).polygon([tuple(point) for point in (side * outline - 0.5).tolist()], fill=255)
    return np.asarray(canvas.reduce(SUPERSAMPLE))
