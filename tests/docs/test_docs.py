"""What the pages say holds: links lead somewhere, commands exist, trainings that are shown have a valid config."""

import re
import shlex
from pathlib import Path

import pytest

from graphdrl.cli.app import app
from graphdrl.cli.configs import split_words
from graphdrl.config import load_config

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])


def anchors(page: Path) -> set[str]:
    """Anchors of a page's headings: lower case, dashes for spaces, no punctuation."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def trainings() -> list[str]:
    """Every `graphdrl train` of the pages' code blocks that does not stand for another word."""
    blocks = [block for page in PAGES for block in re.findall(r"```\n(.*?)```", page.read_text(), re.DOTALL)]
    return sorted({line for block in blocks for line in re.findall(r"^graphdrl train (.+)$", block, re.MULTILINE)})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_the_readme_lists_every_command() -> None:
    listed = set(re.findall(r"^\| `graphdrl ([\w-]+)", (ROOT / "README.md").read_text(), re.MULTILINE))
    groups = {group.name for group in app.registered_groups}
    assert listed == groups | {command.name for command in app.registered_commands}


@pytest.mark.parametrize("line", trainings())
def test_the_trainings_shown_have_a_valid_configuration(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    words = [word.replace("DIR", str(tmp_path)) for word in shlex.split(line, comments=True)]
    # Every option of `train` takes a value, and none of them is part of the configuration.
    pairs = zip(["", *words], words, strict=False)
    given = [word for before, word in pairs if not word.startswith("--") and not before.startswith("--")]
    path, overrides = split_words(given)
    assert load_config(path, overrides)
