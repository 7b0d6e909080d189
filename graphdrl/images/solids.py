"""Re-rendered solids: one solid in a room, ray-traced by us on the factor grid of Shapes3D (Burgess and Kim, 2018).

Ten hues of floor, wall and solid, eight scales, four shapes (cube, cylinder, sphere, capsule) and fifteen orientations
of the camera from -30 to 30 degrees, as in Shapes3D. The pictures are our own: figures on them are figures on
re-rendered solids. Light and room stay where they are while the camera goes round, so that also a sphere shows the
orientation, by its shading, its shadow and the corners of the room.

A picture is a sum over floor, wall and solid of shade times colour, so that each of the 480 geometries is traced once
for all the hues that are asked of it. The room is four wide; z grows upwards from its floor.
"""

import colorsys
from collections.abc import Callable
from functools import reduce

import numpy as np

from graphdrl.images.grid import Grid

GRID = Grid({"floor_hue": 10, "wall_hue": 10, "object_hue": 10, "scale": 8, "shape": 4, "orientation": 15})

SUPERSAMPLE = 3

_HALF_ROOM = 2.0
_EYE, _AIM, _FIELD = (1.85, 1.25), 0.42, 0.74  # distance and height of the camera; height it looks at; half view at 1
_WIDEST_TURN = np.deg2rad(30)
_SMALLEST, _LARGEST = 0.75, 1.25  # scales
_LIGHT = np.array([[-0.532], [-0.435], [0.726]], np.float32)  # where it comes from; of length 1
_AMBIENT = 0.45
_SHADOW = 0.62  # what is left of the floor's light

Hits = tuple[np.ndarray, np.ndarray]
"""Distance [P] along each ray, infinite where it misses, and the surface's normal there [3, P]."""


def render(factors: np.ndarray, size: int) -> np.ndarray:
    """Solids uint8 [N, S, S, 3] of factors [N, 6] in [0, 1], columns as in `GRID.names`."""
    images = np.empty((len(factors), size, size, 3), np.uint8)
    hues = np.array([[_colour(hue) for hue in row] for row in factors[:, :3].tolist()], np.float32).reshape(-1, 3, 3)
    geometries, kind = np.unique(factors[:, 3:], axis=0, return_inverse=True)
    for number, (scale, shape, orientation) in enumerate(geometries.tolist()):
        shades = _trace(scale, round(3 * shape), orientation, size)
        for row in np.flatnonzero(kind == number):
            images[row] = (shades @ hues[row] + 0.5).reshape(size, size, 3)
    return images


def _colour(hue: float) -> tuple[float, float, float]:
    """One of the ten hues, 0..255: nine tenths of the circle, so that the last is not the first again."""
    red, green, blue = colorsys.hsv_to_rgb(0.9 * hue, 0.85, 1.0)
    return 255 * red, 255 * green, 255 * blue


def _trace(scale: float, shape: int, orientation: float, size: int) -> np.ndarray:
    """Shades float32 [S * S, 3] of floor, wall and solid: the share of a pixel that each has, times its light."""
    eye, rays = _camera(orientation, size * SUPERSAMPLE)
    solid = _SOLIDS[shape]
    extent = 0.5 * (_SMALLEST + (_LARGEST - _SMALLEST) * scale)
    light = np.zeros((3, rays.shape[1]), np.float32)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        distance, floor = _room(eye, rays)
        place = eye + distance * rays
        ground = place[:, floor]
        shadowed = np.isfinite(solid(ground, _LIGHT, extent)[0])
        light[0, floor] = np.where(shadowed, _SHADOW, 1.0) * _floor_light(ground)
        light[1, ~floor] = _wall_light(place[:, ~floor])
        near = _may_hit(eye, rays, extent)
        reach, normal = solid(eye, rays[:, near], extent)
    found = np.isfinite(reach)
    hit = np.flatnonzero(near)[found]
    facing = (normal[:, found] * _LIGHT).sum(axis=0)
    light[:, hit] = 0
    light[2, hit] = _AMBIENT + (1 - _AMBIENT) * np.clip(facing, 0, 1)
    return _reduced(light.reshape(3, size * SUPERSAMPLE, -1)).reshape(3, -1).T


def _reduced(light: np.ndarray) -> np.ndarray:
    """Mean of each square of rays: slices are quicker than numpy's mean over two short axes."""
    steps = range(SUPERSAMPLE)
    parts = [light[:, i::SUPERSAMPLE, j::SUPERSAMPLE] for i in steps for j in steps]
    return reduce(np.add, parts) / np.float32(len(parts))


def _camera(orientation: float, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Where the eye is [3, 1], and a ray through each pixel of a picture `side` wide, float32 [3, side * side]."""
    turn = _WIDEST_TURN * (2 * orientation - 1)
    away, height = _EYE
    right = np.array([np.cos(turn), np.sin(turn), 0])
    eye = np.array([away * np.sin(turn), -away * np.cos(turn), height])
    ahead = np.array([0, 0, _AIM]) - eye
    ahead /= np.linalg.norm(ahead)
    across = _FIELD * ((np.arange(side) + 0.5) * 2 / side - 1)
    up = np.cross(right, ahead)
    rays = ahead[:, None, None] + right[:, None, None] * across - up[:, None, None] * across[:, None]
    return eye.astype(np.float32)[:, None], rays.reshape(3, -1).astype(np.float32)


def _room(eye: np.ndarray, rays: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distance [P] to floor or wall, and whether it is the floor [P]."""
    walls = ((np.sign(rays[:2]) * _HALF_ROOM - eye[:2]) / rays[:2]).min(axis=0)
    down = np.where(rays[2] < 0, -eye[2] / rays[2], np.inf)
    return np.minimum(walls, down), down < walls


def _floor_light(place: np.ndarray) -> np.ndarray:
    """Light of the floor [P], less in the depth of the room."""
    return 0.9 - 0.08 * (place[1] + _HALF_ROOM) / _HALF_ROOM


def _wall_light(place: np.ndarray) -> np.ndarray:
    """Light of the walls [P]: each of the four has its own, so that corners show, and they are darker at the foot."""
    beside = np.abs(place[0]) > np.abs(place[1])
    flat = np.where(beside, np.where(place[0] > 0, 0.86, 0.62), 0.74)
    return flat * (0.88 + 0.12 * np.clip(place[2] / _HALF_ROOM, 0, 1))


def _may_hit(eye: np.ndarray, rays: np.ndarray, extent: float) -> np.ndarray:
    """Whether a ray meets the ball that holds any solid of this extent [P]: only those are traced further."""
    return np.isfinite(_ball(eye, rays, 1.75 * extent, 1.3 * extent)[0])


def _cube(start: np.ndarray, rays: np.ndarray, extent: float) -> Hits:
    """Of half side 0.8 * extent, on the floor."""
    half = np.float32(0.8 * extent)
    middle = np.array([[0], [0], [half]], np.float32)
    towards = np.sign(rays)
    near, far = (middle - towards * half - start) / rays, (middle + towards * half - start) / rays
    enters, leaves = near.max(axis=0), far.min(axis=0)
    return np.where((enters < leaves) & (enters > 0), enters, np.inf), -towards * (near == enters)


def _cylinder(start: np.ndarray, rays: np.ndarray, extent: float) -> Hits:
    """Of radius 0.8 * extent, twice as high, standing."""
    radius, height = 0.8 * extent, 1.6 * extent
    return _nearest(_mantle(start, rays, radius, 0.0, height), _lid(start, rays, radius, height))


def _sphere(start: np.ndarray, rays: np.ndarray, extent: float) -> Hits:
    """Of radius `extent`, on the floor."""
    return _ball(start, rays, extent, extent)


def _capsule(start: np.ndarray, rays: np.ndarray, extent: float) -> Hits:
    """Of radius 0.6 * extent, standing, round at both ends, 2.6 * extent high."""
    radius, top = 0.6 * extent, 2.0 * extent
    ends = _nearest(_ball(start, rays, radius, top), _ball(start, rays, radius, radius))
    return _nearest(_mantle(start, rays, radius, radius, top), ends)


_SOLIDS: tuple[Callable[[np.ndarray, np.ndarray, float], Hits], ...] = (_cube, _cylinder, _sphere, _capsule)
"""By shape: hits of rays from points, both [3, P] or [3, 1], on a solid of some extent in the room's middle."""


def _nearest(first: Hits, second: Hits) -> Hits:
    closer = first[0] <= second[0]
    return np.where(closer, first[0], second[0]), np.where(closer, first[1], second[1])


def _ball(start: np.ndarray, rays: np.ndarray, radius: float, height: float) -> Hits:
    """A sphere about the point `height` above the room's middle."""
    offset = start - np.array([[0], [0], [height]], np.float32)
    distance = _entry((rays**2).sum(axis=0), (rays * offset).sum(axis=0), (offset**2).sum(axis=0) - radius**2)
    return distance, (offset + distance * rays) / radius


def _mantle(start: np.ndarray, rays: np.ndarray, radius: float, low: float, high: float) -> Hits:
    """The side of an upright cylinder from `low` to `high`."""
    flat, begin = rays[:2], start[:2]
    distance = _entry((flat**2).sum(axis=0), (flat * begin).sum(axis=0), (begin**2).sum(axis=0) - radius**2)
    place = start + distance * rays
    inside = (place[2] >= low) & (place[2] <= high)
    return np.where(inside, distance, np.inf), place * np.array([[1], [1], [0]], np.float32) / radius


def _lid(start: np.ndarray, rays: np.ndarray, radius: float, height: float) -> Hits:
    """The upper end of an upright cylinder."""
    distance = (height - start[2]) / rays[2]
    place = start[:2] + distance * rays[:2]
    inside = (distance > 0) & ((place**2).sum(axis=0) <= radius**2)
    return np.where(inside, distance, np.inf), np.array([[0], [0], [1]], np.float32)


def _entry(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """The smaller root of a t^2 + 2 b t + c, infinite where there is none ahead."""
    root = (-b - np.sqrt(b**2 - a * c)) / a
    return np.where(root > 0, root, np.inf)
