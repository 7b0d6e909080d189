"""What every test stands on: one thread, nobody to ask outside, and our own warnings as errors."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from object_store import Bucket, ObjectStore

# Set before torch, Ray and transformers read them, and inherited by every process that a test starts.
os.environ |= {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
    "RAY_AUTH_MODE": "disabled",
    "RAY_USAGE_STATS_ENABLED": "0",
    "MPLBACKEND": "Agg",
}
os.environ.pop("RAY_ADDRESS", None)  # a cluster that happens to run here is no test's business


def pytest_configure(config: pytest.Config) -> None:
    """A warning that our own code gives rise to is an error; those of the libraries among themselves are shown."""
    config.addinivalue_line("filterwarnings", r"error:::(graphdrl|serve|jobs|cluster)(\.|$)")


_status: list[int] = []


def pytest_sessionfinish(exitstatus: int) -> None:
    _status.append(exitstatus)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure() -> None:
    """End here: the verdict is in, and every fixture is closed.

    What would follow is the end of the threads of Ray, gRPC, Arrow and torch in one process, which crashed once.
    """
    if _status:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(_status[-1])


@pytest.fixture(scope="session")
def object_store() -> Iterator["ObjectStore"]:
    """A local S3-compatible server."""
    from object_store import running_store  # it takes a second to import, and few tests need it

    with running_store() as store:
        yield store


@pytest.fixture
def bucket(object_store: "ObjectStore", tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> "Bucket":
    """A new bucket, and an empty cache for this machine's copies."""
    monkeypatch.setenv("GRAPHDRL_CACHE", str(tmp_path / "cache"))
    return object_store.new_bucket()
