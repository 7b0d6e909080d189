"""A search on Ray Tune, Ray Train and DeepSpeed, with a fake engine on Ray Serve; killed on its way, and resumed."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq
import pytest
import ray
import yaml
from ray import serve as ray_serve

import graphdrl
from cluster import HomeCluster, joined
from graphdrl.oracle import load_prompt
from graphdrl.training import Run
from jobs.trial_record import TrialRecord
from serve import OracleSettings, start_oracle
from serve.fakes import FakeEngine

ATTRIBUTES = ("bald", "glasses", "hat")
NUM_SCORED, STEPS, RUNG = 64, 16, 4

SEARCH: dict[str, Any] = {
    "name": "rates",
    "overrides": {
        "attributes": list(ATTRIBUTES),
        "data.image_size": 32,
        "data.num_images": 128,
        "data.num_test": 100,
        "model.num_latents": 12,
        "oracle.num_cpus": 0.1,
        "relations.update_at": [48],
        "relations.num_bootstrap": 20,
        "training.num_workers": 1,
        "training.use_gpu": False,
        "training.steps": STEPS,
        "training.batch_size": 8,
        "training.pair_groups": 2,
        "training.group_size": 6,
        "training.log_every": 2,
        "training.checkpoint_every": RUNG,
    },
    "space": {
        "training.learning_rate": {"loguniform": [1e-4, 1e-2]},
        "oracle.num_scored": {"choice": [48, NUM_SCORED]},
        "relations.gamma": {"choice": [0.0, 0.5]},
    },
    "objective": "elbo",
    "num_trials": 4,
    "num_validation": 100,
    "concurrency": 2,
    "scheduler": "none",
}


def make_engine(settings: OracleSettings) -> FakeEngine:
    return FakeEngine(load_prompt("score"), (*ATTRIBUTES, "smile"), lambda image, attribute: int(image[:2], 16) / 51)


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, int, dict[str, Any]]]:
    """The search's folder, the grades that its oracle computed, and what lay there when it was killed."""
    folder = tmp_path_factory.mktemp("search")
    tree = SEARCH | {"overrides": SEARCH["overrides"] | {"oracle.score_store": str(folder / "scores")}}
    (folder / "search.yaml").write_text(yaml.safe_dump(tree))
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    with HomeCluster(cpus=2) as home, joined(home.address):
        start_oracle(OracleSettings(num_cpus=0.1, score_store=folder / "scores"), "oracle", make_engine=make_engine)
        killed = kill_on_its_way(folder, home.address)
        command(folder, home.address, "--resume", "runs/rates").wait(timeout=500)
        counts = ray_serve.get_app_handle("oracle").snapshot.remote().result(timeout_s=30)
        yield folder / "runs" / "rates", counts.total()["asked"], killed
    ray.cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


def command(folder: Path, address: str, *words: str) -> psutil.Popen:
    with (folder / "log.txt").open("a") as log:
        return psutil.Popen(
            [sys.executable, "-c", "from graphdrl.cli import main; main()", "tune", *words],
            cwd=folder,
            env=os.environ | {"RAY_ADDRESS": address},
            stdout=log,
            stderr=subprocess.STDOUT,
        )


def kill_on_its_way(folder: Path, address: str) -> dict[str, Any]:
    """Kill the search once one trial has finished and another is between its checkpoints; returns both by name."""
    process = command(folder, address, "search.yaml")
    give_up_at = time.monotonic() + 500
    while True:
        assert process.poll() is None, (folder / "log.txt").read_text()[-3000:]
        assert time.monotonic() < give_up_at, (folder / "log.txt").read_text()[-3000:]
        found = [TrialRecord.read(path) for path in sorted((folder / "runs" / "rates" / "trials").glob("*"))]
        ended = [record for record in found if record is not None and record.status == "finished"]
        begun = [record for record in found if record is not None and record.status == "running" and record.rungs()]
        if ended and begun:
            break
        time.sleep(0.1)
    for child in [*process.children(recursive=True), process]:
        child.kill()
    process.wait(30)
    return {"finished": ended[0], "rungs": ended[0].rungs(), "begun": begun[0].folder.name}


def test_the_oracle_is_asked_once_for_all_trials(searched: tuple[Path, int, dict[str, Any]]) -> None:
    folder, asked, _ = searched
    assert asked == NUM_SCORED * len(ATTRIBUTES)
    assert json.loads((folder / "state.json").read_text())["questions_asked"] in (0, asked), (
        "or the kill took the count"
    )


def test_every_trial_is_a_run_of_its_own_on_frozen_relations(searched: tuple[Path, int, dict[str, Any]]) -> None:
    folder, _, _ = searched
    trials = sorted((folder / "trials").glob("rates-*"))
    assert len(trials) == 4
    for trial in trials:
        run = Run(trial)
        values = json.loads((trial / "trial.json").read_text())["values"]
        assert run.versions() == [1]
        assert run.read_schedule() == [(0, 1)], "a late trial sees no more than an early one"
        assert run.read_version(1).edges.num_scored == values["oracle.num_scored"]
        assert run.read_metrics()[-1]["step"] == STEPS
        assert run.read_config()["training"]["learning_rate"] == values["training.learning_rate"]
    versions = list((folder / "relations").glob("*"))
    assert 1 <= len(versions) <= 4, "one for each distinct choice, whatever the number of trials"


def test_a_killed_search_goes_on_where_it_was(searched: tuple[Path, int, dict[str, Any]]) -> None:
    folder, _, killed = searched
    finished = TrialRecord.read(killed["finished"].folder)
    assert finished is not None
    assert finished.values == killed["finished"].values
    rows = {row["name"]: row for row in pq.read_table(folder / "leaderboard.parquet").to_pylist()}
    assert {row["status"] for row in rows.values()} == {"finished"}
    curve = [point["step"] for point in rows[killed["begun"]]["curve"]]
    assert curve == list(range(RUNG, STEPS + 1, RUNG)), "no checkpoint is missing, none counts twice"


def test_the_best_is_a_run_like_any_other(searched: tuple[Path, int, dict[str, Any]]) -> None:
    folder, _, _ = searched
    rows = pq.read_table(folder / "leaderboard.parquet").to_pylist()
    best = Run(folder / "best")
    assert best.read_config()["training"]["learning_rate"] == rows[0]["values.training.learning_rate"]
    assert graphdrl.GEM.from_pretrained(best.model).relations is not None
    assert best.read_summary()["steps"] == STEPS
    assert best.report.exists()
    assert re.search(r"rates-\d{3}", (folder / "leaderboard.md").read_text())
    assert (folder / "search.html").exists()
