"""A cluster of several nodes on this machine: nodes die alone, pools hold, and nothing is left at the end."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import ray
from typer.testing import CliRunner

from cluster import HomeCluster, joined, nodes, processes
from graphdrl.cli.app import app
from graphdrl.distributed.placement import ORACLE_POOL, TRAINER_POOL, seat


@pytest.fixture(scope="module")
def home() -> Iterator[HomeCluster]:
    with HomeCluster(nodes=2, cpus=1, pools=(TRAINER_POOL, ORACLE_POOL)) as cluster, joined(cluster.address):
        yield cluster
        pids = [process.pid for node in cluster.nodes for process in node.processes()]
        folder = cluster.logs.parents[1]
    assert pids
    assert not any(psutil.pid_exists(pid) and processes.lives(psutil.Process(pid)) for pid in pids)
    assert not folder.exists()


@ray.remote(num_cpus=0)
def where() -> str:
    return os.environ[processes.MARK]


def test_a_seat_in_a_pool_is_on_a_node_of_the_pool(home: HomeCluster) -> None:
    for node, pool in zip(home.nodes, (TRAINER_POOL, ORACLE_POOL), strict=True):
        assert ray.get(where.options(resources=seat(pool)).remote()) == node.mark
    assert sorted((one["CPU"], pool in one) for one in nodes() for pool in (TRAINER_POOL,)) == [(1, False), (1, True)]


def test_a_node_dies_with_its_workers_and_alone(home: HomeCluster) -> None:
    third = home.add_node(1, resources={"third": 1}, labels={"shelf": "top"})
    ray.get(where.options(resources={"third": 1}).remote())
    its = third.processes()
    assert any(process.name().startswith("ray::") for process in its), "a worker"
    third.kill()
    assert not third.alive()
    assert not any(processes.lives(process) for process in its)
    assert all(node.alive() for node in home.nodes if node is not third)
    assert ray.get(where.options(resources=seat(ORACLE_POOL)).remote()) == home.nodes[1].mark


def test_a_head_without_redis_is_not_started_again(home: HomeCluster) -> None:
    with pytest.raises(RuntimeError, match="without Redis"):
        home.restart_gcs()


def test_the_guard_ends_the_cluster_of_whoever_was_killed(tmp_path: Path) -> None:
    """A program starts a guard and a marked process, and is then killed: no context of its own is left to end it."""
    mark, folder = f"test-{os.getpid()}", tmp_path / "folder"
    folder.mkdir()
    program = (
        "import subprocess, sys, time\n"
        f"subprocess.Popen([sys.executable, '-P', {processes.__file__!r}, '{mark}:', {str(folder)!r}], "
        "stdin=subprocess.PIPE, start_new_session=True)\n"
        f"subprocess.Popen(['sleep', '600'], env={{{processes.MARK!r}: '{mark}:0:'}}, start_new_session=True)\n"
        "print(flush=True)\n"
        "time.sleep(600)"
    )
    owner = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    assert owner.stdout is not None
    owner.stdout.readline()
    (sleeper,) = _until(lambda: processes.marked(f"{mark}:"))
    owner.send_signal(signal.SIGKILL)
    owner.communicate()
    _until(lambda: not processes.lives(sleeper) and not folder.exists())


def test_what_cannot_be_is_said_before_anything_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(ValueError, match=r"no Redis answers at localhost:1;"), HomeCluster(redis="localhost:1"):
        pass
    with pytest.raises(ValueError, match=r"no Redis answers at nonsense;"), HomeCluster(redis="nonsense"):
        pass
    asked = CliRunner().invoke(app, ["up", "--nodes", "2", "--pools", "trainer,trainer,oracle"])
    assert isinstance(asked.exception, ValueError)
    assert "--pools names 3 nodes and --nodes is 2" in str(asked.exception)


def test_a_port_that_is_taken_is_named(home: HomeCluster) -> None:
    port = int(home.address.rpartition(":")[2])
    with pytest.raises(ValueError, match=f"port {port} is in use"), HomeCluster(port=port):
        pass


def _until(condition):
    """What the condition gives, once it gives something."""
    end = time.monotonic() + 60
    while not (found := condition()):
        assert time.monotonic() < end
        time.sleep(0.1)
    return found
