"""What lives through the death of the head, on a real Redis: its GCS alone, and all of it."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from cluster import HomeCluster
from graphdrl.training import Run

pytestmark = pytest.mark.system

ROOT = Path(__file__).parents[2]
TINY = (
    "oracle.engine=none",
    "data.num_images=200",
    "data.num_test=50",
    "training.batch_size=8",
    "training.pair_groups=2",
    "training.group_size=8",
    "training.log_every=5",
    "training.checkpoint_every=50",
    "training.num_workers=1",
)
# What a program on the cluster does: each is a process of its own, since a driver dies with its head.
BEGIN = """
@ray.remote(num_cpus=0, resources={"second": 0.1})
class Counter:
    def __init__(self): self.count = 0
    def up(self):
        self.count += 1
        return self.count, os.getpid()

@ray_serve.deployment(ray_actor_options={"num_cpus": 0, "resources": {"second": 0.1}})
class Echo:
    def pid(self): return os.getpid()

counter = Counter.options(name="counter", namespace="test", lifetime="detached").remote()
count, pid = ray.get(counter.up.remote())
ray_serve.start(proxy_location="Disabled")
echo = ray_serve.run(Echo.bind(), name="echo", route_prefix=None)
say(count=count, pid=pid, echo=echo.pid.remote().result())
"""
AGAIN = """
count, pid = ray.get(ray.get_actor("counter", namespace="test").up.remote())
end = time.monotonic() + 120
while ray_serve.status().applications["echo"].status != "RUNNING":
    assert time.monotonic() < end
    time.sleep(0.5)
say(count=count, pid=pid, echo=ray_serve.get_app_handle("echo").pid.remote().result())
"""
_PROGRAM = """
import json, os, time
import ray
from ray import serve as ray_serve
def say(**what): print("SAID" + json.dumps(what), flush=True)
ray.init(log_to_driver=False)
"""


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a Redis of this test's own."""
    folder, port = tmp_path_factory.mktemp("redis"), free_port()
    program = shutil.which("redis-server", path=f"{os.environ['PATH']}{os.pathsep}{Path(sys.executable).parent}")
    assert program, "redis-server is missing: `make test-system` brings it"
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    with (folder / "log").open("w") as log, subprocess.Popen(command, stdout=log, stderr=log) as server:
        try:
            wait_until(lambda: answers(port))
            yield f"127.0.0.1:{port}"
        finally:
            server.terminate()


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def wait_until(condition, patience_s: float = 180):
    end = time.monotonic() + patience_s
    while not (found := condition()):
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.2)
    return found


def driver(cluster: HomeCluster, program: str) -> dict[str, int]:
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM + program],
        env=os.environ | {"RAY_ADDRESS": cluster.address},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    said = re.search(r"SAID(.*)", done.stdout)
    assert said, done.stderr[-3000:]
    return json.loads(said.group(1))


def test_actors_and_applications_are_found_again_after_gcs_and_head_died(redis: str) -> None:
    with HomeCluster(nodes=1, cpus=2, redis=redis, name="actors") as home:
        home.add_node(2, resources={"second": 1})
        first = driver(home, BEGIN)
        assert first["count"] == 1

        home.kill_gcs()
        home.restart_gcs()
        after_gcs = driver(home, AGAIN)
        assert after_gcs == first | {"count": 2}, "the same processes, which have forgotten nothing"

        home.nodes[0].kill()
        home.restart_head()
        after_head = driver(home, AGAIN)
        assert after_head == first | {"count": 3}, "they live on the node that did not die"


def test_training_goes_on_while_up_starts_the_gcs_again(redis: str, tmp_path: Path) -> None:
    graphdrl = str(Path(sys.executable).with_name("graphdrl"))
    port = free_port()
    words = ["up", "--nodes", "2", "--cpus-per-node", "1", "--redis", redis, "--name", "up"]
    words += ["--port", str(port), "--dashboard-port", "0"]
    with (tmp_path / "up.log").open("w") as log:
        up = subprocess.Popen([graphdrl, *words], stdout=log, stderr=log, cwd=tmp_path)
    try:
        wait_until(lambda: "Ctrl-C ends it" in (tmp_path / "up.log").read_text())
        steps = ("name=through", "training.steps=400", *TINY)
        with (tmp_path / "train.log").open("w") as log:
            training = subprocess.Popen(
                [graphdrl, "train", str(ROOT / "configs" / "quickstart.yaml"), *steps],
                env=os.environ | {"RAY_ADDRESS": f"127.0.0.1:{port}"},
                stdout=log,
                stderr=log,
                cwd=tmp_path,
            )
        run = Run(tmp_path / "runs" / "through")
        wait_until(lambda: training.poll() is not None or run.read_metrics(), 300)
        (gcs,) = [one for one in psutil.process_iter() if gcs_at(one, port)]
        gcs.send_signal(signal.SIGKILL)
        assert training.wait(timeout=300) == 0, (tmp_path / "train.log").read_text()[-3000:]
        assert run.read_metrics()[-1]["step"] == 400
        said = (tmp_path / "up.log").read_text()
        assert "starting it again" in said
    finally:
        up.send_signal(signal.SIGTERM)
        assert up.wait(timeout=60) == 0


def gcs_at(process: psutil.Process, port: int) -> bool:
    try:
        return process.name() == "gcs_server" and f"--gcs_server_port={port}" in process.cmdline()
    except psutil.NoSuchProcess:
        return False
