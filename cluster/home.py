"""A Ray cluster of several nodes on this machine: each is a raylet with its workers, and may die as a machine does."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from cluster import processes

_HOST = "127.0.0.1"
_STORE_BYTES = 256 << 20
_PATIENCE_S = 120.0
_STARTS = 3
_TOO_SLOW = "timed out during startup"
"""Ray gives a node 30 seconds to start, which is not to be changed and which a busy machine may need more of."""


@dataclass(frozen=True)
class Node:
    """One node: what it was started with, and the mark that its processes bear."""

    name: str
    cpus: float
    resources: Mapping[str, float]
    labels: Mapping[str, str]
    mark: str

    def processes(self) -> list[psutil.Process]:
        """What lives of it: its raylet, agents and workers; of the head also the GCS and the dashboard."""
        return processes.marked(self.mark)

    def alive(self) -> bool:
        """Whether its raylet lives."""
        return any(_name(process) == "raylet" for process in self.processes())

    def kill(self) -> None:
        """SIGKILL the raylet and everything that it started, as when a machine loses its power."""
        processes.kill(self.mark)


class HomeCluster:
    """Ray on several nodes of this machine, from entering to leaving the context.

    Every node is a `ray start` of its own. The cluster has its own ports and temporary folder, its dashboard listens on
    the loopback, and it ends what it has started and nothing else, also when this process is killed. Ray authenticates
    as RAY_AUTH_MODE says, which `cluster` sets to `token` where nobody did; a token is made when there is none.
    """

    def __init__(
        self,
        nodes: int = 1,
        cpus: float = 1,
        redis: str | None = None,
        *,
        name: str | None = None,
        pools: Sequence[str] = (),
        port: int = 0,
        dashboard_port: int = 0,
        object_store_bytes: int = _STORE_BYTES,
    ) -> None:
        """nodes: with the head, which is the first; cpus: of each.

        redis: HOST:PORT, where the head keeps what it knows, so that it can be started again; name: sets this cluster
        apart from others that are kept there. pools: of the nodes, in their order. ports: 0 takes a free one.
        """
        self._wanted = [(cpus, {pools[number]: 1.0} if number < len(pools) else {}) for number in range(nodes)]
        self._redis, self._name, self._mark = redis, name or uuid.uuid4().hex, uuid.uuid4().hex
        self._port, self._dashboard_port = port or _free_port(), dashboard_port or _free_port()
        self._store_bytes = object_store_bytes
        self._started = 0
        self._folder = Path()
        self._guard: subprocess.Popen[bytes] | None = None
        self._gcs: psutil.Process | None = None
        self._gcs_start: tuple[list[str], dict[str, str]] = ([], {})
        self.nodes: list[Node] = []

    @property
    def address(self) -> str:
        """What RAY_ADDRESS is to be set to."""
        return f"{_HOST}:{self._port}"

    @property
    def dashboard(self) -> str:
        """The address to which jobs are submitted."""
        return f"http://{_HOST}:{self._dashboard_port}"

    @property
    def logs(self) -> Path:
        """The folder of Ray's logs."""
        return (self._folder / "session_latest").resolve() / "logs"

    @property
    def remembers(self) -> bool:
        """Whether there is a Redis, so that the head can be started again."""
        return self._redis is not None

    def __enter__(self) -> Self:
        self._check()
        _ensure_token()
        self._folder = Path(tempfile.mkdtemp(prefix="graphdrl-up-"))
        guard = [sys.executable, "-P", processes.__file__, f"{self._mark}:", str(self._folder)]
        self._guard = subprocess.Popen(guard, stdin=subprocess.PIPE, start_new_session=True)
        try:
            for cpus, resources in self._wanted:
                self.add_node(cpus, resources=resources)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def add_node(
        self,
        cpus: float = 1,
        *,
        resources: Mapping[str, float] | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> Node:
        """One more node, which has joined when this returns; raises RuntimeError with Ray's own words if it cannot."""
        number = self._started
        node = Node(f"node{number}", cpus, dict(resources or {}), dict(labels or {}), f"{self._mark}:{number}:")
        self._start(node, is_head=not self.nodes)
        self._started += 1
        self.nodes.append(node)
        return node

    def gcs_alive(self) -> bool:
        """Whether the GCS, the head's memory of its cluster, lives."""
        return self._gcs is not None and processes.lives(self._gcs)

    def kill_gcs(self) -> None:
        """SIGKILL the GCS alone; nodes and workers go on, and wait for it for a minute."""
        if self._gcs is not None:
            processes.send(self._gcs, signal.SIGKILL)
        _until(lambda: not self.gcs_alive(), "the GCS did not die")

    def restart_gcs(self) -> None:
        """Start the GCS again, with its own command line; it reads from Redis what it knew.

        Raises RuntimeError when there is no Redis, or when it does not answer.
        """
        self._check_redis()
        command, environment = self._gcs_start
        log = self.logs / "gcs_server.again.log"
        with log.open("ab") as out:
            self._gcs = psutil.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
            )
        _until(lambda: _answers(_HOST, self._port), f"the GCS did not answer again; its log is {log}")

    def restart_head(self) -> Node:
        """Start the whole head again after `nodes[0].kill()`, on what Redis knows; other nodes find it by its address.

        Raises RuntimeError when there is no Redis.
        """
        self._check_redis()
        before = self.nodes.pop(0)
        rest, self.nodes = self.nodes, []
        # Ray would see the other nodes of this address, and take the head for one that runs already.
        (self._folder / "ray_current_cluster").unlink(missing_ok=True)
        try:
            return self.add_node(before.cpus, resources=before.resources, labels=before.labels)
        finally:
            self.nodes += rest

    def close(self) -> None:
        """End everything that was started, and remove the temporary folder; once it has ended, nothing happens."""
        guard, self._guard = self._guard, None
        if guard is None:
            return
        guard.communicate()
        self.nodes.clear()
        if isinstance(self._gcs, psutil.Popen):
            self._gcs.wait()
        if guard.returncode:
            raise RuntimeError(f"not all of the cluster at {self.address} could be ended; see the processes of ray")

    def _check(self) -> None:
        for port in (self._port, self._dashboard_port):
            if _answers(_HOST, port):
                raise ValueError(f"port {port} is in use by another program; give another one, or 0 for a free one")
        if self._redis is not None:
            host, _, port_text = self._redis.rpartition(":")
            if not host or not port_text.isdigit() or not _answers(host, int(port_text)):
                raise ValueError(f"no Redis answers at {self._redis}; start redis-server, and give its HOST:PORT")

    def _check_redis(self) -> None:
        if self._redis is None:
            raise RuntimeError("a head without Redis has forgotten its cluster; start the cluster with redis=HOST:PORT")

    def _start(self, node: Node, is_head: bool) -> None:
        options = ["--node-name", node.name, "--num-cpus", f"{node.cpus:g}", "--dashboard-agent-listen-port=0"]
        options += ["--object-store-memory", str(self._store_bytes), "--disable-usage-stats", "--log-style=record"]
        options += ["--resources", json.dumps(node.resources)] if node.resources else []
        options += ["--labels", ",".join(f"{key}={value}" for key, value in node.labels.items())] if node.labels else []
        if is_head:
            options += ["--head", "--port", str(self._port), "--temp-dir", str(self._folder)]
            options += ["--dashboard-host", _HOST, "--dashboard-port", str(self._dashboard_port)]
            options += ["--include-dashboard=true", "--ray-client-server-port", str(_free_port())]
        else:
            # GPUs are the head's, lest two nodes give away the same ones; its log monitor reads the folder of all.
            options += ["--address", self.address, "--num-gpus=0", "--include-log-monitor=false"]
        for start in range(1, _STARTS + 1):
            try:
                _ray_start(options, self._environment(node), node.name)
                break
            except RuntimeError as error:
                node.kill()
                if start == _STARTS or _TOO_SLOW not in str(error):
                    raise
        if is_head:
            self._gcs = next(process for process in node.processes() if _name(process) == "gcs_server")
            self._gcs_start = self._gcs.cmdline(), self._gcs.environ()

    def _environment(self, node: Node) -> dict[str, str]:
        own = {processes.MARK: node.mark}
        if self._redis is not None:
            own |= {"RAY_REDIS_ADDRESS": self._redis, "RAY_external_storage_namespace": self._name}
        inherited = {name: value for name, value in os.environ.items() if name not in ("RAY_ADDRESS", *own)}
        return inherited | own


def _ray_start(options: Sequence[str], environment: Mapping[str, str], name: str) -> None:
    # Without --block: the processes must outlive each other, and a GCS that dies would take the others along.
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", *options]
    with tempfile.TemporaryFile("w+") as out:
        # Into a file: a pipe would stay open as long as what was started lives.
        done = subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
            timeout=_PATIENCE_S,
        )
        out.seek(0)
        said = [line for line in out.read().splitlines() if line.strip()]
    if done.returncode:
        raise RuntimeError(f"{name} did not start: {said[-1] if said else 'Ray said nothing'}")


def _ensure_token() -> None:
    if os.environ.get("RAY_AUTH_MODE") != "token":
        return
    from ray._private.authentication.authentication_token_setup import ensure_token_if_auth_enabled

    ensure_token_if_auth_enabled(create_token_if_missing=True)


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind((_HOST, 0))
        return int(taken.getsockname()[1])


def _answers(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=1):
            return True
    except OSError:
        return False


def _name(process: psutil.Process) -> str:
    try:
        return process.name()
    except psutil.NoSuchProcess:
        return ""


def _until(condition: Callable[[], bool], otherwise: str) -> None:
    end = time.monotonic() + _PATIENCE_S
    while not condition():
        if time.monotonic() > end:
            raise RuntimeError(otherwise)
        time.sleep(0.1)
