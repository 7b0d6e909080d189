"""Sprites: re-rendered by us on dSprites' grid, or the real dSprites (Matthey et al., 2017) when a path is given."""

from typing import ClassVar

from graphdrl.images import sprites
from graphdrl.images.grid_files import Layout
from graphdrl.images.sources.grid import GridSource


class SpritesSource(GridSource):
    """White shapes on black, on the grid of dSprites.

    Without a path they are re-rendered, and figures on them are to be labelled so. Attributes are scale and place. A
    shape is one of three kinds, none of which has more of it than another. The orientation goes round, and squares and
    ellipses look the same more than once on the way, so that no picture tells it. Both are factors to be measured on,
    and they can be correlated; as in HFS's benchmark the order of the shapes is then that of the file.
    """

    name: ClassVar = "sprites"
    grid: ClassVar = sprites.GRID
    attributes: ClassVar = ("scale", "x", "y")
    correlated: ClassVar = {"single": ("x", "y"), "double": ("shape", "scale", "x", "y"), "confounder": ("x",)}
    layout: ClassVar = Layout("dSprites", "imgs", (64, 64), brightest=1, labels="latents_classes")
    render: ClassVar = staticmethod(sprites.render)
