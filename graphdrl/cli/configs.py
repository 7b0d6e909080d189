"""How commands take a configuration: an optional YAML file, then key=value overrides."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

Words = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[CONFIG.yaml] [key=value]...",
        help="A config file, and values that override it, such as training.steps=200.",
    ),
]


def split_words(words: Sequence[str] | None) -> tuple[Path | None, list[str]]:
    """The config file, if the first word is one, and the overrides."""
    words = list(words or [])
    if words and "=" not in words[0]:
        return Path(words[0]), words[1:]
    return None, words
