"""Solids: re-rendered by us on Shapes3D's grid, or the real Shapes3D (Burgess and Kim, 2018) when a path is given."""

from typing import ClassVar

from graphdrl.images import solids
from graphdrl.images.grid_files import Layout
from graphdrl.images.sources.grid import GridSource


class SolidsSource(GridSource):
    """A solid in a room, on the grid of Shapes3D.

    Without a path they are re-rendered, and figures on them are to be labelled so. Attributes are all factors but the
    shape, which is one of four kinds without an order. A hue is graded by how far round from red it lies: the ten hues
    end short of red, so that the picture tells the grade, but the first and the last are neighbours to the eye and as
    far apart as can be in grade, which makes a hue harder to learn than a scale. HFS's benchmark correlates hues by the
    same order.
    """

    name: ClassVar = "solids"
    grid: ClassVar = solids.GRID
    attributes: ClassVar = ("floor_hue", "wall_hue", "object_hue", "scale", "orientation")
    correlated: ClassVar = {
        "single": ("floor_hue", "wall_hue"),
        "double": ("scale", "shape", "floor_hue", "wall_hue"),
        "confounder": ("wall_hue",),
    }
    layout: ClassVar = Layout("Shapes3D", "images", (64, 64, 3), labels="labels")
    render: ClassVar = staticmethod(solids.render)
