"""Portraits that other artists drew, out of the DiceBear collection: proof that nothing is tuned to our own drawings."""

import io
import json
from functools import cache
from importlib import resources
from typing import Any, ClassVar, Literal

import numpy as np
from PIL import Image
from pydantic import Field

from graphdrl.images.avatars import LEAVE_OUT, STYLES, PortraitNet, Style, settle
from graphdrl.images.ids import image_ids
from graphdrl.images.sources.base import ImageSet, SourceParameters

NUISANCES = ("background", "mirror", "tilt", "size")


class AvatarsParameters(SourceParameters):
    """style: whose drawings."""

    style: Literal["avataaars", "open-peeps"] = Field(default="avataaars")


class AvatarsSource:
    """Avatars of one style, their attributes drawn from a `PortraitNet`."""

    name: ClassVar[str] = "avatars"
    Parameters: ClassVar[type[SourceParameters]] = AvatarsParameters
    graded: ClassVar[bool] = False

    def __init__(self, parameters: AvatarsParameters) -> None:
        self._style = STYLES[parameters.style]

    @property
    def attributes(self) -> tuple[str, ...]:
        """Names of the attributes that the style can show."""
        return self._style.attributes

    def draw(self, num: int | None, size: int, seed: int, independent: bool = False) -> ImageSet:
        """`num` avatars of `size` x `size` pixels; None: 1,000."""
        return draw(1_000 if num is None else num, size, seed, independent, self._style.file)


def draw(num: int, size: int, seed: int, independent: bool = False, style: str = "avataaars") -> ImageSet:
    """`num` avatars of `size` x `size` pixels in one style, the same for the same seed."""
    drawings = STYLES[style]
    network = PortraitNet(drawings)
    grades = network.sample_independent(num, seed) if independent else network.sample(num, seed)
    nuisances = np.random.default_rng([seed, 1]).random((num, len(NUISANCES))).astype(np.float32)
    images = render(drawings, grades, nuisances, size, seed)
    return ImageSet(
        images,
        image_ids(images),
        attributes=drawings.attributes,
        grades=grades,
        factors=np.concatenate([grades, nuisances], axis=1),
        factor_names=drawings.attributes + NUISANCES,
        network=network,
    )


def render(style: Style, grades: np.ndarray, nuisances: np.ndarray, size: int, seed: int) -> np.ndarray:
    """Images uint8 [N, size, size, 3] of visible grades [N, K] and nuisances [N, 4] in [0, 1]."""
    column = {name: k for k, name in enumerate(style.attributes)}
    _, looks = settle(style, grades)
    images = np.empty((len(grades), size, size, 3), np.uint8)
    for i, rng in enumerate(np.random.default_rng([seed, 2]).spawn(len(grades))):
        options = _pose(style, nuisances[i])
        for part, chosen in looks.items():
            options |= _variant(part, rng.choice(style.parts[part][chosen[i]].variants))
        for attribute, (colours, tones) in style.tones.items():
            tone = tones[round(float(grades[i, column[attribute]]), 1)]
            options |= {f"{colour}Color": [tone] for colour in colours}
        for option, values in style.nuisances.items():
            options |= _nuisance(option, rng.choice(values))
        images[i] = _rasterise(style.file, options, size, _background(nuisances[i, 0]))
    return images


def _pose(style: Style, nuisances: np.ndarray) -> dict[str, Any]:
    _, mirror, tilt, zoom = (float(value) for value in nuisances)
    return {
        "seed": "",
        "flip": ["horizontal" if mirror < 0.5 else "none"],
        "rotate": [(tilt - 0.5) * 10],
        "scale": [style.zoom * (0.96 + 0.08 * zoom)],
        "translateY": [style.shift],
    }


def _variant(part: str, variant: str) -> dict[str, Any]:
    if variant == LEAVE_OUT:
        return {f"{part}Probability": 0}
    return {f"{part}Variant": [str(variant)], f"{part}Probability": 100}


def _nuisance(option: str, value: str) -> dict[str, Any]:
    return {option: [str(value)]} if option.endswith("Color") else _variant(option.removesuffix("Variant"), value)


def _background(hue: float) -> str:
    return f"hsl({hue * 360:.0f}, 45%, 78%)"


def _rasterise(file: str, options: dict[str, Any], size: int, background: str) -> np.ndarray:
    from dicebear import Avatar
    from resvg_py import svg_to_bytes

    svg = Avatar(_style(file), options).to_string()
    png = svg_to_bytes(svg_string=svg, width=size, height=size, background=background, skip_system_fonts=True)
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


@cache
def _style(file: str) -> Any:
    """A style's definition; ImportError says what to install."""
    try:
        from dicebear import Style as Definition

        text = resources.files("dicebear_styles").joinpath(f"{file}.json").read_text(encoding="utf-8")
    except ImportError as error:
        raise ImportError("avatars need the optional packages: install graphdrl[avatars]") from error
    return Definition(json.loads(text))
