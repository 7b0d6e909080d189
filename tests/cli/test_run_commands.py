"""`train`, `report`, `evaluate` and `doctor` as a person types them, one after the other."""

import json
import sys
from pathlib import Path

import pytest

from graphdrl.cli import main
from graphdrl.training import Run

SMALL = (
    "oracle.engine=none",
    "data.image_size=32",
    "data.num_images=64",
    "data.num_test=120",
    "model.num_latents=10",
    "training.steps=6",
    "training.batch_size=8",
)


def graphdrl(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    monkeypatch.setattr(sys, "argv", ["graphdrl", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_a_run_is_trained_measured_again_and_its_page_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert graphdrl(monkeypatch, "train", "--backend", "local", "name=small", f"runs={tmp_path}", *SMALL) == 0
    run = Run(tmp_path / "small")
    shown = capsys.readouterr().err
    assert f"report: {run.report}" in shown
    assert "metrics.reconstruction_mse" in shown

    page = run.report.read_text()
    run.report.unlink()
    assert graphdrl(monkeypatch, "report", run.folder) == 0
    assert capsys.readouterr().out.strip() == str(run.report)
    # The page names the run's time, which was not over yet when the run wrote it first.
    assert abs(len(run.report.read_text()) - len(page)) < 100

    assert graphdrl(monkeypatch, "evaluate", run.folder) == 0
    assert json.loads(capsys.readouterr().out) == pytest.approx(run.read_summary()["metrics"])

    before = run.read_summary()["metrics"]
    assert graphdrl(monkeypatch, "evaluate", run.folder, "--features", "oracle", "--save") == 0
    added = {"fid_oracle", "kid_oracle", "fid_oracle_samples", "kid_oracle_samples"}
    assert run.read_summary()["metrics"].keys() == before.keys() | added
    assert "FID" in run.report.read_text()
    assert graphdrl(monkeypatch, "evaluate", run.folder, "--oracle", "none") == 1
    assert "name an engine" in capsys.readouterr().err


def test_doctor_names_what_is_installed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    code = graphdrl(monkeypatch, "doctor")
    table = capsys.readouterr().out
    assert all(name in table for name in ("Python", "torch", "ray", "deepspeed", "vLLM", "built-in oracle"))
    assert code == 0 or "close something" in table, table


def test_help_is_one_page_a_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    commands = ("train", "score", "relations", "evaluate", "report", "serve", "bench", "doctor")
    assert graphdrl(monkeypatch, "--help") == 0
    listed = capsys.readouterr().out
    for command in commands:
        assert command in listed
        assert graphdrl(monkeypatch, command, "--help") == 0
