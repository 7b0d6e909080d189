"""Several nodes on one machine: a training, its oracle and a search go on when a node dies; a run, when the head does.

The figures of such deaths, one part after the other, are those of `graphdrl bench faults`.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import pyarrow.parquet as pq
import pytest
import yaml

from cluster import HomeCluster, Node
from graphdrl.oracle.scores import ScoreStore
from graphdrl.training import Run

pytestmark = pytest.mark.system

_PATIENCE_S = 400.0
_STEPS = 120
_NUM_SCORED, _NUM_ATTRIBUTES = 96, 10
TINY = (
    "data.num_images=400",
    "data.num_test=100",
    f"oracle.num_scored={_NUM_SCORED}",
    "oracle.num_cpus=1",
    "relations.update_at=[48]",
    "relations.num_bootstrap=40",
    "training.batch_size=8",
    "training.pair_groups=2",
    "training.group_size=8",
    "training.log_every=5",
    "training.checkpoint_every=20",
    f"training.steps={_STEPS}",
    "training.cpus_per_worker=1",
    "training.min_workers=1",
)


@dataclass
class Stage:
    """A cluster with two nodes for trainers and one for the oracle, and a folder that all of them see."""

    cluster: HomeCluster
    folder: Path
    trainers: list[Node]

    def run(self, name: str) -> Run:
        return Run(self.folder / "runs" / name)

    def start(self, *words: str, **environment: str) -> "subprocess.Popen[bytes]":
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-c", "from graphdrl.cli import main; main()", *words],
                cwd=self.folder,
                env=os.environ | {"RAY_ADDRESS": self.cluster.address} | environment,
                stdout=log,
                stderr=log,
            )

    def train(self, name: str, *words: str) -> "subprocess.Popen[bytes]":
        where = (f"name={name}", f"runs={self.folder / 'runs'}", f"oracle.score_store={self.folder / 'scores'}")
        return self.start("train", *where, *TINY, *words)

    def waits(self, process: "subprocess.Popen[bytes]", until: Callable[[], bool]) -> None:
        end = time.monotonic() + _PATIENCE_S
        while not until():
            assert process.poll() is None, self.said()
            assert time.monotonic() < end, self.said()
            time.sleep(0.2)

    def ends_well(self, process: "subprocess.Popen[bytes]") -> None:
        assert process.wait(_PATIENCE_S) == 0, self.said()

    def said(self) -> str:
        return (self.folder / "log").read_text()[-3000:]

    def has_trainer(self) -> bool:
        return any("TrainWorker" in " ".join(process.cmdline()) for process in self.trainers[-1].processes())


def step_of(run: Run) -> int:
    rows = run.read_metrics()
    return rows[-1]["step"] if rows else 0


def final_loss(run: Run) -> float:
    return float(np.mean([row["total"] for row in run.read_metrics() if row["step"] > _STEPS - 30]))


def rows_of(store: Path) -> int:
    return sum(pq.read_metadata(path).num_rows for path in store.glob("*.parquet"))


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("nodes")
    with HomeCluster(nodes=1, cpus=0) as cluster:
        cluster.add_node(cpus=1)
        # The oracle takes the node that is there; the trainers those that come.
        played = Stage(cluster, folder, [])
        serving = played.start("serve", "oracle", f"oracle.score_store={folder / 'scores'}", "oracle.num_cpus=1")
        played.waits(serving, lambda: "answers; trainers" in played.said())
        played.trainers += [cluster.add_node(cpus=1) for _ in range(2)]
        yield played
        serving.terminate()
        serving.wait(60)


@pytest.fixture(scope="module")
def undisturbed(stage: Stage) -> Run:
    stage.ends_well(stage.train("undisturbed"))
    return stage.run("undisturbed")


def test_a_training_goes_on_without_the_node_of_one_worker(stage: Stage, undisturbed: Run) -> None:
    assert undisturbed.last_num_workers() == 2
    scores = rows_of(stage.folder / "scores")
    training = stage.train("disturbed", "--replay-schedule", str(undisturbed.folder))
    run = stage.run("disturbed")
    stage.waits(training, lambda: step_of(run) >= 50)
    stage.trainers.pop().kill()
    stage.ends_well(training)
    assert [row["step"] for row in run.read_metrics()] == [row["step"] for row in undisturbed.read_metrics()]
    assert run.last_num_workers() == 1
    assert final_loss(run) == pytest.approx(final_loss(undisturbed), rel=0.01)
    assert run.read_schedule() == undisturbed.read_schedule()
    assert rows_of(stage.folder / "scores") == scores == _NUM_SCORED * _NUM_ATTRIBUTES
    assert len(ScoreStore(stage.folder / "scores")) == scores


def test_a_search_goes_on_without_a_node(stage: Stage, undisturbed: Run) -> None:
    stage.trainers.append(stage.cluster.add_node(cpus=1))
    scores = rows_of(stage.folder / "scores")
    search = {
        "name": "search",
        "config": str(undisturbed.config),
        "overrides": {"training.num_workers": 1, "training.steps": 60, "relations.update_at": [48]},
        "space": {"training.learning_rate": {"grid": [5.0e-4, 2.0e-3]}},
        "objective": "dci_d",
        "algorithm": "grid",
        "scheduler": "none",
    }
    (stage.folder / "search.yaml").write_text(yaml.safe_dump(search))
    searching = stage.start("tune", str(stage.folder / "search.yaml"))
    trials = stage.folder / "runs" / "search" / "trials"

    def both_train() -> bool:
        return sum(step_of(Run(trial)) >= 10 for trial in trials.glob("*")) == 2 and stage.has_trainer()

    stage.waits(searching, both_train)
    stage.trainers.pop().kill()
    stage.ends_well(searching)
    leaderboard = pq.read_table(stage.folder / "runs" / "search" / "leaderboard.parquet").to_pylist()
    assert [row["status"] for row in leaderboard] == ["finished", "finished"]
    assert rows_of(stage.folder / "scores") == scores, "the images were scored before: nobody is asked again"


def test_when_the_whole_head_dies_one_command_goes_on(stage: Stage) -> None:
    """The last test of this file: it takes its cluster down."""
    training = stage.train("beheaded", "oracle.engine=none")
    run = stage.run("beheaded")
    stage.waits(training, lambda: step_of(run) >= 50)
    processes = [process for node in stage.cluster.nodes for process in node.processes()]
    for node in stage.cluster.nodes:
        node.kill()
    training.kill()
    training.wait()
    left_at = step_of(run)
    with HomeCluster(nodes=2, cpus=1) as cluster:
        words = ("submit", "train", "--resume", str(run.folder), "--address", cluster.dashboard)
        empty = stage.folder / "empty"
        empty.mkdir()
        command = [sys.executable, "-c", "from graphdrl.cli import main; main()", *words]
        again = subprocess.run(
            [*command, "--runs", str(stage.folder / "runs")],
            cwd=empty,
            env=os.environ | {"RAY_ADDRESS": ""},
            capture_output=True,
            text=True,
            timeout=_PATIENCE_S,
            check=False,
        )
    assert again.returncode == 0, again.stdout[-3000:] + again.stderr[-3000:]
    assert 50 <= left_at < _STEPS
    assert step_of(run) == _STEPS
    assert run.summary.exists()
    _, alive = psutil.wait_procs(processes, timeout=30)
    assert not alive, "nothing of the old cluster helped"
