"""MPI3D (Gondal et al., 2019), a robot's arm that holds an object, out of one of its published files."""

from typing import ClassVar

from graphdrl.images.grid import Grid
from graphdrl.images.grid_files import Layout
from graphdrl.images.sources.grid import GridSource


class Mpi3dSource(GridSource):
    """Toy, realistic or real pictures, whichever file the path names; there are none without.

    Attributes are size, height of the camera and the two axes of the arm. Colours and shapes are kinds, in no order.
    """

    name: ClassVar = "mpi3d"
    grid: ClassVar = Grid(
        {
            "object_color": 6,
            "object_shape": 6,
            "object_size": 2,
            "camera_height": 3,
            "background_color": 3,
            "horizontal_axis": 40,
            "vertical_axis": 40,
        }
    )
    attributes: ClassVar = ("object_size", "camera_height", "horizontal_axis", "vertical_axis")
    correlated: ClassVar = {
        "single": ("horizontal_axis", "vertical_axis"),
        "double": ("object_color", "object_shape", "horizontal_axis", "vertical_axis"),
        "confounder": ("horizontal_axis",),
    }
    layout: ClassVar = Layout("MPI3D", "images", (64, 64, 3))
