"""The job server of a Ray cluster: jobs submitted, followed, listed, stopped; its errors in one sentence."""

import asyncio
import logging
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from jobs.submit import EXCLUDED, choose_authentication, entrypoint, metadata

_ANSWER_WITHIN_S = 10.0
_PAUSE_S = 1.0
_MOST_FAILURES = 30
"""How often in a row, a pause apart, a log may break off before following it is given up."""
_TERMINATED = 143
"""What a shell makes of SIGTERM, with which Ray stops a job."""
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


class JobServer:
    """The job server of a Ray cluster, at its dashboard's address, such as http://127.0.0.1:8265.

    Raises ValueError for what is no such address, and RuntimeError, in one sentence, when no cluster answers there,
    when it wants another token, and later when it no longer answers.
    """

    def __init__(self, address: str) -> None:
        self.address = _checked(address)
        choose_authentication()
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
