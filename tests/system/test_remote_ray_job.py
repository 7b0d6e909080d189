"""The main job on Ray with its runs on an S3-compatible server, killed whole and resumed from the bucket alone."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from object_store import Bucket, ObjectStore

from graphdrl.config import load_config
from graphdrl.training import Run
from jobs import training_images

pytestmark = pytest.mark.system

_PATIENCE_S = 400.0
GRAPHDRL = [sys.executable, "-c", "from graphdrl.cli import main; main()"]
TINY = (
    "oracle.engine=none",
    "data.num_images=128",
    "data.image_size=32",
    "data.num_test=0",
    "model.num_latents=12",
    "training.batch_size=8",
    "training.log_every=4",
    "training.checkpoint_every=4",
    "training.keep_checkpoints=2",
)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRAPHDRL_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="module")
def runs(object_store: ObjectStore) -> Bucket:
    return object_store.new_bucket()


def kill(process: subprocess.Popen) -> None:
    """End a command and all that it started; its own session, so nobody else's."""
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    for one in family:
        try:
            one.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(family, timeout=30)
    process.wait()


def complete(runs: Bucket) -> list[str]:
    names = [name for name in runs.names("runs/mine/checkpoints") if name.endswith("/state.json")]
    return sorted(name.split("/")[0] for name in names)


@pytest.fixture(scope="module")
def killed(runs: Bucket, cache: Path) -> str:
    """The newest checkpoint in the bucket when everything on this machine was killed and forgotten."""
    words = (f"runs={runs.uri('runs')}", "name=mine", "training.steps=100000", *TINY)
    process = subprocess.Popen([*GRAPHDRL, "train", *words], start_new_session=True)
    give_up_at = time.monotonic() + _PATIENCE_S
    try:
        while len(complete(runs)) < 2:
            assert process.poll() is None, "the training ended by itself"
            assert time.monotonic() < give_up_at
            time.sleep(0.2)
    finally:
        kill(process)
    shutil.rmtree(cache)
    return complete(runs)[-1]


@pytest.fixture(scope="module")
def resumed(runs: Bucket, killed: str) -> Run:
    """Gone on with from the bucket, for four steps more than its last checkpoint."""
    steps = int(killed.removeprefix("step_")) + 4
    config = runs.read("runs/mine/config.yaml").decode().replace("steps: 100000", f"steps: {steps}")
    runs.put("runs/mine/config.yaml", config.encode())
    words = [*GRAPHDRL, "train", "--resume", runs.uri("runs/mine")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=_PATIENCE_S, check=False)
    assert done.returncode == 0, done.stderr
    run = Run(runs.uri("runs/mine"))
    run.fetch()
    return run


def test_a_checkpoint_in_the_bucket_holds_what_every_rank_wrote(runs: Bucket, killed: str) -> None:
    names = runs.names(f"runs/mine/checkpoints/{killed}")
    assert {"rank_0.json", "rank_1.json"} <= set(names)
    assert sum(name.endswith("_optim_states.pt") for name in names if name.startswith("generator/")) == 2


def test_the_run_goes_on_where_it_was_and_ends(runs: Bucket, killed: str, resumed: Run) -> None:
    last = int(killed.removeprefix("step_")) + 4
    assert [row["step"] for row in resumed.read_metrics()] == list(range(4, last + 1, 4))
    summary = json.loads(runs.read("runs/mine/summary.json"))
    assert (summary["steps"], summary["num_workers"]) == (last, 2)
    assert summary["images_trained"] == last * 8
    assert {"model/model.safetensors", "report.html"} <= set(runs.names("runs/mine"))
    assert len(complete(runs)) == 2


def test_the_images_lie_beside_the_runs(runs: Bucket, resumed: Run) -> None:
    config = load_config(resumed.config)
    assert len(training_images(config)) == 128
    assert any(name.endswith("manifest.json") for name in runs.names("runs/.data"))
