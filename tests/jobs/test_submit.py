"""Submitting without a cluster: what goes along, what is said of it, and how a job begins where it runs."""

import os
import shlex
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from jobs import begin_submitted, check_package, left_behind
from jobs.server import JobServer, _Log
from jobs.submit import entrypoint, metadata, name_of, new_id

GIT = ["git", "-c", "user.name=somebody", "-c", "user.email=somebody@example.com"]


def write(folder: Path, *names: str, num_bytes: int = 1) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x" * num_bytes)


# What goes along ----------------------------------------------------------------------------------------------------


def test_own_files_go_along_and_caches_runs_and_secrets_do_not(tmp_path: Path) -> None:
    write(tmp_path, "configs/mine.yaml", "faces/0.png", "notes/runs/a.txt", "build.py")
    write(tmp_path, ".git/HEAD", ".venv/bin/python", "runs/one/model.bin", "a/__pycache__/b.pyc", "a.egg-info/x")
    write(tmp_path, ".env", "keys/cluster.pem", "build/lib.so", ".cache/x")
    files = {str(path) for path in check_package(tmp_path)}
    assert files == {"configs/mine.yaml", "faces/0.png", "notes/runs/a.txt", "build.py"}


def test_the_folders_own_ignore_files_count(tmp_path: Path) -> None:
    write(tmp_path, "a.txt", "data/large.bin", "scratch/b.txt")
    (tmp_path / ".gitignore").write_text("/data/\n")
    (tmp_path / ".rayignore").write_text("scratch\n")
    assert {str(path) for path in check_package(tmp_path)} == {"a.txt", ".gitignore", ".rayignore"}


def test_an_empty_folder_goes(tmp_path: Path) -> None:
    assert check_package(tmp_path) == []


def test_too_much_is_said_with_what_is_largest(tmp_path: Path) -> None:
    write(tmp_path, "faces/a", "faces/b", num_bytes=700_000)
    write(tmp_path, "small")
    with pytest.raises(ValueError, match=r"more than the 1 MiB .* \(most are in: faces.*\.rayignore"):
        check_package(tmp_path, most_bytes=1 << 20)
    assert len(check_package(tmp_path, most_bytes=2 << 20)) == 3


def test_the_limit_is_the_lower_of_rays_two(tmp_path: Path) -> None:
    with open(tmp_path / "hollow", "wb") as file:
        file.truncate(101 << 20)
    with pytest.raises(ValueError, match="more than the 100 MiB"):
        check_package(tmp_path)


def test_nobodys_home_is_packaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(ValueError, match="a folder of its own"):
        check_package(tmp_path)
    with pytest.raises(ValueError, match="a folder of its own"):
        check_package(Path("/"))


def test_what_a_command_names_and_does_not_go_along_is_found(tmp_path: Path) -> None:
    write(tmp_path, "data/faces/a.png", "mine/faces/a.png", "runs/quickstart/config.yaml")
    (tmp_path / ".gitignore").write_text("/data/\n")
    files = check_package(tmp_path)
    words = [
        "train",
        "data.path=data/faces",
        "data.path=mine/faces",
        "--resume",
        "runs/quickstart",
        "/data/faces",
        "a/b",
    ]
    assert left_behind(words, tmp_path, files) == ["data/faces"]


# What is said of it -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ("train configs/quickstart.yaml training.steps=4", "quickstart"),
        ("train configs/quickstart.yaml name=first", "first"),
        ("train --resume runs/one", "one"),
        ("train training.steps=4", ""),
        ("relations '/data/my faces' --attributes a,b", "my-faces"),
    ],
)
def test_a_job_is_called_what_its_command_is_about(words: str, name: str) -> None:
    arguments = shlex.split(words)
    assert name_of(arguments) == name
    first, second = new_id(arguments), new_id(arguments)
    assert first != second
    assert first.startswith("-".join([arguments[0], *([name] if name else [])]))
    assert set(first) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")


def test_metadata_finds_a_run_again(tmp_path: Path) -> None:
    assert metadata(["train"], tmp_path)["commit"] == ""
    write(tmp_path, "a.txt")
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "first"]):
        subprocess.run([*GIT, *words], cwd=tmp_path, check=True)
    said = metadata(["train", "name=a b"], tmp_path)
    assert said["command"] == "graphdrl train 'name=a b'"
    assert said["version"] == version("graphdrl")
    assert len(said["commit"]) == 40
    write(tmp_path, "b.txt")
    assert metadata(["train"], tmp_path)["commit"] == f"{said['commit']}-changed"
    assert all(isinstance(value, str) for value in said.values())


# There --------------------------------------------------------------------------------------------------------------


def run_there(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """As Ray would start it, here without a raylet: the interpreter is then the one on the path."""
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    return subprocess.run(line, shell=True, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_the_same_command_runs_with_its_words_as_they_are(tmp_path: Path) -> None:
    line = entrypoint("job-1", ["bench", 'it\'s $HOME; a "b" `c`'], str(tmp_path / "kept"))
    assert "\n" not in line
    done = run_there(line, tmp_path)
    assert done.returncode == 1
    assert "there is no benchmark" in done.stderr
    assert '$HOME; a "b" `c`' in done.stderr
    assert (tmp_path / "runs").resolve() == tmp_path / "kept"


def test_other_versions_on_the_cluster_are_both_named(tmp_path: Path) -> None:
    ours = version("graphdrl")
    line = entrypoint("job-1", ["bench", "none"], "kept").replace(
        f"graphdrl={ours}", "graphdrl=7.0.0,nothing-of-this-name=1"
    )
    done = run_there(line, tmp_path)
    assert done.returncode == 1
    assert f"graphdrl {ours} and this job was submitted with graphdrl 7.0.0" in done.stderr
    assert "nothing-of-this-name none and this job was submitted with nothing-of-this-name 1" in done.stderr
    assert "install the same on both" in done.stderr
    assert not (tmp_path / "runs").exists()


def test_line_breaks_are_refused() -> None:
    with pytest.raises(ValueError, match="line breaks"):
        entrypoint("job-1", ["train", "name=a\nb"], "kept")


def test_runs_outlive_the_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert begin_submitted("one", "~/kept", "train", "name=a") == ("train", "name=a")
    write(Path("runs"), "a/config.yaml")
    assert (tmp_path / "kept" / "a" / "config.yaml").exists()
    assert begin_submitted("two", "~/kept", "score", "--out", "runs/two/scores.parquet")[0] == "score"
    assert (tmp_path / "kept" / "two").is_dir()


def test_a_job_does_not_move_the_runs_of_one_that_still_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    begin = "import sys; from jobs import begin_submitted; begin_submitted('one', sys.argv[1], 'train'); "
    with subprocess.Popen(
        [sys.executable, "-c", begin + "print('begun', flush=True); sys.stdin.read()", str(tmp_path / "first")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as running:
        assert running.stdout
        assert running.stdout.readline() == "begun\n"
        with pytest.raises(SystemExit, match=r"a job of the same files runs, and keeps its runs in .*first.*--runs"):
            begin_submitted("two", str(tmp_path / "second"), "train")
        begin_submitted("three", str(tmp_path / "first"), "train")
        running.communicate("")
    assert Path("runs").resolve() == tmp_path / "first"


def test_runs_that_cannot_be_kept_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "file")
    with pytest.raises(SystemExit, match=r"cannot keep runs in .*file.*another --runs"):
        begin_submitted("one", str(tmp_path / "file"), "train")


# Its log ------------------------------------------------------------------------------------------------------------


def test_a_log_that_is_sent_again_is_shown_once_and_without_rays_echo() -> None:
    pieces: list[str] = []
    log = _Log(pieces.append)
    whole = "setting up\nRunning entrypoint for job x: long\ntraining\nstep 1\nlast"
    for sent in (whole[:20], whole[:60], whole):
        log.restart()
        for start in range(0, len(sent), 7):
            log.take(sent[start : start + 7])
    log.end()
    assert "".join(pieces) == "setting up\ntraining\nstep 1\nlast\n"


@pytest.mark.parametrize("address", ["", "127.0.0.1:8265", "ray://127.0.0.1:10001", "auto", "http://", "file:///etc"])
def test_what_is_no_address_is_said(address: str) -> None:
    with pytest.raises(ValueError, match=r"http://.*8265"):
        JobServer(address)
