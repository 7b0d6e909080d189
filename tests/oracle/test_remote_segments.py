"""Segments on an S3-compatible server: the promises of those on a disk, without renaming anything."""

import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from object_store import Bucket
from test_segments import Numbers

from graphdrl.oracle import segment_files, segments
from graphdrl.oracle.answers import AnswerStore, Kept
from graphdrl.oracle.protocol import OracleError
from graphdrl.oracle.scores import ScoreStore
from graphdrl.storage import place
from graphdrl.storage.files import RemoteFolder, StorageError


@pytest.fixture
def where(bucket: Bucket) -> str:
    return bucket.uri("scores")


@pytest.fixture
def looks_always(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segment_files, "_LOOK_EVERY_S", 0.0)


def refuse(*_: object) -> None:
    raise StorageError("the storage is away")


def test_grades_and_answers_are_kept_side_by_side(where: str, bucket: Bucket) -> None:
    scores, answers = ScoreStore(where), AnswerStore(place(where) / "answers")
    grades = np.full((2, 6), 1 / 6, np.float32)
    scores.append(["i1", "i2"], ["bald", "hat"], grades, "model", "1")
    scores.flush()
    answers.append(["k1"], [Kept("words")], "name", "model", "1")
    answers.flush()
    assert len(ScoreStore(where)) == 2
    assert AnswerStore(place(where) / "answers").lookup(["k1"], "model", "1") == [Kept("words")]
    known = ScoreStore(where).lookup(["i1", "i2"], ["bald", "hat"], "model", "1")
    assert np.isfinite(known[[0, 1], [0, 1]]).all()
    assert np.isnan(known[[0, 1], [1, 0]]).all()
    assert len(bucket.names("scores")) == 2


@pytest.mark.usefixtures("looks_always")
def test_what_another_writer_flushed_is_seen_and_small_segments_are_joined(
    where: str, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segments, "_MOST_SEGMENTS", 3)
    mine, theirs = Numbers(where), Numbers(where)
    for i in range(6):
        mine.keep(**{f"m{i}": i})
        theirs.keep(**{f"t{i}": i})
    everything = {f"{who}{i}": i for who in "mt" for i in range(6)}
    assert mine.read() == theirs.read() == Numbers(where).read() == everything
    assert len(bucket.names("scores")) < 8
    mine.segments.close()
    assert Numbers(where).read() == everything


def test_between_two_looks_a_store_knows_what_it_wrote_itself(where: str) -> None:
    mine = Numbers(where)
    Numbers(where).keep(theirs=1)
    mine.keep(mine=2)
    assert mine.read() == {"mine": 2}
    mine.segments._files.look_again()
    assert mine.read() == {"mine": 2, "theirs": 1}


def test_a_damaged_segment_is_moved_aside(where: str, bucket: Bucket) -> None:
    store = Numbers(where)
    store.keep(a=1)
    store.keep(b=2)
    victim = bucket.names("scores")[0]
    bucket.put(f"scores/{victim}", bucket.read(f"scores/{victim}")[:-9])
    again = Numbers(where)
    assert again.read() == {"b": 2}
    assert [name for name, _ in again.segments.damaged] == [victim]
    assert f"damaged/{victim}" in bucket.names("scores")
    assert Numbers(where).segments.damaged == []


def test_rows_of_a_failed_write_come_with_the_next_one(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Numbers(where)
    store.add(a=1)
    with monkeypatch.context() as patched:
        patched.setattr(RemoteFolder, "write", refuse)
        with pytest.raises(OracleError, match="the number store the storage is away"):
            store.segments.flush()
    store.keep(a=2)
    assert Numbers(where).read() == {"a": 2}


def test_a_segment_that_cannot_be_fetched_now_is_no_damaged_one(
    where: str, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    Numbers(where).keep(a=1)
    with monkeypatch.context() as patched:
        patched.setattr(RemoteFolder, "read", refuse)
        with pytest.raises(OracleError, match=r"the number segment .*\.parquet of the storage is away"):
            Numbers(where)
    assert Numbers(where).read() == {"a": 1}
    assert not any(name.startswith("damaged") for name in bucket.names("scores"))


@pytest.mark.usefixtures("looks_always")
def test_when_the_storage_goes_away_what_is_known_is_still_known(where: str, monkeypatch, caplog) -> None:
    store = Numbers(where)
    store.keep(a=1)
    with monkeypatch.context() as patched, caplog.at_level(logging.WARNING):
        patched.setattr(RemoteFolder, "sizes", refuse)
        assert store.read() == {"a": 1}
        assert "segments of other writers are not seen" in caplog.text
        with pytest.raises(OracleError, match="the number store the storage is away"):
            Numbers(where)


KILLED = """
import os, sys
sys.path[:0] = sys.argv[1:3]
from test_segments import Numbers
from graphdrl.storage.files import RemoteFolder
store, write = Numbers(sys.argv[3]), RemoteFolder._write
store.keep(a=1)
def killed(self, name, content):
    with self._opened[0].open_output_stream(self._path(name)) as stream:
        stream.write(content)
        stream.flush()
        os._exit(9)
RemoteFolder._write = killed
store.keep(b=2)
"""


def test_a_writer_killed_while_it_writes_leaves_no_half_a_segment(where: str) -> None:
    here = Path(__file__).parent
    done = subprocess.run([sys.executable, "-c", KILLED, str(here), str(here.parent), where], check=False)
    assert done.returncode == 9
    store = Numbers(where)
    assert store.read() == {"a": 1}
    assert store.segments.damaged == []


def test_a_segment_is_such_a_file_as_on_a_disk(where: str, bucket: Bucket, tmp_path: Path) -> None:
    Numbers(where).keep(a=1)
    (name,) = bucket.names("scores")
    (tmp_path / name).write_bytes(bucket.read(f"scores/{name}"))
    assert pq.read_table(tmp_path / name).to_pylist() == [{"name": "a", "value": 1}]
    assert Numbers(tmp_path).read() == {"a": 1}
