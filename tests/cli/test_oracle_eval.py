"""`graphdrl oracle-eval` on a person's own labelled images, with the built-in oracle in this process."""

import csv
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from graphdrl.cli import main
from graphdrl.images.sources.avatars import draw, write_folder
from graphdrl.oracle.doubt import Calibration, calibration_file, load_calibration
from graphdrl.oracle.identity import BUILTIN_FOLDER, model_key

NUM, SEED = 100, 1_000_021
NAMES = ("glasses", "beard", "smile", "hat", "skin")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """The built-in model in a folder of its own, not calibrated yet."""
    return Path(shutil.copytree(BUILTIN_FOLDER, tmp_path / "model", ignore=shutil.ignore_patterns("calibration")))


def labelled_folder(folder: Path, style: str, num: int, grade: int = 5) -> Path:
    """Avatars with labels.csv; grade 1 labels presence alone."""
    paths = write_folder(folder, num, 64, SEED, style=style)
    drawn = draw(num, 64, SEED, style=style)
    columns = [drawn.attributes.index(name) for name in NAMES]
    truth = np.asarray(drawn.grades)[:, columns]
    with (folder / "labels.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", *NAMES])
        for path, row in zip(paths, truth, strict=True):
            writer.writerow([path.name, *(np.rint(5 * row) if grade == 5 else (row >= 0.5).astype(int))])
    return folder


def graphdrl(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    monkeypatch.setattr(sys, "argv", ["graphdrl", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_a_model_is_measured_calibrated_and_then_doubts_what_it_does_not_know(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    settings = (
        *("--engine", "transformers", "--set", f"oracle.model={model}", "--set", f"runs={tmp_path}/runs"),
        *("--set", f"oracle.score_store={tmp_path}/store"),
    )
    known = labelled_folder(tmp_path / "avataaars", "avataaars", NUM)
    figures, file = tmp_path / "figures.json", calibration_file(str(model))
    assert graphdrl(monkeypatch, "oracle-eval", known, *settings, "--json", figures, "--save", file) == 0
    shown = capsys.readouterr().out
    assert "present or absent" in shown
    assert "zero-scoring rate" in shown
    assert "such images" not in shown, "there was nothing to doubt by yet"

    measured = json.loads(figures.read_text())["avataaars"]["quality"]
    assert measured["average"]["presence_accuracy"] > 0.9
    assert measured["average"]["rank_agreement"] > 0.9
    assert measured["average"]["calibration_error"] is not None
    assert np.sum(measured["by_attribute"]["glasses"]["confusion"]) == NUM
    calibration = load_calibration(str(model))
    assert isinstance(calibration, Calibration)
    assert calibration.model == model_key(str(model))
    assert calibration.agreement(NAMES) is not None
    assert calibration.confusion(NAMES).sum() == NUM * len(NAMES)

    strange = labelled_folder(tmp_path / "personas", "personas", NUM, grade=1)
    assert graphdrl(monkeypatch, "oracle-eval", known, strange, *settings, "--json", figures) == 0
    shown = capsys.readouterr().out
    assert "The oracle knows such images" in shown
    assert "The oracle does not know such images" in shown
    assert "ROC area" in shown, "labels of presence alone"
    doubts = {name: one["doubt"]["share_flagged"] for name, one in json.loads(figures.read_text()).items()}
    assert doubts["avataaars"] < 0.1
    assert doubts["personas"] > 0.3


def test_what_cannot_be_evaluated_is_said_before_anybody_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tmp_path.joinpath("labels.csv").write_text("file,moustache\n1.png,1\n")
    from PIL import Image

    Image.new("RGB", (16, 16)).save(tmp_path / "1.png")
    assert graphdrl(monkeypatch, "oracle-eval", tmp_path, "--engine", "transformers") == 1
    assert "never learnt the attribute 'moustache'" in capsys.readouterr().err
    words = ("oracle-eval", tmp_path, "--engine", "transformers", "--attributes", "hat")
    assert graphdrl(monkeypatch, *words) == 1
    assert "none of these sets has labels of 'hat'" in capsys.readouterr().err
    assert graphdrl(monkeypatch, "oracle-eval", "photographs", "--engine", "transformers") == 1
    assert "none of these sets has labels" in capsys.readouterr().err
