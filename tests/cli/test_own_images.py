"""A person's own folder through the command line, with the built-in oracle in this process."""

import re
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy.stats import spearmanr

from graphdrl.cli import main
from graphdrl.images.sources.avatars import draw, write_folder
from graphdrl.oracle.scores import ScoreStore

NUM, SEED = 48, 11


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Avatars, and among them a file that cannot be read; the name means something else in YAML."""
    folder = tmp_path / "portraits: 2024 #1"
    write_folder(folder, NUM, 64, SEED, style="avataaars")
    (folder / "torn.png").write_bytes(b"\x89PNG\r\n\x1a\n torn")
    return folder


def graphdrl(monkeypatch: pytest.MonkeyPatch, *words: object) -> None:
    monkeypatch.setattr(sys, "argv", ["graphdrl", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code


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
