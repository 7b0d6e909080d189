"""A Ray cluster of several nodes on this machine: each node is a raylet with its workers, and may die like a machine."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from cluster.processes import MARK, kill, marked, send

_HOST = "127.0.0.1"
_STORE_BYTES = 256 * 2**20
_PATIENCE_S = 120.0


@dataclass(frozen=True)
class Node:
    """One node of a cluster at home: what it was started with, and the mark that its processes bear."""

    name: str
    cpus: float
    mark: str

    def processes(self) -> list[psutil.Process]:
        """What lives of this node: its raylet, agents and workers; of the first node also the head's services."""
        return marked(self.mark)

    def kill(self) -> None:
        """SIGKILL the raylet and everything that it started, as when a machine loses its power."""
        kill(self.mark)


class HomeCluster:
    """Ray on several nodes of this machine, from entering to leaving the context; every node is `ray start`.

    It has ports and a temporary folder of its own, listens on the loopback alone, and ends nothing that it has not
    started. Ray authenticates as RAY_AUTH_MODE says (`cluster` sets it to `token`); a token is made when there is none.

    nodes: with the head. cpus: of each. redis: HOST:PORT of a Redis in which the head keeps what it knows, so that it
    can be started again; `name` separates clusters in it. labels: of the nodes in turn, one {key: value} each.
    port, dashboard_port: 0 takes free ones.
    """

    def __init__(
        self,
        nodes: int = 1,
        cpus: float = 1,
        redis: str | None = None,
        labels: tuple[Mapping[str, str], ...] = (),
        port: int = 0,
        dashboard_port: int = 0,
        object_store_bytes: int = _STORE_BYTES,
        name: str | None = None,
    ) -> None:
        self._wanted = nodes, cpus, labels
        self._redis, self._name = redis, name or uuid.uuid4().hex[:12]
        self._port, self._dashboard_port = port or _free_port(), dashboard_port or _free_port()
        self._store_bytes = object_store_bytes
        self._started = 0
        self._folder = Path()
        self._guard: subprocess.Popen[bytes] | None = None
        self.nodes: list[Node] = []

    @property
    def address(self) -> str:
        """What RAY_ADDRESS is to be set to."""
        return f"{_HOST}:{self._port}"

    @property
    def dashboard(self) -> str:
        """The address of the dashboard, to which jobs are submitted."""
        return f"http://{_HOST}:{self._dashboard_port}"

    @property
    def head(self) -> Node:
        """The first node, which also has the GCS and the dashboard."""
        return self.nodes[0]

    def __enter__(self) -> Self:
        nodes, cpus, labels = self._wanted
        ensure_token()
        self._folder = Path(tempfile.mkdtemp(prefix="ray-home-"))
        # Whatever ends this process, the guard then ends the cluster.
        guard = [sys.executable, "-m", "cluster.processes", f"{self._name}:"]
        self._guard = subprocess.Popen(
            guard, stdin=subprocess.PIPE, start_new_session=True, cwd=Path(__file__).parent.parent
        )
        try:
            for number in range(nodes):
                self.add_node(cpus, labels=labels[number] if number < len(labels) else None)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def add_node(
        self,
        cpus: float = 1,
        labels: Mapping[str, str] | None = None,
        resources: Mapping[str, float] | None = None,
    ) -> Node:
        """One more node, which is part of the cluster when this returns; the first one is the head.

        Raises RuntimeError with Ray's own words when it does not start.
        """
        mark = f"{self._name}:{self._started}"
        node = Node(f"node{self._started}", cpus, mark)
        options = ["--labels", ",".join(f"{key}={value}" for key, value in labels.items())] if labels else []
        options += ["--resources", json.dumps(dict(resources))] if resources else []
        self._start(node, options, head=not self.nodes)
        self._started += 1
        self.nodes.append(node)
        return node

    def kill_gcs(self) -> None:
        """SIGKILL the head's GCS alone; without Redis the cluster does not come back from it."""
        process = self._gcs()
        if process is None:
            raise RuntimeError("the GCS of this cluster does not run; restart_gcs() starts it again")
        self._remember(process)
        send(process, signal.SIGKILL)
        _until(lambda: self._gcs() is None, "the GCS did not die")

    def restart_gcs(self) -> None:
        """Start the GCS again as it was started, and return when it answers; what it knew it reads from Redis.

        Raises RuntimeError when there is no Redis, or when it does not answer in time.
        """
        if self._redis is None:
            raise RuntimeError("a GCS without Redis has forgotten its cluster; start the cluster with redis=HOST:PORT")
        command, environment = self._gcs_command
        log = self.session / "logs" / "gcs_server.again.out"
        with log.open("ab") as out:
            subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
            )
        _until(lambda: _answers(self._port), f"the GCS did not answer again; its log is {log}")

    @property
    def session(self) -> Path:
        """The folder with Ray's sockets and logs."""
        return (self._folder / "session_latest").resolve()

    def gcs_alive(self) -> bool:
        """Whether the GCS lives."""
        return self._gcs() is not None

    def close(self) -> None:
        """End all that was started and remove the temporary folder. May be called twice."""
        kill(f"{self._name}:")
        self.nodes.clear()
        if self._guard is not None:
            self._guard.communicate()
            self._guard = None
            shutil.rmtree(self._folder, ignore_errors=True)

    def _start(self, node: Node, options: list[str], head: bool) -> None:
        ray = [sys.executable, "-m", "ray.scripts.scripts", "start", "--disable-usage-stats", "--log-style=record"]
        ray += ["--node-ip-address", _HOST, "--node-name", node.name, "--num-cpus", f"{node.cpus:g}", "--num-gpus=0"]
        ray += ["--object-store-memory", str(self._store_bytes), "--dashboard-agent-listen-port=0", *options]
        if head:
            ray += ["--head", "--port", str(self._port), "--temp-dir", str(self._folder)]
            ray += ["--dashboard-host", _HOST, "--dashboard-port", str(self._dashboard_port)]
            ray += ["--include-dashboard=true", "--ray-client-server-port", str(_free_port())]
        else:
            # One log monitor reads the logs of all nodes: they share a folder.
            ray += ["--address", self.address, "--include-log-monitor=false"]
        done = subprocess.run(
            ray,
            env=self._environment(node),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            start_new_session=True,
            timeout=_PATIENCE_S,
        )
        if done.returncode:
            said = (done.stderr or done.stdout).strip().splitlines() or ["it said nothing"]
            raise RuntimeError(f"ray start failed for {node.name} at {self.address}: {said[-1]}")

    def _environment(self, node: Node) -> dict[str, str]:
        own = {MARK: node.mark, "RAY_USAGE_STATS_ENABLED": "0"}
        if self._redis is not None:
            own |= {"RAY_REDIS_ADDRESS": self._redis, "RAY_external_storage_namespace": self._name}
        inherited = {key: value for key, value in os.environ.items() if key not in ("RAY_ADDRESS", "RAY_REDIS_ADDRESS")}
        return inherited | own

    def _gcs(self) -> psutil.Process | None:
        for process in self.head.processes() if self.nodes else []:
            try:
                if process.name() == "gcs_server":
                    return process
            except psutil.NoSuchProcess:
                continue
        return None

    def _remember(self, gcs: psutil.Process) -> None:
        self._gcs_command = gcs.cmdline(), gcs.environ()


def ensure_token() -> None:
    """Make Ray's token in ~/.ray/auth_token when Ray authenticates with tokens and there is none."""
    if os.environ.get("RAY_AUTH_MODE", "token") != "token":
        return
    from ray._private.authentication.authentication_token_setup import ensure_token_if_auth_enabled

    ensure_token_if_auth_enabled(create_token_if_missing=True)


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind((_HOST, 0))
        return int(taken.getsockname()[1])


def _answers(port: int) -> bool:
    with socket.socket() as door:
        door.settimeout(1)
        return door.connect_ex((_HOST, port)) == 0


def _until(condition: Callable[[], bool], otherwise: str) -> None:
    end = time.monotonic() + _PATIENCE_S
    while not condition():
        if time.monotonic() > end:
            raise RuntimeError(otherwise)
        time.sleep(0.1)
