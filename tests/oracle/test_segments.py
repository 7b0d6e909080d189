"""Segments: whatever happens to a file or to a writer, what was flushed and is whole is read again, nothing else."""

import logging
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from graphdrl.oracle import segments
from graphdrl.oracle.protocol import OracleError
from graphdrl.oracle.segments import Segments

SCHEMA = pa.schema([("name", pa.string()), ("value", pa.int64())], metadata={"format": "a-test/1"})


class Numbers:
    """The smallest store there can be: numbers by name."""

    def __init__(self, folder: Path) -> None:
        self.known: dict[str, int] = {}
        self.segments = Segments(folder, SCHEMA, name="number", check=self._check, insert=self._insert)

    def add(self, **values: int) -> None:
        self.segments.append(pa.table([list(values), list(values.values())], schema=SCHEMA))

    def keep(self, **values: int) -> None:
        self.add(**values)
        self.segments.flush()

    def read(self) -> dict[str, int]:
        with self.segments.reading():
            return dict(self.known)

    def _insert(self, table: pa.Table) -> None:
        self.known.update(zip(table["name"].to_pylist(), table["value"].to_pylist(), strict=True))

    @staticmethod
    def _check(table: pa.Table) -> None:
        if min(table["value"].to_pylist(), default=0) < 0:
            raise ValueError("a number is negative")


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.parquet"))


@pytest.fixture
def few(monkeypatch) -> None:
    """Four segments are many, and ten rows fill one."""
    monkeypatch.setattr(segments, "_MOST_SEGMENTS", 3)
    monkeypatch.setattr(segments, "_FULL_ROWS", 10)


def test_a_file_cut_off_anywhere_loses_its_own_rows_only_and_takes_them_again(tmp_path):
    store = Numbers(tmp_path)
    store.keep(a=1, b=2)
    store.keep(c=3)
    victim = files(tmp_path)[0]
    whole = victim.read_bytes()
    cuts = [0, 1, 4, len(whole) // 4, len(whole) // 2, *range(len(whole) - 12, len(whole))]
    for cut in cuts:
        victim.write_bytes(whole[:cut])
        again = Numbers(tmp_path)
        assert again.read() == {"c": 3}, cut
        assert [name for name, _ in again.segments.damaged] == [victim.name]
    again.keep(a=1, b=2)
    assert Numbers(tmp_path).read() == {"a": 1, "b": 2, "c": 3}


def test_a_byte_changed_anywhere_is_found_or_changes_nothing(tmp_path):
    """Bytes that change nothing are in what the file says of itself, such as who wrote it."""
    store = Numbers(tmp_path)
    store.keep(a=1, b=2)
    store.keep(c=3)
    victim = files(tmp_path)[0]
    whole = victim.read_bytes()
    num_found = 0
    for place in range(0, len(whole), 3):
        altered = bytearray(whole)
        altered[place] ^= 1 << place % 8
        victim.write_bytes(altered)
        again = Numbers(tmp_path)
        num_found += len(again.segments.damaged)
        assert again.read() == ({"c": 3} if again.segments.damaged else {"a": 1, "b": 2, "c": 3}), place
    assert num_found > len(whole) / 3 / 2


def test_a_sound_file_with_other_columns_or_other_values_is_set_aside(tmp_path):
    other = pa.table({"name": ["a"], "value": [0.5]})
    pq.write_table(other, tmp_path / "columns.parquet")
    pq.write_table(pa.table([["a"], [-1]], schema=SCHEMA), tmp_path / "negative.parquet")
    pq.write_table(pa.table([["a"], [None]], schema=SCHEMA), tmp_path / "missing.parquet")
    store = Numbers(tmp_path)
    assert store.read() == {}
    assert dict(store.segments.damaged) == {
        "columns.parquet": "its columns are not those of such a segment",
        "missing.parquet": "a value is missing",
        "negative.parquet": "a number is negative",
    }


def test_a_segment_that_may_not_be_opened_now_is_no_damaged_one(tmp_path, monkeypatch):
    Numbers(tmp_path).keep(a=1)
    store = Numbers(tmp_path)
    Numbers(tmp_path).keep(b=2)

    def refuse(*_, **__):
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as patched:
        patched.setattr(segments.pq, "ParquetFile", refuse)
        with pytest.raises(OracleError, match=r"cannot be opened \(Too many open files\)"):
            store.read()
    assert store.read() == {"a": 1, "b": 2}
    assert store.segments.damaged == []


def test_rows_of_a_failed_write_come_with_the_next_one_in_their_order(tmp_path, monkeypatch):
    store = Numbers(tmp_path)
    store.add(a=1)

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(segments.pq, "write_table", full)
        with pytest.raises(OracleError, match=r"the number store .* cannot be written"):
            store.segments.flush()
    assert store.read() == {}
    store.keep(a=2)
    assert Numbers(tmp_path).read() == {"a": 2}
    assert len(files(tmp_path)) == 1


@pytest.mark.usefixtures("few")
def test_small_segments_are_joined_and_full_ones_left_alone(tmp_path):
    store = Numbers(tmp_path)
    for i in range(40):
        store.keep(**{f"n{i}": i})
    assert len(files(tmp_path)) < 10
    num_rows = sorted(pq.read_metadata(path).num_rows for path in files(tmp_path))
    assert num_rows[-3:] == [10, 10, 10]
    before = {path.name for path in files(tmp_path) if pq.read_metadata(path).num_rows == 10}
    store.segments.close()
    assert before <= {path.name for path in files(tmp_path)}
    assert Numbers(tmp_path).read() == {f"n{i}": i for i in range(40)}


@pytest.mark.usefixtures("few")
def test_of_rows_written_twice_the_later_counts_also_after_joining(tmp_path):
    store = Numbers(tmp_path)
    for i in range(9):
        store.keep(a=i)
    store.segments.close()
    assert len(files(tmp_path)) == 1
    assert Numbers(tmp_path).read() == {"a": 8}


@pytest.mark.usefixtures("few")
def test_joining_goes_around_segments_that_are_gone_or_damaged(tmp_path):
    store = Numbers(tmp_path)
    for name in ("a", "b", "c"):
        store.keep(**{name: 1})
    gone, damaged, _ = files(tmp_path)
    gone.unlink()
    damaged.write_bytes(b"nothing")
    store.keep(d=1)
    assert [name for name, _ in store.segments.damaged] == [damaged.name]
    assert len(files(tmp_path)) == 1
    assert Numbers(tmp_path).read() == {"c": 1, "d": 1}
    assert store.read() == {"a": 1, "b": 1, "c": 1, "d": 1}, "what is in memory stays there"


@pytest.mark.usefixtures("few")
def test_closing_when_others_have_joined_everything_is_no_error(tmp_path):
    store = Numbers(tmp_path)
    store.keep(a=1)
    store.keep(b=2)
    Numbers(tmp_path).keep(c=3)
    Numbers(tmp_path).keep(d=4)
    Numbers(tmp_path)
    assert len(files(tmp_path)) == 1
    store.segments.close()
    assert Numbers(tmp_path).read() == {"a": 1, "b": 2, "c": 3, "d": 4}


@pytest.mark.usefixtures("few")
def test_what_is_flushed_is_flushed_when_only_joining_fails(tmp_path, monkeypatch, caplog):
    store = Numbers(tmp_path)
    for i in range(3):
        store.keep(**{f"n{i}": i})
    write = pq.write_table

    def nearly_full(table, *args, **kwargs):
        if table.num_rows > 1:
            raise OSError(28, "No space left on device")
        write(table, *args, **kwargs)

    with monkeypatch.context() as patched, caplog.at_level(logging.WARNING):
        patched.setattr(segments.pq, "write_table", nearly_full)
        store.keep(n3=3)
    assert "4 number segments were not joined" in caplog.text
    assert len(files(tmp_path)) == 4
    store.keep(n4=4)
    assert len(files(tmp_path)) == 1, "joined as soon as there is room"
    assert Numbers(tmp_path).read() == {f"n{i}": i for i in range(5)}


WRITER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from graphdrl.oracle import segments
from test_segments import Numbers
segments._MOST_SEGMENTS, segments._FULL_ROWS = 3, 40
store, writer, num = Numbers(Path(sys.argv[2])), sys.argv[3], int(sys.argv[4])
for i in range(num):
    store.keep(**{f"{writer}{i}_{j}": i for j in range(5)})
    print(i, flush=True)
store.segments.close()
"""


def writer(folder: Path, name: str, num: int) -> subprocess.Popen:
    """A process that flushes rows `num` times, joins often, and says after each flush how far it is."""
    arguments = [sys.executable, "-c", WRITER, str(Path(__file__).parent), str(folder), name, str(num)]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)


def rows_of(name: str, num: int) -> dict[str, int]:
    return {f"{name}{i}_{j}": i for i in range(num) for j in range(5)}


@pytest.mark.usefixtures("few")
def test_two_processes_that_write_and_join_at_once_lose_nothing(tmp_path):
    """Beside them this process opens the folder again and again, and joins what it finds."""
    writers = [writer(tmp_path, name, 30) for name in "xy"]
    damaged = []
    for _flushed in writers[0].stdout:
        damaged += Numbers(tmp_path).segments.damaged
    assert [one.wait() for one in writers] == [0, 0]
    store = Numbers(tmp_path)
    assert store.read() == rows_of("x", 30) | rows_of("y", 30)
    assert damaged + store.segments.damaged == []


def test_a_writer_killed_anywhere_loses_nothing_that_it_flushed(tmp_path):
    num_flushed = {"x": 3, "y": 15, "z": 30}  # when the signal is sent; the writer may come further
    writers = {name: writer(tmp_path, name, 10_000) for name in num_flushed}
    for name, one in writers.items():
        for _ in range(num_flushed[name]):
            one.stdout.readline()
        one.kill()
    assert [one.wait() for one in writers.values()] == [-signal.SIGKILL] * 3
    store = Numbers(tmp_path)
    known = store.read()
    for name, one in writers.items():
        num_flushed[name] += len(one.stdout.read().splitlines())
        assert rows_of(name, num_flushed[name]).items() <= known.items()
    assert store.segments.damaged == []
