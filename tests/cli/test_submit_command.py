"""`graphdrl submit` and `graphdrl jobs` as a person types them, on a real head that wants its token."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from graphdrl.cli import main
from graphdrl.cli.submit import keeping, on_cluster

GRAPHDRL = [sys.executable, "-c", "from graphdrl.cli import main; main()"]
Done = subprocess.CompletedProcess[str]

TINY = (
    *("--backend", "local", "oracle.engine=none", "data.image_size=32", "data.num_images=64", "data.num_test=0"),
    *("model.num_latents=12", "training.batch_size=16", "training.pair_groups=2", "training.group_size=6"),
)


@dataclass(frozen=True)
class Cluster:
    """A head of the test's own; `work` is the folder that jobs are submitted from, `kept` the cluster's runs."""

    address: str
    environment: dict[str, str]
    work: Path
    kept: Path

    def command(self, *words: str) -> list[str]:
        return [*GRAPHDRL, *words, "--address", self.address]

    def graphdrl(self, *words: str, **environment: str) -> Done:
        return subprocess.run(
            self.command(*words),
            cwd=self.work,
            env=self.environment | environment,
            capture_output=True,
            text=True,
            check=False,
        )

    def submit(self, *words: str) -> Done:
        return self.graphdrl("submit", *words, "--runs", str(self.kept))

    def status(self, job: str) -> str:
        rows = self.graphdrl("jobs", "list").stdout.splitlines()
        return next(row.split()[1] for row in rows if row.startswith(job))


def free_ports(number: int) -> list[int]:
    probes = [socket.socket() for _ in range(number)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def until(holds: Callable[[], bool], what: str) -> None:
    for _ in range(600):
        if holds():
            return
        time.sleep(0.2)
    raise AssertionError(f"{what} did not come about")


def answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=5).close()
    except urllib.error.HTTPError:
        return True  # it wants its token
    except OSError:
        return False
    return True


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("submit")
    token = folder / "token"
    token.write_text(secrets.token_hex(32))
    environment = os.environ | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token), "HOME": str(folder)}
    gcs, dashboard, agent, client = free_ports(4)
    temporary = tempfile.mkdtemp(prefix="submit-")  # the paths of sockets below it may not be long
    options = {
        "port": gcs,
        "dashboard-port": dashboard,
        "dashboard-agent-listen-port": agent,
        "ray-client-server-port": client,
        "dashboard-host": "127.0.0.1",
        "include-dashboard": "true",
        "temp-dir": temporary,
        "num-cpus": 2,
        "object-store-memory": 100 << 20,
        "min-worker-port": 0,
        "max-worker-port": 0,
    }
    words = [f"--{name}={value}" for name, value in options.items()]
    with open(folder / "head.log", "w") as log:
        head = subprocess.Popen(
            [
                str(Path(sys.executable).with_name("ray")),
                "start",
                "--head",
                "--block",
                "--include-dashboard=true",
                *words,
            ],
            # The interpreter's folder is not on the path: a cluster is often started like that.
            env=environment | {"PATH": "/usr/bin:/bin"},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        address = f"http://127.0.0.1:{dashboard}"
        until(lambda: answers(f"{address}/api/version"), "a head")
        work = folder / "work"
        work.mkdir()
        yield Cluster(address, environment, work, folder / "kept")
    finally:
        head.terminate()
        head.wait()
        shutil.rmtree(temporary, ignore_errors=True)


def test_a_training_runs_from_an_empty_folder_and_its_run_is_kept(cluster: Cluster) -> None:
    done = cluster.submit("train", *TINY, "training.steps=2", "name=first")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "training" in done.stdout
    assert "report: runs/first/report.html" in done.stdout
    assert "Running entrypoint" not in done.stdout
    assert (cluster.kept / "first" / "report.html").exists()
    job = done.stderr.split()[1]
    assert job.startswith("train-first-")
    assert f"job {job}: succeeded" in done.stderr

    rows = cluster.graphdrl("jobs", "list").stdout.splitlines()
    [row] = [row for row in rows if row.startswith(job)]
    assert "succeeded" in row
    assert "graphdrl train --backend local" in row
    assert f"@{socket.gethostname()}" in row
    assert cluster.graphdrl("jobs", "logs", job).stdout == done.stdout
    assert cluster.graphdrl("jobs", "stop", job).stdout == f"job {job} had ended before\n"


def test_a_failing_job_ends_with_its_own_sentence_and_exit_code(cluster: Cluster) -> None:
    (cluster.work / "mine.yaml").write_text("training: {step: 3}\n")
    done = cluster.submit("train", "mine.yaml")
    assert done.returncode == 1
    assert "error: training.step is not a key; did you mean training.steps?" in done.stdout
    assert "failed" in done.stderr


def test_a_job_goes_on_without_its_submitter_and_is_followed_and_stopped(cluster: Cluster) -> None:
    submitted = cluster.submit("train", *TINY, "training.steps=1000000", "name=long", "--no-wait")
    job = submitted.stdout.strip()
    assert submitted.stdout == f"{job}\n"
    follower = subprocess.Popen(
        cluster.command("jobs", "logs", job, "--follow"),
        cwd=cluster.work,
        env=cluster.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert follower.stdout
    assert any(line.strip() == "training" for line in follower.stdout)
    follower.send_signal(signal.SIGINT)
    said = follower.communicate()[1]
    assert follower.returncode == -signal.SIGINT, said
    assert f"the job goes on (`graphdrl jobs logs {job} --address {cluster.address} --follow`" in said
    assert "Traceback" not in said
    assert cluster.status(job) == "running"

    assert cluster.graphdrl("jobs", "stop", job).stdout == f"job {job} is stopped\n"
    followed = cluster.graphdrl("jobs", "logs", job, "--follow")
    assert followed.returncode == 128 + signal.SIGTERM
    assert f"job {job}: stopped" in followed.stderr


def test_a_job_goes_on_when_its_submitter_is_killed(cluster: Cluster) -> None:
    submitter = subprocess.Popen(
        cluster.command("submit", "train", *TINY, "training.steps=1000000", "name=orphan", "--runs", str(cluster.kept)),
        cwd=cluster.work,
        env=cluster.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert submitter.stdout
    job = submitter.stdout.readline().split()[1]
    assert any(line.strip() == "training" for line in submitter.stdout)
    submitter.kill()
    submitter.communicate()
    metrics = cluster.kept / "orphan" / "metrics.jsonl"
    written = metrics.stat().st_size if metrics.exists() else 0
    until(lambda: metrics.exists() and metrics.stat().st_size > written, "a step after the submitter's end")
    assert cluster.status(job) == "running"
    assert cluster.graphdrl("jobs", "stop", job).returncode == 0


@pytest.mark.parametrize("words", [("logs", "nobodys"), ("logs", "nobodys", "--follow"), ("stop", "../nodes")])
def test_an_unknown_job_is_one_sentence(cluster: Cluster, words: tuple[str, ...]) -> None:
    done = cluster.graphdrl("jobs", *words)
    assert done.returncode == 1
    [sentence] = done.stderr.splitlines()
    assert sentence.startswith(
        f"error: there is no job '{words[1]}' on the cluster at {cluster.address}; `graphdrl jobs"
    )


@pytest.mark.parametrize(("token", "what"), [("wrong", "a wrong one"), ("absent", "none")])
def test_a_wrong_token_is_one_sentence(cluster: Cluster, tmp_path: Path, token: str, what: str) -> None:
    (tmp_path / "wrong").write_text(secrets.token_hex(32))
    done = cluster.graphdrl("submit", "train", RAY_AUTH_TOKEN_PATH=str(tmp_path / token))
    assert done.returncode == 1
    [sentence] = done.stderr.splitlines()
    assert f"the cluster at {cluster.address} wants its token, and got {what}" in sentence
    assert "RAY_AUTH_TOKEN_PATH" in sentence


# Before any cluster is needed ---------------------------------------------------------------------------------------


@pytest.fixture
def complaint(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., str]:
    monkeypatch.chdir(tmp_path)

    def run(*words: str, code: int = 1) -> str:
        monkeypatch.setattr(sys, "argv", ["graphdrl", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == code
        return capsys.readouterr().err

    return run


def test_no_cluster_at_the_address_is_one_sentence(complaint: Callable[..., str]) -> None:
    [port] = free_ports(1)
    said = complaint("submit", "train", "--address", f"http://127.0.0.1:{port}")
    assert said.startswith(f"error: no Ray cluster answers at http://127.0.0.1:{port}")
    assert len(said.splitlines()) == 1


def test_the_address_of_the_environment_counts_where_none_is_given(
    complaint: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    port, other = free_ports(2)
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", f"http://127.0.0.1:{port}")
    assert f"no Ray cluster answers at http://127.0.0.1:{port}" in complaint("jobs", "list")
    given = f"http://127.0.0.1:{other}"
    assert f"no Ray cluster answers at {given}" in complaint("jobs", "list", "--address", given)


def test_what_is_no_cluster_is_one_sentence(complaint: Callable[..., str]) -> None:
    class Other(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"welcome")

        def log_message(self, *_: object) -> None:
            """Nothing on the terminal."""

    with HTTPServer(("127.0.0.1", 0), Other) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        said = complaint("jobs", "list", "--address", f"http://127.0.0.1:{server.server_port}")
        server.shutdown()
    assert "is no Ray cluster's dashboard" in said


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["trian"], "'trian' cannot be submitted; did you mean 'train'?"),
        (["doctor"], "'doctor' cannot be submitted (these can: train, "),
        (["train", "runs=s3://me:secret@bucket/runs"], "the address s3://***@bucket/runs carries credentials"),
        (["train"], "which cluster? Give --address http://HOST:8265, or set RAY_API_SERVER_ADDRESS"),
    ],
)
def test_what_cannot_be_submitted_is_said_at_once(
    complaint: Callable[..., str], words: list[str], sentence: str
) -> None:
    assert sentence in complaint("submit", *words)


@pytest.mark.parametrize(
    ("words", "out"),
    [
        ("score faces --attributes bald", ["--out", "runs/job-1/scores.parquet"]),
        ("score faces --attributes bald --out mine/grades.parquet", ["--out", "runs/job-1/grades.parquet"]),
        ("relations faces --attributes bald,old --out /mnt/page.html", []),
        ("train configs/quickstart.yaml --backend local", []),
    ],
)
def test_what_a_command_writes_goes_where_it_stays(words: str, out: list[str]) -> None:
    arguments = words.split()
    assert keeping(on_cluster(arguments), "job-1") == [*arguments, *out]


def test_a_commands_wrong_option_is_said_before_it_goes(complaint: Callable[..., str]) -> None:
    assert "--bakend" in complaint("submit", "train", "--bakend", "local", "--address", "http://127.0.0.1:1", code=2)
