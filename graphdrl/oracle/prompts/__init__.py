"""What the oracle is asked, in words: one text file a kind of question, the same for every model."""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

LONGEST_ATTRIBUTE = 64

_FOLDER = Path(__file__).parent
_ATTRIBUTE = re.compile(r"[\w\- ]*[^\W_][\w\- ]*")


@dataclass(frozen=True)
class Prompt:
    """A question's text with `{attribute}` in it; `version` is a hash of the text, kept beside every score."""

    name: str
    text: str
    version: str

    def render(self, attribute: str) -> str:
        """The question about one attribute, whose identifier is asked as words: long_hair as "long hair"."""
        return self.text.replace("{attribute}", " ".join(check_attribute(attribute).replace("_", " ").split()))


def load_prompt(name: str) -> Prompt:
    """The prompt kept in NAME.txt beside this file; raises ValueError, listing the prompts, when there is none."""
    known = sorted(path.stem for path in _FOLDER.glob("*.txt"))
    if name not in known:
        raise ValueError(f"there is no prompt {name!r}; the prompts are {', '.join(known)}")
    text = (_FOLDER / f"{name}.txt").read_text(encoding="utf-8").strip()
    return Prompt(name, text, hashlib.blake2b(text.encode(), digest_size=4).hexdigest())


def check_attribute(name: str) -> str:
    """The name itself, if it can be put into a prompt as data; raises ValueError otherwise."""
    if len(name) > LONGEST_ATTRIBUTE or not _ATTRIBUTE.fullmatch(name):
        shown = name if len(name) <= LONGEST_ATTRIBUTE else name[:LONGEST_ATTRIBUTE] + "..."
        raise ValueError(
            f"{shown!r} cannot be an attribute: use at most {LONGEST_ATTRIBUTE} letters, digits, spaces, - and _"
        )
    return name
