"""Portraits that other artists drew (DiceBear): the proof that nothing here is tuned to our own drawings.

Attributes are read from the variants and colours chosen (`graphdrl.images.avatars`); what a style cannot show is not
among its attributes. The drawings are remixes, taken from the package dicebear-styles: Avataaars and Open Peeps by
Pablo Stanley (free for personal and commercial use; CC0 1.0), Lorelei by Lisa Wischofsky (CC0 1.0), Personas by
Draftbit (CC BY 4.0: pictures of it that are passed on need this credit).
"""

import io
import json
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from functools import cache
from importlib import import_module, resources
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from graphdrl.images.avatars import HELD_OUT_STYLES, LEAVE_OUT, STYLES, PortraitNet, Style, settle
from graphdrl.images.ids import image_ids
from graphdrl.images.sources.base import ImageSet, SourceParameters

NUISANCES = ("background", "mirror", "tilt", "size")


class AvatarsParameters(SourceParameters):
    """style: whose drawings; the built-in oracle learns from `TRAINING_STYLES` and never sees `HELD_OUT_STYLES`."""

    style: Literal["avataaars", "open-peeps", "personas", "lorelei"] = "avataaars"


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

    @property
    def factor_names(self) -> tuple[str, ...]:
        """The attributes, then the nuisances."""
        return self._style.attributes + NUISANCES

    def sample(self, num: int, seed: int) -> np.ndarray:
        """Factors float32 [num, F]: visible grades from a `PortraitNet`, and nuisances."""
        return _factors(PortraitNet(self._style), num, seed)

    def draw(self, num: int | None, size: int, seed: int, independent: bool = False) -> ImageSet:
        """`num` avatars of `size` x `size` pixels; they can be drawn without end, so `num` must be given."""
        if num is None:
            raise ValueError("avatars are drawn without end: say how many")
        return draw(num, size, seed, independent, self._style.file)


def draw(num: int, size: int, seed: int, independent: bool = False, style: str = "avataaars") -> ImageSet:
    """`num` avatars of `size` x `size` pixels in one style, the same for the same seed.

    independent: grades balanced, and as independent as parts that exclude each other allow. Seeds from `HELD_OUT_SEED`
    on are for measuring only.
    Raises ValueError on an unknown style, ImportError without the optional packages.
    """
    drawings = _known(style)
    network = PortraitNet(drawings)
    factors = _factors(network, num, seed, independent)
    grades, nuisances = np.split(factors, [len(drawings.attributes)], axis=1)
    images = render(drawings, grades, nuisances, size, seed)
    return ImageSet(
        images,
        image_ids(images),
        attributes=drawings.attributes,
        grades=grades,
        factors=factors,
        factor_names=drawings.attributes + NUISANCES,
        relations=network.edges,
    )


def _factors(network: PortraitNet, num: int, seed: int, independent: bool = False) -> np.ndarray:
    """Grades and nuisances float32 [num, F]."""
    grades = network.sample_independent(num, seed) if independent else network.sample(num, seed)
    nuisances = np.random.default_rng([seed, 1]).random((num, len(NUISANCES)), np.float32)
    return np.concatenate([grades, nuisances], axis=1)


def write_folder(folder: Path, num: int, size: int, seed: int, style: str = HELD_OUT_STYLES[0]) -> list[Path]:
    """Write `num` avatars of a style as PNG files, as if they were somebody's own images; the files' paths.

    Each file carries the artist's credit.
    """
    credit = PngInfo()
    credit.add_text("Copyright", _known(style).licence)
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{style}-{i:05d}.png" for i in range(num)]
    for path, image in zip(paths, draw(num, size, seed, style=style).images, strict=True):
        Image.fromarray(image).save(path, pnginfo=credit)
    return paths


def _known(style: str) -> Style:
    if style not in STYLES:
        near = get_close_matches(style, STYLES, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"no style of avatars is called {style!r}{hint} (there are: {', '.join(STYLES)})")
    return STYLES[style]


def render(style: Style, grades: np.ndarray, nuisances: np.ndarray, size: int, seed: int) -> np.ndarray:
    """Images uint8 [N, size, size, 3] of visible grades [N, K] and nuisances [N, 4] in [0, 1].

    seed: chooses among the variants that show the same grades.
    """
    draw_svg = _drawer(style.file)
    _, looks = settle(style, grades)
    picks = np.random.default_rng([seed, 2]).random((len(grades), len(style.parts) + len(style.nuisances)))
    images = np.empty((len(grades), size, size, 3), np.uint8)
    for i in range(len(grades)):
        chosen = [style.parts[part][looks[part][i]].variants for part in style.parts]
        options = (
            _pose(style, nuisances[i])
            | _tones(style, grades[i])
            | _variants((*style.parts, *style.nuisances), (*chosen, *style.nuisances.values()), picks[i])
        )
        images[i] = _rasterise(draw_svg(options), size, _background(nuisances[i, 0]))
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


def _tones(style: Style, grades: np.ndarray) -> dict[str, Any]:
    """Colours of one image's grades [K]."""
    options: dict[str, Any] = {}
    for attribute, (colours, tones) in style.tones.items():
        tone = tones[round(float(grades[style.attributes.index(attribute)]), 1)]
        options |= {f"{colour}Color": [tone] for colour in colours}
    return options


def _variants(names: Sequence[str], choices: Sequence[Sequence[str]], picks: np.ndarray) -> dict[str, Any]:
    """One choice for each component (or colour: its name ends in Color), by picks in [0, 1)."""
    options: dict[str, Any] = {}
    for name, values, pick in zip(names, choices, picks, strict=True):
        value = values[int(pick * len(values))]
        if name.endswith("Color"):
            options[name] = [value]
        elif value == LEAVE_OUT:
            options[f"{name}Probability"] = 0
        else:
            options |= {f"{name}Variant": [value], f"{name}Probability": 100}
    return options


def _background(hue: float) -> str:
    return f"hsl({hue * 360:.0f}, 45%, 78%)"


def _rasterise(svg: str, size: int, background: str) -> np.ndarray:
    from resvg_py import svg_to_bytes

    png = svg_to_bytes(svg_string=svg, width=size, height=size, background=background, skip_system_fonts=True)
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


@cache
def _definition(file: str) -> Any:
    """A style of the package; ImportError says what to install."""
    try:
        from dicebear import Style as Definition

        text = resources.files("dicebear_styles").joinpath(f"{file}.json").read_text(encoding="utf-8")
        import_module("resvg_py")
    except ImportError as error:
        raise ImportError("avatars need optional packages: install graphdrl[avatars]") from error
    return Definition(json.loads(text))


@cache
def _drawer(file: str) -> Callable[[dict[str, Any]], str]:
    """What draws a style's options as SVG."""
    definition = _definition(file)
    from dicebear.options import Options
    from dicebear.renderer import Renderer
    from dicebear.resolver import Resolver

    class Trusted(Options):
        """Options out of our own tables: checking them against the schema would take as long as drawing them."""

        def __init__(self, data: dict[str, Any]) -> None:
            super().__init__()
            self._data = data

    return lambda options: Renderer(definition, Resolver(definition, Trusted(options))).render()
