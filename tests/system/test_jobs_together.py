"""Jobs submitted to one cluster at once, two trainings, a search and a scoring: each image is paid for once."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import ray
import yaml
from PIL import Image
from ray import serve as ray_serve

from cluster import HomeCluster, joined
from graphdrl.images import ImageSet, prepare
from graphdrl.images.sources.faces import FacesSource
from graphdrl.oracle import load_prompt
from graphdrl.oracle.scores import ScoreStore
from graphdrl.training import Run, choose_for_scoring
from serve import OracleSettings, Request, Snapshot, start_oracle
from serve.fakes import FakeEngine

pytestmark = pytest.mark.system

ATTRIBUTES = ("bald", "hat", "smile")
_PATIENCE_S = 500
NUM_IMAGES, SIZE = 128, 32
NUM_SCORED = {"first": 96, "second": 64}
NUM_SEARCHED = 112
"""Images that the search scores for its trials."""

IN_FOLDER = range(20, 52)
"""Rows of the same images that lie in the folder to score."""

TRAINING = (
    *(f"attributes=[{','.join(ATTRIBUTES)}]", f"data.image_size={SIZE}", f"data.num_images={NUM_IMAGES}"),
    *("data.num_test=0", "model.num_latents=12", "relations.update_at=[48]", "relations.num_bootstrap=20"),
    *("training.num_workers=1", "training.use_gpu=false", "training.steps=150", "training.batch_size=8"),
    *("training.pair_groups=2", "training.group_size=6", "training.log_every=10", "training.checkpoint_every=150"),
)


class SlowEngine(FakeEngine):
    """Answers by the image's hash, with time for another job to ask the same meanwhile."""

    async def probabilities(self, requests: list[Request]) -> np.ndarray:
        time.sleep(0.05)
        return await super().probabilities(requests)


def make_engine(settings: OracleSettings) -> SlowEngine:
    return SlowEngine(load_prompt("score"), ATTRIBUTES, lambda image, attribute: int(image[:2], 16) / 51)


@dataclass(frozen=True)
class Together:
    """What the jobs left: their exit codes by name, the cluster's runs, and the oracle's counts."""

    exits: dict[str, int]
    said: dict[str, str]
    kept: Path
    store: Path
    counts: Snapshot
    images: ImageSet


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Together]:
    folder = tmp_path_factory.mktemp("together")
    kept, store, work = folder / "kept", folder / "scores", folder / "work"
    images = prepare("faces", {}, NUM_IMAGES, SIZE, 0, folder / "images")
    (work / "faces").mkdir(parents=True)
    for row in IN_FOLDER:
        Image.fromarray(np.asarray(images.images[row])).save(work / "faces" / f"{row:03d}.png")
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    with HomeCluster(cpus=4) as home, joined(home.address):
        start_oracle(OracleSettings(num_cpus=0.1, score_store=store), "oracle", make_engine=make_engine)
        asking = (f"oracle.score_store={store}",)
        commands = {
            name: ("train", f"name={name}", f"oracle.num_scored={number}", *TRAINING, *asking)
            for name, number in NUM_SCORED.items()
        }
        commands["score"] = (
            *("score", "faces", "--attributes", ",".join(ATTRIBUTES), "--size", str(SIZE), "--set", *asking),
            *("--out", str(kept / "scores.parquet")),
        )
        (work / "base.yaml").write_text("name: base\n")
        (work / "search.yaml").write_text(yaml.safe_dump(search(store)))
        commands["search"] = ("tune", "search.yaml")
        jobs = {name: submit(home, work, kept, words) for name, words in commands.items()}
        said, exits = {}, {}
        for name, job in jobs.items():
            said[name], _ = job.communicate(timeout=_PATIENCE_S)
            exits[name] = job.returncode
        counts = ray_serve.get_app_handle("oracle").snapshot.remote().result(timeout_s=30)
        yield Together(exits, said, kept, store, counts, images)


def search(store: Path) -> dict[str, Any]:
    overrides = dict(word.split("=", 1) for word in TRAINING)
    return {
        "name": "search",
        "config": "base.yaml",
        "overrides": {key: yaml.safe_load(value) for key, value in overrides.items()}
        | {"oracle.num_scored": NUM_SEARCHED, "oracle.score_store": str(store), "training.steps": 60},
        "space": {"training.learning_rate": {"grid": [5.0e-4, 2.0e-3]}},
        "objective": "elbo",
        "algorithm": "grid",
        "scheduler": "none",
        "num_validation": 64,
        "concurrency": 1,
    }


def submit(home: HomeCluster, work: Path, kept: Path, words: tuple[str, ...]) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", "from graphdrl.cli import main; main()", "submit", *words]
    return subprocess.Popen(
        [*command, "--address", home.dashboard, "--runs", str(kept)],
        cwd=work,
        env=os.environ | {"RAY_ADDRESS": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_all_end_well(together: Together) -> None:
    for name, code in together.exits.items():
        assert code == 0, together.said[name][-3000:]


def test_every_job_has_all_its_scores(together: Together) -> None:
    for name, number in NUM_SCORED.items():
        run = Run(together.kept / name)
        summary = run.read_summary()
        assert (summary["images_scored"], summary["edge_versions"] >= 1) == (number, True), name
        assert run.report.exists()
    assert pq.read_table(together.kept / "scores.parquet").num_rows == len(IN_FOLDER)
    leaderboard = pq.read_table(together.kept / "search" / "leaderboard.parquet").to_pylist()
    assert [row["status"] for row in leaderboard] == ["finished", "finished"]
    assert Run(together.kept / "search" / "best").model.exists()


def test_each_image_is_asked_once(together: Together) -> None:
    ids = together.images.ids
    rows = set(IN_FOLDER)
    wanted = len(IN_FOLDER)
    for number in (*NUM_SCORED.values(), NUM_SEARCHED):
        rows |= set(choose_for_scoring(NUM_IMAGES, number, 0).tolist())
        wanted += number
    grades = len({ids[row] for row in rows}) * len(ATTRIBUTES)
    total = together.counts.total()
    assert set(together.counts.clients) >= {*NUM_SCORED, "search"}
    assert total["asked"] == grades, total
    assert total["items"] == total["asked"] + total["joined"] + total["from_store"] == wanted * len(ATTRIBUTES)
    assert together.counts.asked_again == total["malformed"] == 0
    assert len(ScoreStore(together.store)) == grades


def test_jobs_that_draw_the_same_images_at_once_take_the_quicker_ones(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    draw = FacesSource.draw

    def overtaken(source: FacesSource, num: int | None, size: int, seed: int) -> ImageSet:
        monkeypatch.setattr(FacesSource, "draw", draw)
        prepare("faces", {}, num, size, seed, tmp_path)
        return draw(source, num, size, seed)

    monkeypatch.setattr(FacesSource, "draw", overtaken)
    # The other job is another process: its unfinished folder has another name.
    numbers = count(1)
    monkeypatch.setattr(os, "getpid", lambda: next(numbers))
    images = prepare("faces", {}, 16, SIZE, 0, tmp_path)
    assert len(images) == 16
    assert [folder.name for folder in tmp_path.iterdir() if folder.name.startswith(".")] == []
