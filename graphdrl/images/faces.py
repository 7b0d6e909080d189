"""The built-in faces: ten graded attributes and four nuisances, drawn with Pillow at any size.

Each attribute has places of its own, so that no other can hide it: bald shows on the crown and in the side hair, bangs
on the forehead, blond in every hair, the hat stands above them; age is in the eyes, the proportions and the lines of
the cheeks. Lengths are shares of the image's side; y grows downwards.
"""

import colorsys
import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from graphdrl.images.bayesnet import BayesNet, Node

ATTRIBUTES = ("bald", "beard", "blond", "bangs", "glasses", "smile", "age", "makeup", "hat", "skin")
NUISANCES = ("pose", "width", "background", "light")

NETWORK = BayesNet(
    [
        Node("bald", 0.24, {"age": 0.50, "beard": 0.30}),
        Node("beard", 0.40, {"age": 0.35}),
        Node("blond", None, {"skin": -0.55, "age": -0.20}),
        Node("bangs", 0.55, {"bald": -0.35, "makeup": 0.30, "age": -0.20}),
        Node("glasses", 0.36, {"age": 0.45, "makeup": -0.15}),
        Node("smile", 0.75, {"makeup": 0.35, "beard": -0.20, "blond": 0.20}),
        Node("age"),
        Node("makeup", 0.45, {"beard": -0.50, "age": -0.25, "blond": 0.20}),
        Node("hat", 0.30, {"bald": 0.45, "makeup": -0.20, "skin": 0.20}),
        Node("skin"),
        *(Node(name) for name in NUISANCES),
    ]
)

SUPERSAMPLE = 3

Colour = tuple[int, int, int]
Points = list[tuple[float, float]]

_SKINS = ((255, 224, 198), (236, 186, 146), (196, 138, 98), (148, 94, 62), (98, 58, 38))
_HAIRS = ((26, 22, 28), (62, 30, 26), (112, 52, 20), (196, 122, 26), (255, 226, 110))
_WHITE, _INK, _LENS = (250, 250, 250), (28, 28, 44), (64, 112, 205)
_HAT, _HAT_BAND, _LIPSTICK, _SHADOW = (176, 30, 46), (44, 26, 40), (226, 20, 92), (150, 60, 200)

_SKULL_Y, _SKULL_HEIGHT = 0.47, 0.27  # centre and upper radius of the head
_HAIRLINE_Y, _BROW_Y, _BRIM_Y = 0.315, 0.465, 0.245
_CIRCLE = [(math.cos(math.pi * step / 18), math.sin(math.pi * step / 18)) for step in range(37)]
_HALF, _QUARTER = _CIRCLE[:19], _CIRCLE[:10]
_CHEEK = [((1 - down**3) ** 0.5, down) for down in (math.sin(math.pi * step / 26) for step in range(14))]


def render(factors: np.ndarray, size: int) -> np.ndarray:
    """Faces uint8 [N, S, S, 3] of factors [N, F] in [0, 1], columns as in `NETWORK.nodes`.

    Raises ValueError when the factors are not of that shape or the size is below 16 pixels.
    """
    names = NETWORK.nodes
    if factors.ndim != 2 or factors.shape[1] != len(names):
        raise ValueError(f"faces need factors [N, {len(names)}] ({', '.join(names)}), not {list(factors.shape)}")
    if size < 16:
        raise ValueError(f"a face of {size} pixels shows nothing: ask for 16 or more")
    images = np.empty((len(factors), size, size, 3), np.uint8)
    for row, values in enumerate(np.clip(factors, 0, 1).tolist()):
        images[row] = _Face(dict(zip(names, values, strict=True)), size).draw()
    return images


def mix(first: Colour, second: Colour, share: float) -> Colour:
    """The colour `share` of the way from the first to the second."""
    a, b, c = (round(x + (y - x) * share) for x, y in zip(first, second, strict=True))
    return a, b, c


def ramp(colours: Sequence[Colour], share: float) -> Colour:
    """The colour `share` of the way along a list of colours."""
    place = share * (len(colours) - 1)
    index = min(int(place), len(colours) - 2)
    return mix(colours[index], colours[index + 1], place - index)


def _hue(hue: float, saturation: float, value: float) -> Colour:
    red, green, blue = colorsys.hsv_to_rgb(hue % 1, saturation, value)
    return round(255 * red), round(255 * green), round(255 * blue)


class _Face:
    """One face on its canvas: colours and measures from the factors, then one method a part, back to front."""

    def __init__(self, factors: dict[str, float], size: int) -> None:
        self.factors = factors
        self.size = size
        self.scale = float(size * SUPERSAMPLE)
        self.skin = ramp(_SKINS, factors["skin"])
        self.hair = ramp(_HAIRS, factors["blond"])
        self.line = mix(self.skin, (40, 14, 10), 0.55)
        self.backdrop = _hue(factors["background"], 0.38, 0.80)
        turn = factors["pose"] - 0.5
        age = factors["age"]
        self.x = 0.5 + 0.06 * turn  # centre of the head
        self.fx = self.x + 0.07 * turn  # centre of what is on the face
        self.rx = 0.225 + 0.05 * factors["width"]
        self.chin_y = 0.825 + 0.045 * age
        self.eye_y = 0.575 - 0.03 * age
        self.mouth_y = 0.745 + 0.02 * age

    def draw(self) -> np.ndarray:
        """The finished face, uint8 [S, S, 3]."""
        canvas = Image.new("RGB", (int(self.scale), int(self.scale)), self.backdrop)
        self.pen = ImageDraw.Draw(canvas)
        for part in (
            self._surroundings, self._side_hair, self._head, self._lines_of_age, self._beard, self._mouth, self._nose,
            self._eyes, self._brows, self._glasses, self._crown, self._bangs, self._hat,
        ):  # fmt: skip
            part()
        return np.asarray(canvas.reduce(SUPERSAMPLE))

    def _fill(self, points: Points, colour: Colour) -> None:
        self.pen.polygon([(x * self.scale, y * self.scale) for x, y in points], fill=colour)

    def _oval(self, x: float, y: float, rx: float, ry: float, colour: Colour) -> None:
        scale = self.scale
        self.pen.ellipse(((x - rx) * scale, (y - ry) * scale, (x + rx) * scale, (y + ry) * scale), fill=colour)

    def _stroke(self, points: Points, width: float, colour: Colour) -> None:
        scaled = [(x * self.scale, y * self.scale) for x, y in points]
        self.pen.line(scaled, fill=colour, width=max(1, round(width * self.scale)), joint="curve")

    def _outline(self, side: float, rx: float) -> Points:
        """One side of the face from the temple down to the chin; an old face is long, a young one round."""
        bulge, drop = 0.07 * self.factors["age"], self.chin_y - _SKULL_Y
        return [
            (self.x + side * rx * across * (1 + bulge * math.sin(math.pi * down)), _SKULL_Y + drop * down)
            for across, down in _CHEEK
        ]

    def _surroundings(self) -> None:
        """A bright disc behind the head, the shoulders, the neck."""
        shift = 0.24 * (self.factors["light"] - 0.5)
        self._oval(0.5 + shift, 0.46, 0.44, 0.44, mix(self.backdrop, _WHITE, 0.40))
        cloth = _hue(self.factors["background"] + 0.55, 0.45, 0.52)
        self._oval(0.5, 1.10, 0.42, 0.24, cloth)
        self._oval(0.5, 0.90, 0.155, 0.075, mix(cloth, _WHITE, 0.25))
        neck = mix(self.skin, (60, 20, 20), 0.22)
        self._fill([(0.40, 0.70), (0.60, 0.70), (0.615, 0.91), (0.5, 0.96), (0.385, 0.91)], neck)

    def _side_hair(self) -> None:
        """Hair behind the head: full and down to the jaw, or a short rim around the ears when bald."""
        bald = self.factors["bald"]
        thick, end_y = 0.060 - 0.030 * bald, 0.76 - 0.18 * bald
        shape = ((-0.8, 0.40), (0.74, 0.46), (0.95, 0.53), (1.0, end_y - 0.07), (0.85, end_y - 0.02), (0.4, end_y))
        for side in (-1.0, 1.0):
            points = [(self.x + side * (self.rx + thick * across), y) for across, y in shape]
            points += [(self.x + side * 0.7 * self.rx, end_y), (self.x + side * 0.7 * self.rx, 0.40)]
            self._fill(points, mix(self.hair, _INK, 0.22))

    def _head(self) -> None:
        """Ears, head, and the shade on the side away from the light."""
        ear = mix(self.skin, (150, 40, 30), 0.12)
        for side in (-1.0, 1.0):
            self._oval(self.x + side * (self.rx + 0.005), 0.565, 0.032, 0.055, ear)
        dome = [(self.x + self.rx * c, _SKULL_Y - _SKULL_HEIGHT * s) for c, s in _HALF]
        self._fill([*dome, *self._outline(-1.0, self.rx), *reversed(self._outline(1.0, self.rx))], self.skin)
        light = self.factors["light"] - 0.5
        side = -1.0 if light > 0 else 1.0
        inner = self.rx * (1 - 0.55 * abs(light))

        rim = [(self.x + side * self.rx * c, _SKULL_Y - _SKULL_HEIGHT * s) for c, s in reversed(_QUARTER)]
        edge = [(self.x + side * inner * c, _SKULL_Y - _SKULL_HEIGHT * s) for c, s in _QUARTER]
        down, up = self._outline(side, self.rx), self._outline(side, inner)[::-1]
        self._fill([*rim, *down, *up, *edge], mix(self.skin, (60, 20, 30), 0.14))

    def _lines_of_age(self) -> None:
        """Lines on forehead, under the eyes and along the cheeks: from none to deep; and the blush of make-up."""
        age, makeup = self.factors["age"], self.factors["makeup"]
        if makeup > 0:
            for side in (-1.0, 1.0):
                blush = mix(self.skin, (240, 60, 100), 0.15 + 0.45 * makeup)
                self._oval(self.fx + side * 0.135, self.eye_y + 0.095, 0.042, 0.030, blush)
        colour = mix(self.skin, (40, 14, 10), 0.60 * age)
        width = 0.006 + 0.009 * age
        for side in (-1.0, 1.0):
            x, y = self.fx, self.eye_y
            self._stroke([(x + side * 0.045, y + 0.052), (x + side * 0.09, y + 0.066), (x + side * 0.14, y + 0.048)],
                         width, colour)  # fmt: skip
            self._stroke([(x + side * 0.055, y + 0.10), (x + side * 0.10, y + 0.14), (x + side * 0.12, y + 0.20)],
                         width, colour)  # fmt: skip
            for tilt in (-0.025, 0.0, 0.025):
                self._stroke([(x + side * 0.160, y + tilt / 2), (x + side * 0.195, y + tilt * 1.6)], width, colour)
        for height in (0.365, 0.405):
            self._stroke([(self.fx - 0.10, height + 0.006), (self.fx, height), (self.fx + 0.10, height + 0.006)],
                         width, colour)  # fmt: skip

    def _beard(self) -> None:
        """From a tuft on the chin to a full beard that climbs to the ears and hangs below the chin."""
        beard = self.factors["beard"]
        if beard == 0:
            return
        grown = max(0.0, beard - 0.2) / 0.8
        reach = self.rx * min(1.02, 0.36 + 0.78 * beard)
        low_y = self.mouth_y + 0.045
        side_y = low_y + (0.56 - low_y) * max(0.0, beard - 0.35) / 0.65
        middle_y = low_y - 0.095 * min(1.0, 2 * grown)
        left, right = self._below(-1.0, reach, side_y), self._below(1.0, reach, side_y)
        width, length = abs(left[-1][0] - self.x), self.chin_y + 0.02 + 0.10 * beard - left[-1][1]
        tip = [(self.x - width * c, left[-1][1] + length * s) for c, s in _HALF]
        upper = [(right[0][0] - 0.030, side_y), (self.fx + 0.56 * reach, middle_y + 0.3 * (side_y - middle_y) + 0.02),
                 (self.fx + 0.3 * reach, middle_y), (self.fx, middle_y + 0.010)]  # fmt: skip
        mirrored = [(2 * self.fx - x, y) for x, y in reversed(upper[1:3])]
        self._fill([*left, *tip, *reversed(right), *upper, *mirrored, (left[0][0] + 0.030, side_y)],
                   mix(self.hair, _INK, 0.12))  # fmt: skip

    def _below(self, side: float, reach: float, top_y: float) -> Points:
        """One side of the face from `top_y` to just above the chin, for a beard of half width `reach`."""
        edge = [(x, y) for x, y in self._outline(side, reach) if y < self.chin_y - 0.035]
        below = [(x, y) for x, y in edge if y > top_y]
        return [(max(below or edge[-1:], key=lambda point: side * point[0])[0], top_y), *below]

    def _mouth(self) -> None:
        """Straight and short, or wide and open with teeth; lips as red as the make-up."""
        smile, makeup = self.factors["smile"], self.factors["makeup"]
        half, rise, gap = 0.062 + 0.060 * smile, 0.050 * smile, 0.075 * smile
        lips = mix(mix(self.skin, (150, 50, 50), 0.45), _LIPSTICK, min(1.0, 1.6 * makeup))
        x, y, thick = self.fx, self.mouth_y + 0.008, 0.010 + 0.012 * makeup
        curve = [(u / 4, 1 - (u / 4) ** 2) for u in range(-4, 5)]
        upper = [(x + half * u, y - rise + 0.55 * rise * bow - thick * bow) for u, bow in curve]
        lower = [(x + half * u, y - rise + (0.55 * rise + gap) * bow + (thick + 0.006) * bow) for u, bow in curve]
        self._fill([*upper, *reversed(lower)], lips)
        if smile > 0:
            top = [(x + 0.86 * half * u, y - rise + 0.55 * rise * bow + 0.004) for u, bow in curve]
            low = [(x + 0.86 * half * u, y - rise + (0.55 * rise + gap) * bow) for u, bow in curve]
            self._fill([*top, *reversed(low)], _WHITE)

    def _nose(self) -> None:
        x, y = self.fx, self.eye_y
        length = 0.080 + 0.02 * self.factors["age"]
        shade = mix(self.skin, (90, 30, 20), 0.26)
        self._fill([(x - 0.010, y + 0.015), (x + 0.010, y + 0.015), (x + 0.030, y + length), (x - 0.030, y + length)],
                   shade)  # fmt: skip
        self._oval(x, y + length, 0.033, 0.019, shade)

    def _tinted(self, colour: Colour) -> Colour:
        """A colour as seen through the lenses."""
        return mix(colour, _LENS, self._tint()) if self.factors["glasses"] > 0 else colour

    def _tint(self) -> float:
        return 0.08 + 0.62 * self.factors["glasses"]

    def _eyes(self) -> None:
        """Large in the young, narrow in the old; shadow on the lids from make-up, lenses behind from glasses."""
        glasses, makeup, age = self.factors["glasses"], self.factors["makeup"], self.factors["age"]
        rx, ry = 0.054 - 0.008 * age, 0.046 - 0.024 * age
        for side in (-1.0, 1.0):
            x, y = self.fx + side * 0.098, self.eye_y
            if glasses > 0:
                self._oval(x, y + 0.006, 0.082, 0.068, self._tinted(self.skin))
            if makeup > 0:
                shadow = mix(self.skin, _SHADOW, min(1.0, 0.25 + makeup))
                self._oval(x, y - 0.014, rx + 0.012, ry + 0.008 + 0.014 * makeup, self._tinted(shadow))
            self._oval(x, y, rx + 0.006, ry + 0.006, self._tinted(self.line))
            self._oval(x, y + 0.004, rx, ry, self._tinted(_WHITE))
            pupil = min(0.026, ry)
            x += 0.03 * (self.factors["pose"] - 0.5)
            self._oval(x, y + 0.004, pupil, pupil, self._tinted(_INK))
            self._oval(x + 0.35 * pupil, y + 0.004 - 0.35 * pupil, 0.3 * pupil, 0.3 * pupil, self._tinted(_WHITE))

    def _brows(self) -> None:
        """Hair-coloured when young, bushy and white when old."""
        age = self.factors["age"]
        colour = mix(mix(self.hair, _INK, 0.35), (236, 236, 240), age**1.5)
        y = self.eye_y - 0.088
        for side in (-1.0, 1.0):
            x = self.fx + side * 0.098
            self._stroke([(x - side * 0.048, y + 0.002), (x, y - 0.008), (x + side * 0.05, y + 0.012)],
                         0.016 + 0.014 * age, colour)  # fmt: skip

    def _glasses(self) -> None:
        """Frames from thin wire to thick rims."""
        glasses = self.factors["glasses"]
        if glasses == 0:
            return
        width = 0.012 + 0.026 * glasses
        y = self.eye_y + 0.006
        for side in (-1.0, 1.0):
            x = self.fx + side * 0.098
            rim = [(x + 0.082 * c, y + 0.068 * s) for c, s in _CIRCLE]
            self._stroke(rim, width, _INK)
            self._stroke([(x + side * 0.082, y), (self.x + side * self.rx, y - 0.012)], width, _INK)
        self._stroke([(self.fx - 0.018, y - 0.012), (self.fx + 0.018, y - 0.012)], width, _INK)

    def _crown(self) -> None:
        """Hair on top: one cap, which balding opens from the hairline up and then to the sides."""
        bald = self.factors["bald"]
        low = 0.0 if bald == 0 else 0.25 + 0.70 * bald  # bare half width at the hairline, in head radii
        high = max(0.0, 1.25 * bald - 0.30)  # and at the top of the skull
        lift = min(1.0, bald / 0.24)
        volume = 0.045 * (1 - bald)
        angle = math.acos(min(high, 0.95))
        for side in (-1.0, 1.0):
            outer = []
            for step in range(9):
                turn = -0.12 + (angle + 0.12) * step / 8
                thin = 1 - min(1.0, 4 * high) * (step / 8) ** 2  # no step where the bare skull begins
                across = (self.rx + (0.045 - 0.025 * bald) * thin) * math.cos(turn)
                outer.append((self.x + side * across, _SKULL_Y - (_SKULL_HEIGHT + volume * thin) * math.sin(turn)))
            skull_y = _SKULL_Y - _SKULL_HEIGHT * math.sin(angle)
            top = (self.x + side * self.rx * high, _HAIRLINE_Y + (skull_y - _HAIRLINE_Y) * lift)
            line = []
            for step in range(7):
                across = low + (0.97 - low) * step / 6
                line.append((self.x + side * self.rx * across, _HAIRLINE_Y + 0.16 * across**4))
            self._fill([*outer, top, *line], self.hair)
            self._stroke([top, *line], 0.010, mix(self.hair, _INK, 0.30))

    def _bangs(self) -> None:
        """A fringe with pointed locks, from just below the hairline to the brows."""
        bangs = self.factors["bangs"]
        if bangs == 0:
            return
        end_y = _HAIRLINE_Y + 0.03 + 0.145 * bangs
        half = 0.90 * self.rx
        teeth = [(self.x + half * (step / 5 - 1), end_y - (0.028 if step % 2 else 0.0)) for step in range(11)]
        self._fill([(self.x - half, _HAIRLINE_Y + 0.05), (self.x - 0.7 * half, _HAIRLINE_Y - 0.005),
                    (self.x + 0.7 * half, _HAIRLINE_Y - 0.005), (self.x + half, _HAIRLINE_Y + 0.05),
                    *reversed(teeth)], mix(self.hair, _INK, 0.10))  # fmt: skip

    def _hat(self) -> None:
        """A hat from pillbox to topper that stands high, so that the hair beneath stays in sight."""
        hat = self.factors["hat"]
        if hat == 0:
            return
        half, height = 0.10 + 0.09 * hat, 0.05 + 0.185 * hat
        brim = half + 0.035 + 0.06 * hat
        top_y = _BRIM_Y - 0.02 - height
        right = [(half, _BRIM_Y - 0.015), (0.92 * half, top_y + 0.02), (0.8 * half, top_y)]
        left = [(-across, y) for across, y in reversed(right)]
        self._fill([(self.x + across, y) for across, y in right + left], _HAT)
        band = [(half, _BRIM_Y - 0.03), (half, _BRIM_Y - 0.055), (-half, _BRIM_Y - 0.055), (-half, _BRIM_Y - 0.03)]
        self._fill([(self.x + across, y) for across, y in band], _HAT_BAND)
        self._oval(self.x, _BRIM_Y - 0.018, brim, 0.020, _HAT)
