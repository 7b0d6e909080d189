"""A command of graphdrl as a job: what goes along with it, what is said of it, how it begins on the cluster."""

import fcntl
import getpass
import logging
import os
import re
import secrets
import shlex
import socket
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

EXCLUDED = (
    *(".git", ".venv", "venv", "node_modules", "__pycache__", "*.egg-info", "*.pyc"),
    *(".pytest_cache", ".mypy_cache", ".ruff_cache", ".hypothesis", ".cache", ".ipynb_checkpoints"),
    *("/runs", "/build", "/dist", "/.ray"),
    *(".env", ".ssh", ".aws", ".netrc", "*.pem", "*.key"),
)
"""What never goes along: other people's files, caches, what runs left, what is secret; patterns as in a .gitignore.

Beyond these, Ray leaves out what the folder's own .gitignore and .rayignore name.
"""

_PINNED = ("graphdrl", "ray")

# Ray starts a job by `sh`, with whatever PATH the cluster was started with: a virtual environment that nobody activated
# is not on it. The parent of the shell is a worker of Ray, the parent of that the raylet, and its command line says
# with which interpreter it starts its workers.
_INTERPRETER = (
    r"""raylet=$(sed -n 's/^PPid:[[:space:]]*//p' /proc/$PPID/status 2>/dev/null); """
    r"""python=$(tr '\0' '\n' 2>/dev/null < "/proc/$raylet/cmdline" """
    r"""| sed -n 's/^--python_worker_command=\([^ ]*\) .*/\1/p')"""
)

# One line, because Ray writes the whole command into the job's log. It runs on whatever the cluster has, so it takes
# nothing from graphdrl before the versions were compared.
_START = (
    "import sys; from importlib.metadata import distributions; "
    "wanted = dict(pair.split('=') for pair in sys.argv[1].split(',')); "
    "found = {name: next((d.version for d in distributions(name=name)), 'none') for name in wanted}; "
    "wrong = [f'{name} {found[name]} and this job was submitted with {name} {wanted[name]}' "
    "for name in wanted if found[name] != wanted[name]]; "
    "wrong and sys.exit(f'error: the cluster ({sys.executable}) has {\", \".join(wrong)}: install the same on both'); "
    "from jobs import begin_submitted; sys.argv = ['graphdrl', *begin_submitted(*sys.argv[2:])]; "
    "from graphdrl.cli import main; main()"
)


# What goes along ----------------------------------------------------------------------------------------------------


def check_package(folder: Path, most_bytes: int | None = None) -> list[Path]:
    """The files that go along, relative to `folder`, by Ray's own rules.

    most_bytes: what the job server takes; None: what Ray's does.
    Raises ValueError for a folder that is somebody's home or the root, and for one that is too large; it stops looking
    as soon as it is.
    """
    choose_authentication()
    from ray._private.runtime_env import packaging

    folder = folder.resolve()
    if folder in (Path.home().resolve(), Path(folder.anchor)):
        raise ValueError(
            f"{folder} would be packaged with all that is in it; submit from a folder of its own, which may be empty"
        )
    most_bytes = most_bytes or _most_bytes()
    files, sizes = list[Path](), dict[str, int]()

    def take(path: Path) -> None:
        if not path.is_file():
            return
        name = path.relative_to(folder)
        files.append(name)
        # A file's name stands twice in the package, with some bytes about it.
        sizes[name.parts[0]] = sizes.get(name.parts[0], 0) + path.stat().st_size + 2 * len(str(name)) + 128
        if sum(sizes.values()) > most_bytes:
            raise ValueError(_too_large(folder, sizes, most_bytes))

    silent = logging.getLogger(f"{__name__}.package")
    silent.disabled = True
    packaging._dir_travel(
        folder, [packaging._get_excludes(folder, list(EXCLUDED))], take, include_gitignore=True, logger=silent
    )
    return files


def _too_large(folder: Path, sizes: dict[str, int], most_bytes: int) -> str:
    largest = ", ".join(sorted(sizes, key=lambda name: -sizes[name])[:3])
    return (
        f"the files of {folder} are more than the {most_bytes / 2**20:,.0f} MiB that Ray's job server takes (most are "
        f"in: {largest}); name what the job does not need in a .rayignore, or put data where the cluster sees it and "
        "give its path there"
    )


def _most_bytes() -> int:
    """What a package may weigh: 512 MiB to Ray, but its job server refuses a request of more than 100 MiB before."""
    from ray._private.ray_constants import DASHBOARD_CLIENT_MAX_SIZE
    from ray._private.runtime_env.packaging import GCS_STORAGE_MAX_SIZE

    return min(GCS_STORAGE_MAX_SIZE, DASHBOARD_CLIENT_MAX_SIZE)


def left_behind(arguments: Sequence[str], folder: Path, files: Sequence[Path]) -> list[str]:
    """Those of a command's words that name something in `folder` which does not go along.

    What lies below runs/ is not among them: on the cluster these are the cluster's runs.
    """
    there = {parent for file in files for parent in (file, *file.parents)}
    names = []
    for word in arguments:
        name = Path(word.partition("=")[2] or word)
        inside = not name.is_absolute() and ".." not in name.parts and name.parts[:1] != ("runs",)
        if inside and "/" in word and name not in there and (folder / name).exists():
            names.append(str(name))
    return names


def choose_authentication() -> None:
    """`cluster` says how Ray authenticates, and has to before Ray is imported."""
    import_module("cluster")


# What is said of it -------------------------------------------------------------------------------------------------


def name_of(arguments: Sequence[str]) -> str:
    """A short name for a command: its `name=`, or else the stem of the first word that is no option."""
    given = [word.removeprefix("name=") for word in arguments[1:] if word.startswith("name=")]
    words = [Path(word).stem for word in arguments[1:] if not word.startswith("-") and "=" not in word]
    name = (given[-1:] or words[:1] or [""])[0]
    return re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-")[:40]


def new_id(arguments: Sequence[str]) -> str:
    """An id that says what it is, as `train-quickstart-3f9a2c`."""
    return "-".join(part for part in (arguments[0], name_of(arguments), secrets.token_hex(3)) if part)


def entrypoint(job: str, arguments: Sequence[str], runs: str) -> str:
    """The shell's command that runs `graphdrl ARGUMENTS...` on a cluster with the same versions; one line."""
    pinned = ",".join(f"{name}={version(name)}" for name in _PINNED)
    words = ["-c", _START, pinned, job, runs, *arguments]
    if any("\n" in word for word in words):
        raise ValueError("a job's arguments cannot hold line breaks: write them into a file of the folder")
    return f'{_INTERPRETER}; exec "${{python:-python3}}" {shlex.join(words)}'


def metadata(arguments: Sequence[str], folder: Path) -> dict[str, str]:
    """What finds a run again: all text, as Ray wants it. `commit` is empty outside of git."""
    return {
        "name": name_of(arguments),
        "command": shlex.join(["graphdrl", *arguments]),
        "commit": _commit(folder),
        "version": version("graphdrl"),
        "submitted_by": f"{getpass.getuser()}@{socket.gethostname()}",
        "submitted_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _commit(folder: Path) -> str:
    """The commit that `folder` is at, with `-changed` when it has been touched since."""

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("-changed" if git("status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return ""


# There --------------------------------------------------------------------------------------------------------------


def begin_submitted(job: str, runs: str, *arguments: str) -> Sequence[str]:
    """On the cluster, before the command: let `runs/` be the cluster's folder of runs, which outlives the job.

    Makes `runs/JOB` for what a command writes to a file. Returns the command's arguments. Ends the process with a
    sentence when the folder cannot be written.
    """
    kept, link = Path(runs).expanduser().absolute(), Path("runs")
    try:
        kept.mkdir(parents=True, exist_ok=True)
        _link(link, kept)
        if "--out" in arguments:
            (link / job).mkdir(exist_ok=True)
    except OSError as error:
        raise SystemExit(f"error: the cluster cannot keep runs in {kept} ({error}); give another --runs") from None
    return arguments


def _link(link: Path, target: Path) -> None:
    """Make `link` point to `target`; OSError when a job that still runs has it point elsewhere.

    Jobs of the same files share Ray's folder of them, and may come here at the same time. Each holds a lock on the link
    until its process ends.
    """
    lock = os.open(f".{link}.lock", os.O_CREAT | os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_SH)
    with suppress(FileExistsError):
        link.symlink_to(target)
    if link.resolve() == target.resolve():
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise FileExistsError(f"a job of the same files runs, and keeps its runs in {link.resolve()}") from None
    link.unlink()
    link.symlink_to(target)
    fcntl.flock(lock, fcntl.LOCK_SH)
