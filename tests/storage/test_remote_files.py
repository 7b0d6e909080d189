"""Remote files against a real S3-compatible server: whole or not there, and errors that say what to do."""

from pathlib import Path

import pytest
from moto.core import set_initial_no_auth_action_count
from object_store import Bucket

from graphdrl.storage import place
from graphdrl.storage.files import RemoteFolder, StorageError, check_writable, local_files


def opened(bucket: Bucket, path: str = "some/folder") -> RemoteFolder:
    return RemoteFolder(place(bucket.uri(path)))  # type: ignore[arg-type]


def test_what_is_written_is_read_listed_moved_and_deleted(bucket: Bucket, tmp_path: Path) -> None:
    files = opened(bucket)
    assert files.sizes() == {}
    files.write("a/one", b"1")
    (tmp_path / "two").write_bytes(b"22")
    (tmp_path / "none").touch()
    files.upload(tmp_path / "two", "two")
    files.upload(tmp_path / "none", "none")
    assert files.sizes() == {"a/one": 1, "two": 2, "none": 0}
    assert files.sizes("a") == {"a/one": 1}
    assert files.read("two").to_pybytes() == b"22"
    files.move("a/one", "b/one")
    files.download("b/one", tmp_path / "deep" / "one")
    assert (tmp_path / "deep" / "one").read_bytes() == b"1"
    files.delete("two")
    files.delete_folder("b")
    files.delete_folder("never-there")
    assert files.sizes() == {"none": 0}
    assert bucket.names() == ["some/folder/none"]


def test_what_is_not_there_is_not_found(bucket: Bucket, tmp_path: Path) -> None:
    files = opened(bucket)
    with pytest.raises(FileNotFoundError):
        files.read("nothing")
    with pytest.raises(FileNotFoundError):
        files.download("nothing", tmp_path / "nothing")
    assert list(tmp_path.glob("*nothing*")) == []


def test_a_folder_is_complete_with_its_last_file_alone(bucket: Bucket, tmp_path: Path) -> None:
    files, folder = opened(bucket), tmp_path / "folder"
    (folder / "deep").mkdir(parents=True)
    for name in ("first", "deep/second", "last", ".hidden"):
        (folder / name).write_text(name)
    order: list[str] = []
    upload, files.upload = files.upload, lambda file, name: (order.append(name), upload(file, name))  # type: ignore
    files.upload_folder(folder, "sets/one", last="last")
    assert order[-1] == "sets/one/last"
    assert sorted(order) == ["sets/one/deep/second", "sets/one/first", "sets/one/last"]
    files.write("sets/two/first", b"cut short")
    assert files.complete_folders("sets", "last") == ["one"]
    files.download_folder("sets/one", tmp_path / "again")
    assert local_files(tmp_path / "again") == ["deep/second", "first", "last"]
    assert (tmp_path / "again" / "deep" / "second").read_text() == "deep/second"


def test_names_that_lead_out_of_the_folder_are_not_taken(bucket: Bucket) -> None:
    bucket.put("some/folder/../../escape", b"x")
    bucket.put("some/folder/fine", b"x")
    assert opened(bucket).sizes() == {"fine": 1}


def test_a_place_that_can_be_written_is_left_as_it_was(bucket: Bucket, tmp_path: Path) -> None:
    check_writable(place(bucket.uri("runs")), "folder of runs")
    check_writable(tmp_path / "not" / "there" / "yet", "folder of runs")
    assert bucket.names() == []
    assert [path for path in tmp_path.iterdir() if path.name == "not"] == []


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("s3://there-is-no-such/runs?{}", "NO_SUCH_BUCKET.*create the bucket, or name another"),
        ("gopher://bucket/runs", "Unrecognized filesystem type.*take s3://, gs://"),
        ("s3://bucket/runs?colour=red", "colour.*options that pyarrow knows"),
        ("s3://bucket/runs?scheme=http&endpoint_override=127.0.0.1:1&region=x", "can be reached from this machine"),
        ("/proc/nothing", "name another folder for it"),
        ("/dev/null/runs", "name another folder for it"),
    ],
)
def test_a_place_that_cannot_be_written_is_named_with_the_way_out(object_store, address: str, sentence: str) -> None:
    where = address.format(object_store.options)
    with pytest.raises(ValueError, match=sentence) as refused:
        check_writable(place(where), "folder of runs")
    assert str(refused.value).startswith(f"the folder of runs {where}")
    assert "\n" not in str(refused.value)


def test_wrong_credentials_are_named_and_not_tried_again(bucket: Bucket) -> None:
    files = opened(bucket)

    @set_initial_no_auth_action_count(0)
    def with_keys_checked() -> None:
        with pytest.raises(ValueError, match=r"INVALID_ACCESS_KEY_ID.*give this process's credentials") as refused:
            check_writable(files.uri, "score store")
        assert "not-a-secret" not in str(refused.value)
        with pytest.raises(StorageError, match="cannot be written"):
            files.write("one", b"1")

    with_keys_checked()
    assert bucket.names() == []


def test_an_error_that_passes_is_lived_through(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    files, write = opened(bucket), RemoteFolder._write
    attempts: list[str] = []

    def sometimes(self: RemoteFolder, name: str, content: bytes) -> None:
        attempts.append(name)
        if len(attempts) < 3:
            raise OSError("AWS Error SLOW_DOWN during PutObject operation: please reduce your request rate")
        write(self, name, content)

    monkeypatch.setattr(RemoteFolder, "_write", sometimes)
    files.write("one", b"1")
    assert attempts == ["one"] * 3
    assert files.sizes() == {"one": 1}
