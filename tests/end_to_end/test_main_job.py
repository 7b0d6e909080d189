"""The main job on the real parts: Ray Train, DeepSpeed, Ray Serve, vLLM and the object store, through the command line.

One job starts all of them, is killed when its oracle has answered, and goes on; another finds the oracle running on a
cluster and the scores in the store. vLLM starts twice in all.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow.parquet as pq
import pytest
import yaml
from scipy.stats import spearmanr
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import graphdrl
from graphdrl.config import load_config
from graphdrl.images import prepare
from graphdrl.oracle.scores import ScoreStore
from graphdrl.training import Run

ROOT = Path(__file__).parents[2]
_PATIENCE_S = 400.0
_NUM_ATTRIBUTES = 10

TINY = (
    "data.num_images=400",
    "data.num_test=200",
    "oracle.num_scored=96",
    "relations.update_at=[48]",
    "relations.num_bootstrap=40",
    "training.batch_size=8",
    "training.pair_groups=2",
    "training.group_size=8",
    "training.log_every=5",
    "training.checkpoint_every=10",
    "training.keep_checkpoints=1",
)

SUMMARY = (
    "images_trained",
    "images_scored",
    "edge_versions",
    "images_per_s",
    "relations.spearman",
    "relations.sign_accuracy",
    "relations.resolved_edges",
    "relations.true_edges",
    "metrics.dci_d",
    "metrics.mig",
    "metrics.reconstruction_mse",
    "seconds",
    "num_workers",
    "zero_stage",
    "oracle_engine",
    "questions_asked",
    "versions_before_half",
    "oracle_wait_fraction",
)


class Command:
    """`graphdrl WORDS...` as a process, its output in a file."""

    def __init__(self, folder: Path, *words: object, **environment: str) -> None:
        self.log = folder / f"{words[0]}-{time.time_ns()}.log"
        with self.log.open("w") as log:
            self._process = psutil.Popen(
                [sys.executable, "-c", "from graphdrl.cli import main; main()", *map(str, words)],
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=folder,
                env=os.environ | environment,
            )

    def wait_until(self, condition: Callable[[], Any]) -> Any:
        give_up_at = time.monotonic() + _PATIENCE_S
        while not (found := condition()):
            assert self._process.poll() is None, self.log.read_text()[-3000:]
            assert time.monotonic() < give_up_at, self.log.read_text()[-3000:]
            time.sleep(0.2)
        return found

    def finish(self) -> None:
        try:
            assert self._process.wait(_PATIENCE_S) == 0, self.log.read_text()[-3000:]
        finally:
            self.kill()

    def interrupt(self) -> int:
        self._process.send_signal(signal.SIGINT)
        try:
            return self._process.wait(60)
        finally:
            self.kill()

    def kill(self) -> None:
        """`kill -9` for it and for all that it has started: nobody has a moment to tidy up."""
        family = [*self._process.children(recursive=True), self._process] if self._process.is_running() else []
        for process in family:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        psutil.wait_procs(family, timeout=30)


@dataclass(frozen=True)
class Killed:
    """A run as `kill -9` left it: its last checkpoint, and what its log and score store held."""

    run: Run
    checkpoint: dict[str, Any]
    schedule: list[tuple[int, int]]
    num_stored: int


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("job")


@pytest.fixture(scope="module")
def killed(folder: Path) -> Killed:
    """Trained on the shipped quickstart, made tiny and endless, until a checkpoint stands on the last scores."""
    run = Run(folder / "runs" / "main")
    job = Command(folder, "train", ROOT / "configs" / "quickstart.yaml", "name=main", "training.steps=1000000", *TINY)

    def stands_on_all_scores() -> dict[str, Any] | None:
        checkpoint = run.last_checkpoint()
        state = json.loads((checkpoint / "state.json").read_text()) if checkpoint else {"version": 0}
        all_scored = run.versions() and run.read_version(run.versions()[-1]).edges.num_scored == 96
        return state if all_scored and state["version"] == run.versions()[-1] else None

    try:
        job.wait_until(stands_on_all_scores)
    finally:
        job.kill()
    checkpoint = run.last_checkpoint()
    assert checkpoint is not None
    state = json.loads((checkpoint / "state.json").read_text())
    return Killed(run, state, run.read_schedule(), len(ScoreStore(folder / "runs" / "score_store")))


@pytest.fixture(scope="module")
def cluster(folder: Path, killed: Killed) -> Iterator[str]:
    """The address of a cluster on which `graphdrl serve oracle` runs, over the same score store."""
    oracle = Command(folder, "serve", "oracle")
    try:
        yield oracle.wait_until(lambda: re.search(r"RAY_ADDRESS=(\S+?);", oracle.log.read_text())).group(1)
        assert oracle.interrupt() == 130
    finally:
        oracle.kill()


@pytest.fixture(scope="module")
def resumed(folder: Path, killed: Killed, cluster: str) -> Run:
    """The killed run, gone on for 30 steps and to its end."""
    tree = yaml.safe_load(killed.run.config.read_text())
    tree["training"]["steps"] = killed.checkpoint["step"] + 30
    killed.run.config.write_text(yaml.safe_dump(tree))
    Command(folder, "train", "--resume", killed.run.folder, RAY_ADDRESS=cluster).finish()
    return killed.run


@pytest.fixture(scope="module")
def another(folder: Path, resumed: Run, cluster: str) -> Run:
    """A new run on the same images, under ZeRO-3."""
    small = ("training.batch_size=4", "training.group_size=4", "data.num_test=100")
    words = ("name=another", "training.steps=150", "training.zero_stage=3", *TINY, *small)
    Command(folder, "train", ROOT / "configs" / "quickstart.yaml", *words, RAY_ADDRESS=cluster).finish()
    return Run(folder / "runs" / "another")


def test_a_killed_job_has_its_scores_its_versions_and_a_whole_checkpoint(killed: Killed) -> None:
    assert killed.checkpoint["version"] == killed.run.versions()[-1] >= 2
    assert killed.num_stored == 96 * _NUM_ATTRIBUTES
    assert not killed.run.summary.exists()


def test_a_killed_job_goes_on_from_its_last_checkpoint(killed: Killed, resumed: Run) -> None:
    steps = [row["step"] for row in resumed.read_metrics()]
    end = killed.checkpoint["step"] + 30
    assert steps == list(range(5, end + 1, 5)), "no step is missing, none was done twice"
    before = [pair for pair in killed.schedule if pair[0] < killed.checkpoint["step"]]
    assert resumed.read_schedule()[: len(before)] == before
    summary = resumed.read_summary()
    assert summary["steps"] == end
    assert summary["images_trained"] <= end * 24
    assert [path.name for path in (resumed.folder / "checkpoints").iterdir()] == [f"step_{end:08d}"]


def test_the_summary_has_every_figure(resumed: Run) -> None:
    summary = resumed.read_summary()
    for name in SUMMARY:
        value: Any = summary
        for part in name.split("."):
            value = value[part]
        assert value is not None, name
    assert (summary["num_workers"], summary["zero_stage"], summary["oracle_engine"]) == (2, 1, "vllm")
    assert (summary["images_scored"], summary["questions_asked"]) == (96, 96 * _NUM_ATTRIBUTES)
    assert summary["edge_versions"] == len(resumed.versions()) >= 2
    assert 0 <= summary["oracle_wait_fraction"] < 0.5


def test_the_configuration_is_loaded_again(resumed: Run) -> None:
    config = load_config(resumed.config)
    assert (config.name, config.training.batch_size, config.oracle.num_scored) == ("main", 8, 96)


def test_tensorboard_holds_what_the_plain_file_holds(resumed: Run) -> None:
    rows = resumed.read_metrics()
    assert {"total", "reconstruction", "kl", "rank", "divergence", "critic/total"} <= rows[-1].keys()
    events = EventAccumulator(str(resumed.tensorboard))
    events.Reload()
    latest = {event.step: event.value for event in events.Scalars("total")}
    for row in rows:
        assert latest[row["step"]] == pytest.approx(row["total"], rel=1e-5)


def test_the_model_is_loaded_from_its_folder_and_knows_its_nodes(resumed: Run) -> None:
    model = graphdrl.GEM.from_pretrained(resumed.model)
    assert model.relations is not None
    assert "bald" in model.nodes
    faces = np.random.default_rng(0).integers(0, 255, (2, 64, 64, 3), np.uint8)
    assert model.edit(faces, {"bald": 2.0}).shape == (2, 3, 64, 64)


def test_vllm_saw_what_the_faces_show(folder: Path, resumed: Run) -> None:
    table = pq.read_table(resumed.scores / "scores.parquet")
    assert table.num_rows == 96
    faces = prepare("faces", {}, 400, 64, 0, folder / "runs" / ".data")
    rows = {image: row for row, image in enumerate(faces.ids)}
    grades = np.asarray(faces.grades)[[rows[image] for image in table["image_id"].to_pylist()]]
    for attribute in ("beard", "glasses", "hat"):
        truth = grades[:, faces.attributes.index(attribute)]
        assert spearmanr(truth, table[f"expected:{attribute}"].to_numpy()).statistic > 0.5, attribute


def test_every_version_lies_on_disk_and_the_schedule_names_them(resumed: Run) -> None:
    assert resumed.versions() == list(range(1, len(resumed.versions()) + 1))
    for number in resumed.versions():
        version = resumed.read_version(number)
        assert version.version == number
        assert np.isfinite(version.edges.weights).all()
    assert {version for _, version in resumed.read_schedule()} <= set(resumed.versions())


def test_the_report_is_one_page_that_loads_nothing(resumed: Run) -> None:
    page = resumed.report.read_text()
    assert len(page) > 100_000
    assert not re.search(r"(src|href)=[\"']https?:", page)
    assert "bald" in page


def test_another_run_pays_for_nothing_again(folder: Path, killed: Killed, another: Run) -> None:
    summary = another.read_summary()
    assert (summary["images_scored"], summary["questions_asked"]) == (96, 0)
    assert (summary["zero_stage"], summary["edge_versions"] >= 1) == (3, True)
    assert len(ScoreStore(folder / "runs" / "score_store")) == killed.num_stored
    assert graphdrl.GEM.from_pretrained(another.model).relations is not None
    assert another.report.exists()
