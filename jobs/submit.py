"""Jobs on a cluster, by Ray's own job server: packaged here, run there by the cluster's interpreter, found again."""

import asyncio
import fcntl
import getpass
import logging
import os
import re
import secrets
import shlex
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

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
_ANSWER_WITHIN_S = 10.0
_PAUSE_S = 1.0
_MOST_FAILURES = 30
"""How often in a row, a pause apart, a log may break off before following it is given up."""
_TERMINATED = 143
"""What a shell makes of SIGTERM, with which Ray stops a job."""

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
_ANNOUNCED = "Running entrypoint for job "


@dataclass(frozen=True)
class JobRow:
    """A job as a list shows it: times in seconds since the epoch, None where there is none (yet).

    name, command, submitted_by and commit are empty when somebody else's program submitted it.
    """

    id: str
    status: str
    name: str
    command: str
    submitted_by: str
    commit: str
    started_s: float | None
    ended_s: float | None


@dataclass(frozen=True)
class JobEnd:
    """How a job ended: its exit code as a shell would say it, and what Ray says where the log does not."""

    status: str
    exit_code: int
    message: str = ""


# What goes along ----------------------------------------------------------------------------------------------------


def check_package(folder: Path, most_bytes: int | None = None) -> list[Path]:
    """The files that go along, relative to `folder`, by Ray's own rules.

    most_bytes: what the job server takes; None: what Ray's does.
    Raises ValueError for a folder that is somebody's home or the root, and for one that is too large; it stops looking
    as soon as it is.
    """
    _choose_authentication()
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


# The job server -----------------------------------------------------------------------------------------------------


class JobServer:
    """The job server of a Ray cluster, at its dashboard's address, such as http://127.0.0.1:8265.

    Raises ValueError for what is no such address, and RuntimeError, in one sentence, when no cluster answers there,
    when it wants another token, and later when it no longer answers.
    """

    def __init__(self, address: str) -> None:
        self.address = _checked(address)
        _choose_authentication()
        from ray.job_submission import JobSubmissionClient

        _quiet()
        _find(self.address)
        with self._answers(), _no_other_address():
            self._client = JobSubmissionClient(self.address)

    def submit(self, arguments: Sequence[str], folder: Path, job: str, runs: str) -> None:
        """Start `graphdrl ARGUMENTS...` as `job` on the files of `folder`, checked before (`check_package`)."""
        with self._answers():
            self._client.submit_job(
                entrypoint=entrypoint(job, arguments, runs),
                submission_id=job,
                runtime_env={"working_dir": str(folder.absolute()), "excludes": list(EXCLUDED)},
                metadata=metadata(arguments, folder),
            )

    def follow(self, job: str, write: Callable[[str], None]) -> JobEnd:
        """Hand the job's log to `write` from its beginning, as it comes, until the job ends.

        A connection that breaks, as those through a proxy do, is made anew; RuntimeError when that no longer works.
        """
        from aiohttp import ClientError

        self._details(job)
        log, failures = _Log(write), 0
        while True:
            try:
                asyncio.run(self._tail(job, log))
                details = self._details(job)
                failures = 0
            except (ClientError, OSError, RuntimeError):
                failures += 1
                if failures == _MOST_FAILURES:
                    raise RuntimeError(
                        f"the log of job {job!r} broke off; as far as is known the job goes on: "
                        f"`graphdrl jobs logs {job} --follow --address {self.address}` follows it again"
                    ) from None
            else:
                if details.status.is_terminal():
                    log.end()
                    return _end(details)
            time.sleep(_PAUSE_S)

    def log(self, job: str) -> str:
        """All that the job has written so far."""
        self._details(job)
        pieces: list[str] = []
        log = _Log(pieces.append)
        with self._answers(job):
            log.take(self._client.get_job_logs(job))
        log.end()
        return "".join(pieces)

    def stop(self, job: str) -> bool:
        """Stop the job, and wait until it has stopped; False when it had ended before."""
        with self._answers(job):
            running = not self._details(job).status.is_terminal()
            self._client.stop_job(job)
        while not self._details(job).status.is_terminal():
            time.sleep(_PAUSE_S / 4)
        return running and str(self._details(job).status) == "STOPPED"

    def jobs(self) -> list[JobRow]:
        """All jobs that were submitted, the newest first."""
        with self._answers():
            details = [each for each in self._client.list_jobs() if each.submission_id]
        return [_row(each) for each in sorted(details, key=lambda each: each.start_time or 0, reverse=True)]

    def _details(self, job: str) -> Any:
        if not re.fullmatch(r"[A-Za-z0-9_-]+", job):
            raise self._unknown(job)
        with self._answers(job):
            return self._client.get_job_info(job)

    async def _tail(self, job: str, log: "_Log") -> None:
        log.restart()
        async for text in self._client.tail_job_logs(job):
            log.take(text)

    @contextmanager
    def _answers(self, job: str = "") -> Iterator[None]:
        """Ray's and the network's errors as one sentence."""
        from ray.exceptions import AuthenticationError
        from requests.exceptions import RequestException

        try:
            yield
        except AuthenticationError as error:
            raise RuntimeError(
                f"the cluster at {self.address} wants its token, and got {_which_token(error)}: put the cluster's into "
                "the file that RAY_AUTH_TOKEN_PATH names, with RAY_AUTH_MODE=token"
            ) from None
        except (RequestException, ConnectionError) as error:
            raise RuntimeError(f"the cluster at {self.address} no longer answers ({type(error).__name__})") from None
        except RuntimeError as error:
            if job and "status code 404" in str(error):
                raise self._unknown(job) from None
            if "Request failed" not in str(error):
                raise
            raise RuntimeError(f"the cluster at {self.address} refuses: {_reason(str(error))}") from None

    def _unknown(self, job: str) -> RuntimeError:
        return RuntimeError(
            f"there is no job {job!r} on the cluster at {self.address}; "
            f"`graphdrl jobs list --address {self.address}` shows those that there are"
        )


class _Log:
    """Hands on each part of a log once, though it may be sent again from its beginning, without Ray's first line."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._taken = 0
        self._seen = 0
        self._line = ""

    def restart(self) -> None:
        self._seen = 0

    def take(self, text: str) -> None:
        fresh = text[max(0, self._taken - self._seen) :]
        self._seen += len(text)
        self._taken = max(self._taken, self._seen)
        *lines, self._line = (self._line + fresh).split("\n")
        for line in lines:
            if not line.startswith(_ANNOUNCED):
                self._write(f"{line}\n")

    def end(self) -> None:
        if self._line and not self._line.startswith(_ANNOUNCED):
            self._write(f"{self._line}\n")
        self._line = ""


def _checked(address: str) -> str:
    if not address:
        raise ValueError("which cluster? Give --address http://HOST:8265, or set RAY_API_SERVER_ADDRESS")
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(
            f"jobs go to the address of a cluster's dashboard, such as http://127.0.0.1:8265; {address!r} is none"
        )
    return address.rstrip("/")


def _find(address: str) -> None:
    """Ray's client would wait without end for what does not answer, and would trip over what is not Ray."""
    import requests

    try:
        answer = requests.get(f"{address}/api/version", timeout=_ANSWER_WITHIN_S, allow_redirects=False)
    except (requests.exceptions.RequestException, UnicodeError, ValueError) as error:
        raise RuntimeError(
            f"no Ray cluster answers at {address} ({type(error).__name__}): check the address, and whether the cluster "
            "still runs"
        ) from None
    if answer.status_code not in (200, 401, 403) or (answer.ok and "ray_version" not in answer.text):
        raise RuntimeError(
            f"what answers at {address} is no Ray cluster's dashboard: its port is 8265, if nobody chose another"
        )


@contextmanager
def _no_other_address() -> Iterator[None]:
    """To Ray's client these two go before the address that it is given."""
    names = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")
    kept = {name: os.environ.pop(name) for name in names if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(kept)


def _choose_authentication() -> None:
    """`cluster` says how Ray authenticates, and has to before Ray is imported."""
    import_module("cluster")


def _quiet() -> None:
    for name in ("dashboard.modules.dashboard_sdk", "dashboard.modules.job.sdk", "_private.runtime_env.packaging"):
        logging.getLogger(f"ray.{name}").setLevel(logging.ERROR)


def _which_token(error: BaseException) -> str:
    return "a wrong one" if "invalid" in str(error).lower() else "none"


def _reason(error: str) -> str:
    """The line of a job server's answer that says something: the last one of a traceback."""
    return error.strip().splitlines()[-1].strip()


def _end(details: Any) -> JobEnd:
    status, code = str(details.status), details.driver_exit_code
    if status == "SUCCEEDED":
        return JobEnd(status, 0)
    if status == "STOPPED":
        return JobEnd(status, _TERMINATED)
    # A command that failed has said why in its log; what failed before it has not.
    message = "" if details.error_type == "JOB_ENTRYPOINT_COMMAND_ERROR" else (details.message or "").strip()
    return JobEnd(status, 1 if code is None else code if code > 0 else 128 - code, message)


def _row(details: Any) -> JobRow:
    said = details.metadata or {}
    return JobRow(
        id=details.submission_id,
        status=str(details.status),
        name=said.get("name", ""),
        command=said.get("command", ""),
        submitted_by=said.get("submitted_by", ""),
        commit=said.get("commit", ""),
        started_s=details.start_time / 1000 if details.start_time else None,
        ended_s=details.end_time / 1000 if details.end_time else None,
    )
