"""A person's own folder through the command line, with the built-in oracle in this process, or one that is played."""

import re
import sys
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from scipy.stats import spearmanr

from graphdrl.cli import main
from graphdrl.images.ids import image_ids
from graphdrl.images.sources.avatars import draw, write_folder
from graphdrl.oracle import (
    Answer,
    Ask,
    OracleError,
    ProposeAnswer,
    ProposeQuestion,
    Question,
    RelateAnswer,
    RelateQuestion,
)
from graphdrl.oracle.scores import ScoreStore

NUM, SEED = 48, 11


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Avatars, and among them a file that cannot be read; the name means something else in YAML."""
    folder = tmp_path / "portraits: 2024 #1"
    write_folder(folder, NUM, 64, SEED, style="avataaars")
    (folder / "torn.png").write_bytes(b"\x89PNG\r\n\x1a\n torn")
    return folder


class Played:
    """An oracle that sees colours: attributes "red", "green" and "blue" are as strong as they are.

    error: what it answers when it is asked for beliefs.
    """

    def __init__(self, varied: tuple[str, ...] = ("blue", "red"), error: str = "") -> None:
        self._varied, self._error = varied, error
        self.asked: list[Ask] = []

    def submit(self, question: Ask) -> Future:
        self.asked.append(question)
        future: Future = Future()
        if isinstance(question, RelateQuestion) and self._error:
            future.set_exception(OracleError(self._error))
        else:
            future.set_result(self._answer(question))
        return future

    def _answer(self, question: Ask) -> Answer | RelateAnswer | ProposeAnswer:
        if isinstance(question, RelateQuestion):
            grid = np.ones((len(question.attributes),) * 2, np.float32) - np.eye(len(question.attributes))
            return RelateAnswer(question.attributes, 5 * grid, -grid, grid, "played", "belief-7", 2 * grid.size)
        if isinstance(question, ProposeQuestion):
            num = len(self._varied)
            shares, spreads = np.linspace(0.5, 0.4, num), np.linspace(1.5, 1.25, num)
            return ProposeAnswer(self._varied, shares, spreads, "played", "p1", num)
        assert isinstance(question, Question)
        columns = [("red", "green", "blue").index(name) for name in question.attributes]
        expected = (5 / 255 * question.images.mean(axis=(1, 2))[:, columns]).astype(np.float32)
        nothing, none = np.zeros_like(expected), np.zeros(len(expected), bool)
        grades = (expected, np.rint(expected).astype(np.int8), nothing, np.zeros(expected.shape, bool), none)
        return Answer(image_ids(question.images), question.attributes, *grades, "played", "p1", expected.size)


@pytest.fixture
def colours(tmp_path: Path) -> Path:
    """80 plain images, the redder the bluer."""
    folder = tmp_path / "colours"
    folder.mkdir()
    random = np.random.default_rng(0)
    for number, (red, green) in enumerate(random.integers(0, 256, (80, 2))):
        Image.new("RGB", (32, 32), (int(red), int(green), int(red))).save(folder / f"{number}.png")
    return folder


def play(monkeypatch: pytest.MonkeyPatch, oracle: Played) -> Played:
    """Put it where commands find the oracle."""

    @contextmanager
    def open_played(*_: object) -> Iterator[Played]:
        yield oracle

    monkeypatch.setattr("jobs.open_oracle", open_played)
    return oracle


def another_model(tmp_path: Path) -> tuple[str, ...]:
    return ("--size", "32", "--set", f"runs={tmp_path}/runs", "--set", "oracle.model=somebody/a-model")


def graphdrl(monkeypatch: pytest.MonkeyPatch, *words: object, ends: int = 0) -> None:
    monkeypatch.setattr(sys, "argv", ["graphdrl", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert (ended.value.code or 0) == ends


def test_scores_and_relations_of_a_folder(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], caplog
) -> None:
    local = (
        "--engine",
        "transformers",
        "--set",
        f"runs={tmp_path}/runs",
        "--set",
        f"oracle.score_store={tmp_path}/store",
    )
    names, table_file, page = "glasses,beard,dark_clothes", tmp_path / "scores.parquet", tmp_path / "relations.html"
    graphdrl(monkeypatch, "score", folder, "--attributes", names, "--out", table_file, *local)
    assert capsys.readouterr().err.strip().endswith(f"{NUM} images scored, 1 files skipped")
    assert any(line.startswith("skipped torn.png: ") for line in caplog.messages)
    table = pq.read_table(table_file)
    assert table.num_rows == NUM

    drawn = draw(NUM, 64, SEED)
    rows = {image: row for row, image in enumerate(drawn.ids)}
    order = [rows[image] for image in table["image_id"].to_pylist()]
    truth = np.asarray(drawn.grades)[order, drawn.attributes.index("glasses")]
    assert spearmanr(truth, table["expected:glasses"].to_numpy()).statistic > 0.6

    known = len(ScoreStore(tmp_path / "store"))
    assert known == NUM * 3
    graphdrl(monkeypatch, "relations", folder, "--attributes", names, "--out", page, *local)
    assert len(ScoreStore(tmp_path / "store")) == known, "nothing is asked twice, whichever command asks"
    html = page.read_text()
    assert "torn.png" in html
    assert "glasses" in html
    assert not re.search(r"(src|href)=[\"']https?:", html), "the page loads nothing"


def test_beliefs_are_asked_for_once_and_shown_apart(
    colours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    oracle, page = play(monkeypatch, Played()), tmp_path / "relations.html"
    words = ("relations", colours, "--attributes", "red,blue", "--out", page, *another_model(tmp_path))
    graphdrl(monkeypatch, *words, "--beliefs")
    assert [one.attributes for one in oracle.asked if isinstance(one, RelateQuestion)] == [("red", "blue")]
    html = page.read_text()
    assert "nothing of it was measured" in html
    assert "belief-7" in html
    assert html.count('<td class="bad">opposite sign</td>') == 2, "red and blue rise together, whatever is believed"

    graphdrl(monkeypatch, *words)
    assert len([one for one in oracle.asked if isinstance(one, RelateQuestion)]) == 1
    assert "elieve" not in page.read_text()


def test_a_model_that_cannot_say_what_it_believes_costs_no_scores(
    colours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    play(monkeypatch, Played(error="the model [x] believes in nothing: name another"))
    page = tmp_path / "relations.html"
    words = ("relations", colours, "--attributes", "red,blue", "--beliefs", "--out", page, *another_model(tmp_path))
    graphdrl(monkeypatch, *words)
    said = capsys.readouterr().err.splitlines()
    assert "no beliefs on the page: the model [x] believes in nothing: name another" in said
    assert "elieve" not in page.read_text()


def test_the_built_in_model_has_no_commonsense_and_says_so(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "relations.html"
    local = ("--engine", "transformers", "--set", f"runs={tmp_path}/runs", "--set", f"oracle.score_store={tmp_path}/s")
    graphdrl(monkeypatch, "relations", folder, "--attributes", "glasses,beard", "--beliefs", "--out", page, *local)
    [said] = [line for line in capsys.readouterr().err.splitlines() if "belief" in line]
    assert "has no commonsense to be asked for" in said
    assert "oracle.model" in said
    assert "elieve" not in page.read_text()


def test_attributes_are_proposed_in_a_line_to_be_pasted(
    colours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    oracle = play(monkeypatch, Played(varied=("blue", "dark_red")))
    graphdrl(monkeypatch, "propose", colours, "--num-images", 50, "--most", 7, *another_model(tmp_path))
    [asked] = oracle.asked
    assert isinstance(asked, ProposeQuestion)
    assert (asked.images.shape, asked.most) == ((50, 32, 32, 3), 7)
    said = capsys.readouterr()
    *table, last = said.out.strip().splitlines()
    assert last == "--attributes blue,dark_red"
    assert [line.split() for line in table[1:]] == [
        ["blue", "50%", "of", "images", "1.50"],
        ["dark_red", "40%", "of", "images", "1.25"],
    ]
    assert "50 images looked at, 0 files skipped" in said.err


def test_nothing_is_proposed_where_nothing_varies(
    colours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    play(monkeypatch, Played(varied=()))
    graphdrl(monkeypatch, "propose", colours, *another_model(tmp_path), ends=1)
    said = capsys.readouterr()
    assert not said.out
    assert "error: the oracle saw no attribute that varies in 80 images" in said.err
    assert "--num-images" in said.err
