"""A whole job whose runs and scores lie on an S3-compatible server: any machine goes on with it from there alone."""

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from object_store import Bucket, ObjectStore
from small_jobs import Finished, colours, losses, put_oracle, run_job, tiny

import graphdrl
from graphdrl.cli import main
from graphdrl.config import Config, load_config
from graphdrl.storage import cache_folder, place
from graphdrl.storage.files import RemoteFolder
from graphdrl.training import Run
from jobs import begin, resume

_STEPS, _CHECKPOINT = 24, "step_00000024"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where this machine's copies lie."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRAPHDRL_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="module")
def runs(object_store: ObjectStore) -> Bucket:
    return object_store.new_bucket()


def on(bucket: Bucket, *overrides: str) -> Config:
    where = (f"runs={bucket.uri('runs')}", f"oracle.score_store={bucket.uri('scores')}")
    return tiny(Path("nowhere"), *where, *overrides)


def forget_this_machine() -> None:
    shutil.rmtree(cache_folder())
    cache_folder().mkdir()


@pytest.fixture(scope="module")
def trained(runs: Bucket, cache: Path) -> Finished:
    with put_oracle(colours):
        return run_job(begin(on(runs, "name=whole")))


def test_everything_that_a_run_leaves_is_in_the_bucket(runs: Bucket, trained: Finished) -> None:
    names = set(runs.names("runs/whole"))
    assert {"config.yaml", "metrics.jsonl", "schedule.jsonl", "summary.json", "report.html"} <= names
    edges = {f"edges/version_{number:04d}/relations.parquet" for number in trained.run.versions()}
    assert {"model/model.safetensors", "scores/scores.parquet", *edges} <= names
    assert edges
    assert f"checkpoints/{_CHECKPOINT}/state.json" in names
    assert not any("partial" in name or name.startswith(".") for name in names)
    assert json.loads(runs.read("runs/whole/summary.json")) == trained.summary
    assert not Path("nowhere").exists()


def test_another_machine_reads_the_run_by_its_address(trained: Finished, runs: Bucket) -> None:
    before = losses(trained.run)
    forget_this_machine()
    run = Run(runs.uri("runs/whole"))
    run.fetch()
    assert losses(run) == before
    assert run.read_summary() == trained.summary
    assert graphdrl.GEM.from_pretrained(run.model).relations is not None


def test_commands_take_the_address(
    trained: Finished, runs: Bucket, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    forget_this_machine()
    runs.delete("runs/whole/report.html")
    monkeypatch.setattr(sys, "argv", ["graphdrl", "report", runs.uri("runs/whole")])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    assert Path(capsys.readouterr().out.strip()).exists()
    assert len(runs.read("runs/whole/report.html")) > 10_000


def test_a_run_killed_between_the_files_of_a_checkpoint_goes_on_from_the_one_before(
    runs: Bucket, trained: Finished, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, upload = on(runs, "name=killed"), RemoteFolder.upload

    def killed(self: RemoteFolder, file: Path, name: str) -> None:
        if name.endswith(f"{_CHECKPOINT}/rank_0.json"):
            raise KeyboardInterrupt
        upload(self, file, name)

    with monkeypatch.context() as patched, put_oracle(colours):
        patched.setattr(RemoteFolder, "upload", killed)
        start = begin(config)
        with pytest.raises(KeyboardInterrupt):
            run_job(start)
    kept = runs.names("runs/killed/checkpoints")
    assert any(_CHECKPOINT in name for name in kept), "it had begun to upload the second checkpoint"
    assert [name for name in kept if name.endswith("state.json")] == ["step_00000012/state.json"]

    forget_this_machine()
    with put_oracle(colours):
        finished = run_job(resume(runs.uri("runs/killed")))
    uncut = trained.run
    uncut.fetch()
    assert [row["step"] for row in losses(finished.run)] == [row["step"] for row in losses(uncut)] != []
    for again, before in zip(losses(finished.run), losses(uncut), strict=True):
        assert again == pytest.approx(before, abs=1e-6)
    assert finished.run.read_schedule() == uncut.read_schedule()
    assert finished.summary["images_trained"] == trained.summary["images_trained"]
    assert f"{_CHECKPOINT}/state.json" in runs.names("runs/killed/checkpoints")


def test_a_name_that_is_taken_gets_a_number(runs: Bucket, trained: Finished) -> None:
    start = begin(on(runs, "name=whole"))
    assert start.config.name == "whole-2"
    assert "config.yaml" in runs.names("runs/whole-2")


def test_a_schedule_is_replayed_from_its_address(runs: Bucket, trained: Finished) -> None:
    forget_this_machine()
    again = run_job(begin(on(runs, "name=replayed"), place(runs.uri("runs/whole"))))
    assert losses(again.run) == losses(trained.run) != []
    assert runs.read("runs/replayed/replayed.txt").decode().strip() == runs.uri("runs/whole")


def test_images_are_drawn_once_for_all_machines(
    runs: Bucket, trained: Finished, monkeypatch: pytest.MonkeyPatch
) -> None:
    from jobs import training_images

    config = on(runs, "name=whole")
    before = training_images(config)
    forget_this_machine()
    monkeypatch.setattr(sys.modules["graphdrl.images.prepare"], "write_shards", None)  # nothing is drawn anew
    assert training_images(config).ids == before.ids


def test_storage_that_cannot_be_written_is_named_before_anything_starts(runs: Bucket, cache: Path) -> None:
    missing = runs.uri("runs").replace(runs.name, "no-such-bucket")
    local = ("training.backend=local", "oracle.engine=transformers")
    with pytest.raises(ValueError, match=r"the folder of runs s3://no-such-bucket/runs.*create the bucket"):
        begin(load_config(None, [f"runs={missing}", f"oracle.score_store={runs.uri('scores')}", *local]))
    with pytest.raises(ValueError, match=r"the score store s3://no-such-bucket/runs.*create the bucket"):
        begin(load_config(None, [f"runs={runs.uri('runs')}", f"oracle.score_store={missing}", *local]))
    with pytest.raises(ValueError, match="is not a run"):
        resume(runs.uri("runs/never-begun"))
    assert not any(name.startswith(("run/", "never")) for name in runs.names("runs"))
