"""A run on an S3-compatible server: what any machine finds there, whatever was cut short, and what an outage costs."""

import logging
from pathlib import Path

import pytest
from object_store import Bucket

from graphdrl.storage.files import RemoteFolder, StorageError
from graphdrl.training import Run
from graphdrl.training.runs import append_line


class Machines:
    """The same run seen from several machines: each has a cache of its own."""

    def __init__(self, bucket: Bucket, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._uri, self._folder, self._monkeypatch = bucket.uri("runs/mine"), folder, monkeypatch

    def run(self, machine: str) -> Run:
        self._monkeypatch.setenv("GRAPHDRL_CACHE", str(self._folder / machine))
        return Run(self._uri)


@pytest.fixture
def machines(bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machines:
    return Machines(bucket, tmp_path, monkeypatch)


@pytest.fixture
def begun(machines: Machines) -> Run:
    """A new run, as the machine `first` began it."""
    run = machines.run("first")
    assert not run.exists()
    run.create()
    run.config.write_text("name: mine\n")
    run.upload()
    return run


def write_files(run: Run, step: int, ranks: tuple[int, ...], text: str = "weights") -> None:
    """What the ranks of one machine leave of a checkpoint."""
    for rank in ranks:
        file = run.checkpoint(step) / "generator" / f"of_rank_{rank}.pt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{text} {step}")
        (run.checkpoint(step) / f"rank_{rank}.json").write_text("{}")


def checkpoint(run: Run, step: int, text: str = "weights", keep: int = 2) -> None:
    """A whole checkpoint of one rank."""
    write_files(run, step, (0,), text)
    stored = run.store_checkpoint(step)
    run.complete_checkpoint(step, {"step": step, "version": 0, "ranks": 1}, stored, keep)


def refuse(*_: object, **__: object) -> None:
    raise StorageError("the storage is away")


def test_another_machine_finds_all_that_was_uploaded(machines: Machines, begun: Run, version) -> None:
    append_line(begun.metrics, {"step": 1, "loss": 0.5})
    (begun.model / "deep").mkdir(parents=True)
    (begun.model / "deep" / "file").write_text("model")
    begun.write_version(version)
    begun.upload()
    other = machines.run("second")
    assert other.exists()
    assert not other.config.exists()
    other.fetch()
    assert other.read_config() == {"name": "mine"}
    assert other.read_metrics() == [{"step": 1, "loss": 0.5}]
    assert (other.model / "deep" / "file").read_text() == "model"
    assert other.versions() == [version.version]
    assert other.folder != begun.folder


def test_a_copy_that_is_newer_is_not_overwritten_and_one_that_is_older_is(machines: Machines, begun: Run) -> None:
    append_line(begun.metrics, {"step": 1})
    begun.fetch()
    assert begun.read_metrics() == [{"step": 1}], "not uploaded yet"
    other = machines.run("second")
    other.fetch()
    append_line(other.metrics, {"step": 2})
    other.upload()
    begun.fetch()
    assert begun.read_metrics() == [{"step": 2}], "the other machine has gone on with the run"


def test_each_machine_brings_its_files_and_gets_those_of_all(machines: Machines, begun: Run) -> None:
    first, second = begun, machines.run("second")
    write_files(first, 10, (0, 1))
    write_files(second, 10, (2, 3))
    assert first.store_checkpoint(10)
    assert machines.run("third").fetch_checkpoint() is None, "the other machine's files are not there"
    assert second.store_checkpoint(10)
    assert machines.run("third").fetch_checkpoint() is None, "nobody has said that it is complete"
    first.complete_checkpoint(10, {"step": 10, "version": 0, "ranks": 4})
    for run in (first, second, machines.run("third")):
        folder = run.fetch_checkpoint()
        assert folder == run.checkpoint(10)
        assert sorted(path.name for path in folder.glob("rank_*.json")) == [f"rank_{rank}.json" for rank in range(4)]
        assert (folder / "generator" / "of_rank_3.pt").read_text() == "weights 10"
        assert run.last_num_workers() == 4


def test_a_checkpoint_whose_upload_was_cut_short_is_not_taken(machines: Machines, begun: Run, monkeypatch) -> None:
    checkpoint(begun, 10)
    write_files(begun, 20, (0, 1, 2))
    upload, uploaded = RemoteFolder.upload, []

    def killed(self: RemoteFolder, file: Path, name: str) -> None:
        if len(uploaded) == 3:
            raise KeyboardInterrupt
        uploaded.append(name)
        upload(self, file, name)

    with monkeypatch.context() as patched:
        patched.setattr(RemoteFolder, "upload", killed)
        with pytest.raises(KeyboardInterrupt):
            begun.store_checkpoint(20)
    other = machines.run("second")
    assert other.fetch_checkpoint() == other.checkpoint(10)
    other.forget_after(10)
    assert not any("step_00000020" in name for name in RemoteFolder(other.place).sizes("checkpoints"))


def test_old_checkpoints_are_deleted_there_too(begun: Run, bucket: Bucket) -> None:
    write_files(begun, 5, (0,))
    begun.store_checkpoint(5)  # and never completed
    for step in (10, 20, 30, 40):
        checkpoint(begun, step, keep=2)
    kept = {name.split("/")[1] for name in bucket.names("runs/mine") if name.startswith("checkpoints/")}
    assert kept == {"step_00000030", "step_00000040"}


def test_a_copy_of_another_history_is_replaced(machines: Machines, begun: Run) -> None:
    checkpoint(begun, 10, "first")
    write_files(begun, 20, (0, 1), "never uploaded")
    other = machines.run("second")
    other.fetch()
    other.fetch_checkpoint()
    checkpoint(other, 20, "second")
    folder = machines.run("first").fetch_checkpoint()
    assert (folder / "generator" / "of_rank_0.pt").read_text() == "second 20"
    assert not (folder / "rank_1.json").exists()


def test_what_is_done_again_leaves_no_file_of_the_first_time(begun: Run) -> None:
    checkpoint(begun, 10)
    write_files(begun, 20, (0, 1))
    begun.drop_checkpoints_after(10)
    assert not begun.checkpoint(20).exists()
    assert begun.checkpoint(10).exists()


def test_an_outage_costs_no_training_and_nothing_that_was_written(
    machines: Machines, begun: Run, monkeypatch, caplog
) -> None:
    checkpoint(begun, 10)
    with monkeypatch.context() as patched, caplog.at_level(logging.WARNING):
        patched.setattr(RemoteFolder, "upload", refuse)
        checkpoint(begun, 20)
        assert "the checkpoint of step 20 is not kept, training goes on: the storage is away" in caplog.text
        begun.summary.write_text("{}")
        with pytest.raises(StorageError, match=r"the storage is away; nothing is lost, it lies in .*--resume"):
            begun.upload()
    other = machines.run("second")
    assert other.fetch_checkpoint() == other.checkpoint(10)
    again = machines.run("first")
    again.fetch()
    again.upload_unkept()
    other.fetch()
    assert other.fetch_checkpoint() == other.checkpoint(20)
    assert other.summary.exists()


def test_a_version_is_kept_by_whoever_makes_it_and_fetched_by_whoever_needs_it(
    machines: Machines, begun: Run, version, monkeypatch, caplog
) -> None:
    owner = machines.run("owner of the edges")
    owner.write_version(version)
    with monkeypatch.context() as patched, caplog.at_level(logging.WARNING):
        patched.setattr(RemoteFolder, "upload", refuse)
        owner.upload_relations()
    assert "relations lie on this machine alone until they can be kept" in caplog.text
    with pytest.raises(ValueError, match=r"s3://.*/runs/mine.* has no relations version 2"):
        begun.read_version(2)
    owner.upload_relations()
    assert begun.read_version(2).key == version.key
    begun.fetch()
    assert begun.read_config() == {"name": "mine"}


def test_a_new_run_starts_with_nothing_of_an_older_one(machines: Machines, begun: Run, bucket: Bucket) -> None:
    checkpoint(begun, 10)
    for name in bucket.names():
        bucket.delete(name)
    again = machines.run("first")
    assert not again.exists()
    again.create()
    assert again.last_checkpoint() is None
    assert again.fetch_checkpoint() is None
