"""What the avatars' artists drew, put in order: styles, their variants with a grade each, and their network.

A grade is a multiple of 1/5 in [0, 1]; an attribute that a variant does not mention is absent from it (0). Variants
that two people could grade differently are left out. Parts that the artists made exclusive are graded by what is to
be seen: a head under a hat is neither bald nor long-haired, and the colour of hair that no part shows is 0.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from graphdrl.images.bayesnet import FAINTEST, BayesNet, Node

LEAVE_OUT = "-"
"""Stands for a variant: the part is not drawn at all."""


@dataclass(frozen=True)
class Look:
    """Variants of one part that show the same grades.

    variants: their names in the style, or LEAVE_OUT.
    hair: whether hair (or a beard) of the free hair colour is to be seen.
    """

    variants: tuple[str, ...]
    grades: Mapping[str, float] = field(default_factory=dict)
    hair: bool = False


def look(variants: str, hair: bool = False, **grades: float) -> Look:
    """A Look from the variants' names, separated by spaces."""
    return Look(tuple(variants.split()), grades, hair)


@dataclass(frozen=True)
class Style:
    """One artist's drawings.

    file: the style's name in the package; licence: title, artist and licence, to be passed on with its pictures.
    parts: the looks of each component that shows attributes; of several attributes the first named decides first.
    tones: attribute -> (colours it sets, hex value of each grade).
    nuisances: component or colour -> values that say nothing about any attribute.
    zoom, shift: enlargement about the middle and downward shift in percent, so that the head fills the picture.
    """

    file: str
    licence: str
    parts: Mapping[str, tuple[Look, ...]]
    tones: Mapping[str, tuple[tuple[str, ...], Mapping[float, str]]]
    nuisances: Mapping[str, tuple[str, ...]]
    zoom: float = 1.0
    shift: float = 0.0

    @property
    def attributes(self) -> tuple[str, ...]:
        """The attributes this style can show, in the order of `ATTRIBUTES`."""
        shown = {name for looks in self.parts.values() for one in looks for name in one.grades} | set(self.tones)
        return tuple(name for name in ATTRIBUTES if name in shown)

    def levels(self, attribute: str) -> np.ndarray:
        """The grades of an attribute that the style can show, in order."""
        if attribute in self.tones:
            return np.array(sorted(self.tones[attribute][1]))
        looks = [one for looks in self.parts.values() for one in looks]
        return np.unique([0.0, *(one.grades[attribute] for one in looks if attribute in one.grades)])


_SKIN = {0.0: "#ffdfc8", 0.4: "#e2a97f", 0.6: "#b27249", 1.0: "#6e4833"}
_HAIR = {0.0: "#17120f", 0.4: "#74351a", 0.6: "#b5812f", 1.0: "#f6d955"}
_CLOTHES = {0.0: "#eef1f6", 1.0: "#27303f"}
_FRAMES = ("#15181c", "#15181c", "#7a1020", "#123a7a")

STYLES: dict[str, Style] = {
    "avataaars": Style(
        "avataaars",
        "Avataaars by Pablo Stanley, free for personal and commercial use",
        parts={
            "top": (
                look("winterHat02 winterHat03 winterHat04 winterHat1", hat=1.0),
                look(LEAVE_OUT, bald=1.0),
                look("sides", bald=1.0, hair=True),
                look("shortFlat shortWaved shortRound theCaesar", hair=True),
                look("bob longButNotTooLong miaWallace", hair=True, long_hair=0.6),
                look("straight01 straight02 curvy dreads", hair=True, long_hair=1.0),
            ),
            "facialHair": (
                look(LEAVE_OUT),
                look("beardLight", hair=True, beard=0.6),
                look("beardMajestic", hair=True, beard=1.0),
            ),
            "accessories": (
                look(LEAVE_OUT),
                look("prescription01 prescription02 round", glasses=0.6),
                look("kurt", glasses=1.0),
            ),
            "mouth": (
                look("sad"),
                look("twinkle", smile=0.6),
                look("smile", smile=1.0),
            ),
        },
        tones={
            "skin": (("skin",), _SKIN),
            "blond": (("hair", "facialHair"), _HAIR),
            "dark_clothes": (("clothes",), _CLOTHES),
        },
        nuisances={
            "eyes": ("default", "closed", "side", "squint"),
            "eyebrows": ("defaultNatural", "flatNatural", "raisedExcitedNatural"),
            "clothes": ("hoodie", "shirtCrewNeck", "shirtScoopNeck", "shirtVNeck"),
            "hatColor": ("#2f6fd0", "#c0392b", "#2e9e5b", "#7d4bb5"),
            "accessoriesColor": _FRAMES,
        },
        zoom=1.2,
        shift=7.0,
    ),
    "open-peeps": Style(
        "open-peeps",
        "Open Peeps by Pablo Stanley, CC0 1.0",
        parts={
            "head": (
                look("hatBeanie hatHip", hat=1.0),
                look("noHair1 noHair3", bald=1.0),
                look("short1 short2 short5 pomp flatTop grayShort"),
                look("medium2", long_hair=0.6),
                look("long", long_hair=1.0),
                look("bangs bangs2 mediumBangs3", long_hair=0.6, bangs=1.0),
                look("longBangs", long_hair=1.0, bangs=1.0),
            ),
            "facialHair": (
                look(LEAVE_OUT),
                look("full goatee2", beard=0.6),
                look("full3", beard=1.0),
            ),
            "accessories": (
                look(LEAVE_OUT),
                look("glasses glasses3 glasses4 glasses5", glasses=0.6),
                look("sunglasses sunglasses2", glasses=1.0),
            ),
            "expression": (
                look("solemn veryAngry serious"),
                look("calm smile", smile=0.6),
                look("smileBig smileLOL lovingGrin1", smile=1.0),
            ),
        },
        tones={
            "skin": (("skin",), _SKIN),
            "dark_clothes": (("clothing",), _CLOTHES),
        },
        nuisances={"mask": (LEAVE_OUT,), "headContrastColor": ("#17120f",)},
        zoom=1.1,
    ),
    "personas": Style(
        "personas",
        "Personas by Draftbit, CC BY 4.0",
        parts={
            "hair": (
                look("beanie cap", hat=1.0),
                look("bald", bald=1.0),
                look("balding", bald=1.0, hair=True),
                look("shortCombover curlyHighTop fade", hair=True),
                look("bobBangs bobCut", hair=True, long_hair=0.6),
                look("extraLong", hair=True, long_hair=1.0),
            ),
            "facialHair": (
                look(LEAVE_OUT),
                look("goatee", hair=True, beard=0.6),
                look("beardMustache", hair=True, beard=1.0),
            ),
            "eyes": (
                look("open happy wink"),
                look("glasses", glasses=0.6),
                look("sunglasses", glasses=1.0),
            ),
            "mouth": (
                look("frown"),
                look("smile", smile=0.6),
                look("bigSmile", smile=1.0),
            ),
        },
        tones={
            "skin": (("skin",), _SKIN),
            "blond": (("hair", "facialHair"), _HAIR),
            "dark_clothes": (("clothing",), _CLOTHES),
        },
        nuisances={"clothes": ("rounded", "small", "squared"), "nose": ("mediumRound", "smallRound")},
        zoom=1.15,
    ),
    "lorelei": Style(
        "lorelei",
        "Lorelei by Lisa Wischofsky, CC0 1.0",
        parts={
            "hair": (
                look("variant34", bald=1.0),
                look("variant01 variant02 variant03 variant09 variant22 variant47", hair=True),
                look("variant07 variant11 variant43", hair=True, bangs=1.0),
                look("variant15 variant32 variant35", hair=True, long_hair=1.0),
                look("variant13 variant16 variant23", hair=True, long_hair=1.0, bangs=1.0),
            ),
            "beard": (
                look(LEAVE_OUT),
                look("variant01 variant02", hair=True, beard=1.0),
            ),
            "glasses": (
                look(LEAVE_OUT),
                look("variant01 variant03 variant04", glasses=0.6),
                look("variant02", glasses=1.0),
            ),
        },
        tones={"skin": (("skin",), _SKIN), "blond": (("hair",), _HAIR)},
        nuisances={
            "earrings": (LEAVE_OUT,),
            "freckles": (LEAVE_OUT,),
            "hairAccessories": (LEAVE_OUT,),
            "head": ("variant01", "variant02", "variant03", "variant04"),
            "eyes": ("variant04", "variant09", "variant21", "variant24"),
            "eyebrows": ("variant02", "variant05", "variant07", "variant09"),
            "nose": ("variant01", "variant03", "variant04"),
            "mouth": ("happy01", "happy05", "sad04", "sad05"),
        },
        zoom=1.15,
    ),
}

TRAINING_STYLES = ("avataaars", "open-peeps")
"""Styles that the built-in oracle learns from."""

HELD_OUT_STYLES = ("personas", "lorelei")
"""Styles that it never sees."""

HELD_OUT_SEED = 1_000_000
"""Seeds from here on are kept out of every training, whatever the style."""

ATTRIBUTES = (
    "hat", "bald", "long_hair", "bangs", "beard", "glasses", "smile", "blond", "skin", "dark_clothes",
)  # fmt: skip
"""Every attribute that some style shows; a part's attributes are decided in this order."""

_NODES = (
    Node("skin"),
    Node("long_hair", 0.55),
    Node("blond", 0.8, {"skin": -0.6}),
    Node("beard", 0.4, {"long_hair": -0.6}),
    Node("bald", 0.25, {"beard": 0.5, "long_hair": -0.3}),
    Node("hat", 0.2, {"blond": -0.3, "bald": 0.3}),
    Node("bangs", 0.45, {"long_hair": 0.3, "blond": 0.3}),
    Node("smile", 0.6, {"beard": -0.4, "blond": 0.3}),
    Node("dark_clothes", None, {"beard": 0.4, "smile": -0.4}),
    Node("glasses", 0.4, {"dark_clothes": 0.4, "bald": 0.4}),
)
_EVEN_PRESENCE = {"hat": 0.25, "bald": 0.33, "long_hair": 0.67, "bangs": 0.5, "blond": 0.75}
_EVEN = tuple(Node(n.name, _EVEN_PRESENCE.get(n.name, 0.67 if n.presence else None)) for n in _NODES)


class PortraitNet(BayesNet):
    """The network of one style's attributes; a sample holds what is to be seen, exclusive parts settled.

    The columns of a sample are the style's attributes as grades in {0, 1/5, ..., 1}. The independent sample balances
    the grades and is as independent as the exclusive parts allow.
    """

    def __init__(self, style: Style) -> None:
        self._style = style
        self._even = BayesNet([n for n in _EVEN if n.name in style.attributes])
        super().__init__(
            [
                Node(n.name, n.presence, {p: w for p, w in n.parents.items() if p in style.attributes})
                for n in _NODES
                if n.name in style.attributes
            ]
        )

    @property
    def nodes(self) -> tuple[str, ...]:
        """The style's attributes, in the order of the columns of a sample."""
        return self._style.attributes

    def sample(self, num: int, seed: int, do: Mapping[str, float] | None = None) -> np.ndarray:
        """Visible grades float32 [num, K]; where parts exclude each other, what was set may not be what is seen."""
        return self._visible(super().sample(num, seed, do))

    def sample_independent(self, num: int, seed: int, presence: float | None = None) -> np.ndarray:
        """Visible grades float32 [num, K] without dependence but that of exclusive parts."""
        return self._visible(self._even.sample_independent(num, seed, presence))

    def _visible(self, values: np.ndarray) -> np.ndarray:
        """What is to be seen of values [N, K] as drawn."""
        wanted = np.empty(values.shape)
        for k, name in enumerate(self.nodes):
            column = self._columns[name]
            can_be_absent = self._nodes[column].presence is not None
            wanted[:, k] = to_levels(values[:, column], self._style.levels(name), can_be_absent)
        return settle(self._style, wanted)[0]


def settle(style: Style, wanted: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Grades float32 [N, K] that the style can show, nearest to those wanted, and the look of each part, int [N].

    Grades that can be shown stay as they are.
    """
    column = {name: k for k, name in enumerate(style.attributes)}
    grades = wanted.astype(np.float32)
    hair, looks = np.zeros(len(wanted), bool), {}
    for part, options in style.parts.items():
        shown = [column[name] for name in column if any(name in one.grades for one in options)]
        table = np.array([[one.grades.get(style.attributes[k], 0.0) for k in shown] for one in options], np.float32)
        looks[part] = _nearest(wanted[:, shown], table)
        grades[:, shown] = table[looks[part]]
        hair |= np.array([one.hair for one in options])[looks[part]]
    if "blond" in column:
        grades[:, column["blond"]] *= hair
    return grades, looks


def to_levels(values: np.ndarray, levels: np.ndarray, can_be_absent: bool) -> np.ndarray:
    """Values [N] of a node as levels, shared out evenly; in a node that can be absent, level 0 is absence alone."""
    if not can_be_absent:
        return levels[_bins(values, len(levels))]
    shown = np.clip((values - FAINTEST) / (1 - FAINTEST), 0, None)
    return np.where(values == 0, 0.0, levels[1:][_bins(shown, len(levels) - 1)])


def _bins(values: np.ndarray, num: int) -> np.ndarray:
    return np.minimum((values * num).astype(int), num - 1)


def _nearest(wanted: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Row of table [L, k] nearest to each of wanted [N, k]; an earlier column outweighs all later ones."""
    weights = 10.0 ** -np.arange(table.shape[1])
    return (np.abs(wanted[:, None] - table[None]) * weights).sum(-1).argmin(1)
