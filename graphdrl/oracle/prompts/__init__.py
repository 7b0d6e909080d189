"""What the oracle is asked, in words: one text file a kind of question, the same for every model."""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

LONGEST_ATTRIBUTE = 64

ScoringWay = Literal["tokens", "structured"]

SCORE_PROMPTS: dict[ScoringWay, str] = {"tokens": "score", "structured": "score_all"}
"""By which prompt images are graded: one attribute at a time, or all in one answer."""

SECOND_WORDING = "score_again"
"""The same question in other words, one attribute at a time."""

_FOLDER = Path(__file__).parent
_ATTRIBUTE = re.compile(r"[\w\- ]*[^\W_][\w\- ]*")


@dataclass(frozen=True)
class Prompt:
    """A question's text with `{attribute}` in it; `version` is a hash of the text, kept beside every score."""

    name: str
    text: str
    version: str

    def render(self, attribute: str) -> str:
        """The question about one attribute."""
        return self.fill(attribute=as_words(attribute))

    def fill(self, **words: str) -> str:
        """The text with each `{name}` replaced; the words must come from `as_words`, which makes them data."""
        return re.sub(r"\{(\w+)\}", lambda found: words[found[1]], self.text)


def as_words(attribute: str) -> str:
    """An attribute's identifier as it is asked: long_hair as "long hair"; raises ValueError for what is none."""
    return " ".join(check_attribute(attribute).replace("_", " ").split())


def load_prompt(name: str, folder: Path | None = None) -> Prompt:
    """The prompt kept in NAME.txt in `folder`, if it is there, or beside this file; ValueError when there is none."""
    known = sorted(path.stem for path in _FOLDER.glob("*.txt"))
    if name not in known:
        raise ValueError(f"there is no prompt {name!r}; the prompts are {', '.join(known)}")
    own = folder / f"{name}.txt" if folder is not None else None
    path = own if own is not None and own.is_file() else _FOLDER / f"{name}.txt"
    text = path.read_text(encoding="utf-8").strip()
    return Prompt(name, text, hashlib.blake2b(text.encode(), digest_size=4).hexdigest())


def check_attribute(name: str) -> str:
    """The name itself, if it can be put into a prompt as data; raises ValueError otherwise."""
    if len(name) > LONGEST_ATTRIBUTE or not _ATTRIBUTE.fullmatch(name):
        shown = name if len(name) <= LONGEST_ATTRIBUTE else name[:LONGEST_ATTRIBUTE] + "..."
        raise ValueError(
            f"{shown!r} cannot be an attribute: use at most {LONGEST_ATTRIBUTE} letters, digits, spaces, - and _"
        )
    return name
