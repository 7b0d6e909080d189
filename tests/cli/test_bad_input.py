"""Bad input, through the command line: one sentence that names the thing and the way out, and nothing left behind."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from graphdrl.cli import main
from graphdrl.config import dump_config, load_config
from graphdrl.training import Run

Said = Callable[..., str]
GRAPHDRL = [sys.executable, "-c", "from graphdrl.cli import main; main()"]


@pytest.fixture
def complaint(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Said:
    """The one sentence with which `graphdrl WORDS...` ends when it fails."""

    def run(*words: object) -> str:
        monkeypatch.setattr(sys, "argv", ["graphdrl", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr().err
        assert ended.value.code == 1, said
        assert "Traceback" not in said
        *before, last = said.strip().splitlines()
        assert last.startswith("error: "), said
        assert not any("error" in line for line in before), said
        return last

    return run


@pytest.mark.parametrize(
    ("words", "sentences"),
    [
        (["training.step=4"], ["training.step is not a key", "did you mean training.steps?"]),
        (["training.steps=-1"], ["training.steps=-1 will not do", "greater than or equal to 1"]),
        (["method=gen"], ["unknown method 'gen'", "did you mean 'gem'?"]),
        (["relations.estimator=somers"], ["somers", "somers_d"]),
        (["attributes=[bald, bld]"], ["'bld'", "did you mean 'bald'?", "another oracle.model"]),
        (["attributes=[bald, bald]"], ["distinct"]),
        (["attributes=['bald?']"], ["'bald?' cannot be an attribute"]),
        (["data.source=face"], ["data.source='face'", "'faces'"]),
        (["data.path=nowhere"], ["no folder 'nowhere'"]),
        (["nowhere.yaml"], ["no config file nowhere.yaml", "configs/"]),
        (["model.num_latents=4"], ["10 attributes", "model.num_latents is 4", "raise it"]),
        (["training.min_workers=3"], ["training.min_workers=3", "training.num_workers=2", "lower"]),
        (
            ["training.num_workers=4", "training.min_workers=3", "training.batch_size=12", "training.pair_groups=4"],
            ["training.pair_groups=4", "3 workers"],
        ),
        (["training.batch_size=33"], ["training.batch_size=33", "multiple of 2"]),
        (["oracle.model=/nowhere"], ["oracle.model", "'/nowhere'", "builtin"]),
        (["--backend", "rai"], ["training.backend='rai'", "'ray' or 'local'"]),
        (["--replay-schedule", "nowhere"], ["nowhere", "schedule.jsonl"]),
        (["--resume", "nowhere"], ["nowhere is not a run", "config.yaml"]),
        (["--resume", "nowhere", "training.steps=4"], ["own config.yaml", "leave out"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value[0], str) else "",
)
def test_a_training_that_cannot_be(
    complaint: Said, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], sentences: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    said = complaint("train", *words)
    assert all(sentence in said for sentence in sentences), said
    assert not list(tmp_path.iterdir()), "a run that never began leaves no folder"


def test_a_folder_without_images(complaint: Said, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("not an image")
    said = complaint("train", f"runs={tmp_path}/runs", f"data.path={tmp_path}")
    assert f"{str(tmp_path)!r} has no image files" in said
    assert ".png" in said
    said = complaint("score", tmp_path, "--attributes", "bald", "--engine", "transformers")
    assert "holds no image that can be used" in said
    assert "PNG" in said


def test_a_folder_of_which_nothing_can_be_read(complaint: Said, tmp_path: Path) -> None:
    (tmp_path / "torn.png").write_bytes(b"\x89PNG\r\n\x1a\n torn")
    local = ("--backend", "local", "oracle.engine=none")
    said = complaint("train", *local, f"runs={tmp_path}/runs", f"data.path={tmp_path}")
    assert "none of its 1 image files can be read" in said
    assert "torn.png" in said


@pytest.mark.parametrize("command", ["score", "relations"])
def test_names_that_the_oracle_cannot_be_asked_for(complaint: Said, tmp_path: Path, command: str) -> None:
    said = complaint(command, tmp_path, "--attributes", "bald,brd")
    assert "did you mean 'beard'?" in said
    assert "0 attributes were given" in complaint(command, tmp_path, "--attributes", " , ")
    assert "oracle.engine='vlm'" in complaint(command, tmp_path, "--attributes", "bald,age", "--engine", "vlm")
    assert "asks nobody" in complaint(command, tmp_path, "--attributes", "bald,age", "--engine", "none")


def test_relations_that_cannot_be_estimated(complaint: Said, tmp_path: Path) -> None:
    local = ("--engine", "transformers", "--set", f"runs={tmp_path}/runs")
    assert "2 or more are needed" in complaint("relations", tmp_path, "--attributes", "bald", *local)
    said = complaint("relations", tmp_path, "--attributes", "bald,age", "--estimator", "somer_d", *local)
    assert "somers_d" in said
    for row in range(3):
        Image.new("RGB", (32, 32), (row, 0, 0)).save(tmp_path / f"{row}.png")
    said = complaint("relations", tmp_path, "--attributes", "bald,age", *local)
    assert "3 images are too few, 30 or more" in said


def test_a_run_that_is_not_finished(complaint: Said, tmp_path: Path) -> None:
    run = Run(tmp_path / "begun")
    run.folder.mkdir()
    run.config.write_text(dump_config(load_config(None, ["name=begun", f"runs={tmp_path}"])))
    said = complaint("report", run.folder)
    assert "is not a finished run (it has no summary.json)" in said
    assert "--resume" in said
    said = complaint("evaluate", run.folder)
    assert "has no trained model" in said
    assert "--resume" in said


def test_a_run_whose_configuration_was_spoilt(complaint: Said, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("training: {steps: [")
    assert "config.yaml is not valid YAML" in complaint("train", "--resume", tmp_path)


def test_an_oracle_that_is_no_model(complaint: Said, tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    assert "holds no config.json" in complaint("train", f"runs={tmp_path}/runs", f"oracle.model={model}")
    (model / "config.json").write_text("{}")
    small = ("data.num_images=64", "data.image_size=32", "oracle.num_scored=32", "relations.update_at=[32]")
    said = complaint("train", "--backend", "local", f"runs={tmp_path}/runs", f"oracle.model={model}", *small)
    assert "cannot load the oracle's model" in said
    assert str(model) in said


def test_a_benchmark_that_there_is_not(complaint: Said) -> None:
    said = complaint("bench", "quikstart")
    assert "did you mean 'quickstart'?" in said
    assert "oracle-quality" in said


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        command = [*GRAPHDRL, "serve", "oracle", f"oracle.score_store={tmp_path}", "--port", str(port)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: "), done.stderr
    assert f"{port}" in last
    assert "in use" in last


def test_a_process_ends_with_its_exit_code_and_without_a_traceback(tmp_path: Path) -> None:
    done = subprocess.run(
        [*GRAPHDRL, "train", "training.step=4"], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: training.step is not a key")
    assert "Traceback" not in done.stderr


def test_ctrl_c_says_how_to_go_on_and_leaves_a_run_to_resume(tmp_path: Path) -> None:
    small = ("data.num_images=64", "data.image_size=32", "data.num_test=0", "training.steps=100000")
    local = ("--backend", "local", "oracle.engine=none", "training.checkpoint_every=2", "training.batch_size=4")
    with subprocess.Popen(
        [*GRAPHDRL, "train", f"runs={tmp_path}", *local, *small], stderr=subprocess.PIPE, text=True
    ) as process:
        give_up_at = time.monotonic() + 200
        while Run(tmp_path / "run").last_checkpoint() is None:
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < give_up_at
            time.sleep(0.2)
        os.kill(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=100)
    assert process.returncode == 130
    assert "--resume" in said.strip().splitlines()[-1]
    assert "Traceback" not in said
