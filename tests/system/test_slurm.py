"""The batch file on a real Slurm of two nodes, which the test starts: each a host of its own in namespaces."""

import json
import os
import secrets
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.system

ROOT = Path(__file__).parents[2]
BATCH_FILE = ROOT / "cluster" / "slurm" / "train.sbatch"
TINY = (
    "data.num_images=64",
    "data.num_test=32",
    "training.steps=20",
    "oracle.num_scored=32",
    "relations.update_at=[32]",
)
# A node has one CPU. Two workers do not fit on it; a worker and the oracle's engine do.
ON_TWO_NODES = ("training.num_workers=2", "training.cpus_per_worker=0.6", "oracle.num_cpus=0.4")
HEAD = ("--address", "10.77.0.1:6379")
ENDED = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY"}

_CONFIGURATION = """
ClusterName=graphdrl
SlurmctldHost=controller(10.77.0.254)
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CryptoType=crypto/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/%n/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ReturnToService=2
NodeName=n1 NodeAddr=10.77.0.1 CPUs=1 State=UNKNOWN
NodeName=n2 NodeAddr=10.77.0.2 CPUs=1 State=UNKNOWN
PartitionName=all Nodes=n1,n2 Default=YES State=UP MaxTime=INFINITE
"""
_HOSTS = "127.0.0.1 localhost\n10.77.0.254 controller\n10.77.0.1 n1\n10.77.0.2 n2\n"


class Slurm:
    """Commands given on the controller's host; `home` and `folder` are seen by all hosts."""

    def __init__(self, folder: Path, pid: int) -> None:
        self.home = folder / "home"
        self.folder = folder / "work"
        self._enter = ["nsenter", f"--target={pid}", "--net", "--pid", "--mount", "--uts", f"--wdns={self.folder}"]
        self._environment = {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(self.home),
            "SLURM_CONF": str(folder / "slurm.conf"),
            **{name: os.environ[name] for name in ("OMP_NUM_THREADS", "HF_HUB_OFFLINE", "RAY_USAGE_STATS_ENABLED")},
        }

    def run(self, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self._enter, "--", *command],
            env=self._environment | environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=400,
        )

    def submit(self, *words: str, **environment: str) -> str:
        """The job's number."""
        done = self.run("sbatch", "--parsable", str(BATCH_FILE), *words, **environment)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def job(self, number: str) -> dict[str, str]:
        """What Slurm knows of a job."""
        shown = self.run("scontrol", "--oneliner", "show", "job", number).stdout
        return dict(word.split("=", 1) for word in shown.split() if "=" in word)

    def ended(self, number: str) -> dict[str, str]:
        """The job, once it has ended."""
        give_up_at = time.monotonic() + 400
        while (job := self.job(number)).get("JobState") not in ENDED:
            assert time.monotonic() < give_up_at, f"{job}\n{self.output(number)}"
            time.sleep(1)
        return job

    def until_said(self, number: str, words: str) -> None:
        give_up_at = time.monotonic() + 200
        while words not in self.output(number):
            assert time.monotonic() < give_up_at, self.output(number)
            time.sleep(0.5)

    def reaches(self, host: str, port: int) -> bool:
        """Whether a connection from the controller's host is taken."""
        return self.run("timeout", "5", "bash", "-c", f"</dev/tcp/{host}/{port}").returncode == 0

    def output(self, number: str) -> str:
        path = self.folder / f"graphdrl-{number}.out"
        return path.read_text() if path.exists() else "(no output yet)"


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    for program in ("munged", "slurmctld", "slurmd", "sbatch", "unshare", "nsenter", "ip"):
        assert shutil.which(program), f"{program} is missing: `make test-system` brings it"
    namespaces = ["unshare", "--net", "--pid", "--mount", "--uts", "--fork", "--kill-child", "--mount-proc"]
    if subprocess.run([*namespaces, "true"], capture_output=True, check=False).returncode:
        pytest.skip("two hosts on one machine need namespaces, which this machine does not let us make")
    folder = tmp_path_factory.mktemp("slurm")
    for name in ("home", "work", "state"):
        (folder / name).mkdir()
    (folder / "slurm.conf").write_text(_CONFIGURATION.format(folder=folder))
    (folder / "hosts").write_text(_HOSTS)
    (folder / "munge.key").write_bytes(secrets.token_bytes(128))
    (folder / "munge.key").chmod(0o600)
    command = [*namespaces, "bash", str(Path(__file__).parent / "slurm_hosts.sh"), str(folder)]
    with (folder / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as hosts:
        try:
            started = Slurm(folder, first_process(hosts.pid))
            give_up_at = time.monotonic() + 60
            while started.run("sinfo", "--noheader", "--format=%D %t").stdout.split() != ["2", "idle"]:
                assert time.monotonic() < give_up_at, (folder / "log").read_text()
                time.sleep(0.5)
            yield started
        finally:
            hosts.kill()  # with it goes the first process of the namespace, and with that all others


def first_process(pid: int) -> int:
    """The one child of `unshare`, by its number out here."""
    children = Path(f"/proc/{pid}/task/{pid}/children")
    give_up_at = time.monotonic() + 30
    while not children.read_text().split():
        assert time.monotonic() < give_up_at, "no namespaces: they take root"
        time.sleep(0.1)
    return int(children.read_text().split()[0])


def test_a_training_runs_on_both_nodes_and_lets_no_stranger_in(slurm: Slurm) -> None:
    number = slurm.submit(*TINY, *ON_TWO_NODES, "name=both")
    slurm.until_said(number, "Running command on head node")
    with_token, without = (slurm.run("ray", "status", *HEAD, RAY_AUTH_MODE=mode) for mode in ("token", "disabled"))
    assert with_token.returncode == 0, with_token.stderr
    assert with_token.stdout.count("1 node_") == 2, "both nodes are in the cluster"
    assert without.returncode != 0
    assert "1 node_" not in without.stdout
    assert slurm.reaches("10.77.0.1", 6379)
    assert not slurm.reaches("10.77.0.1", 8265), "the dashboard is on the loopback of its node"

    job, output = slurm.ended(number), slurm.output(number)
    assert job["JobState"] == "COMPLETED", output
    assert job["NumNodes"] == "2"
    run = slurm.folder / "runs" / "both"
    assert (run / "report.html").exists(), output
    assert json.loads((run / "summary.json").read_text())["images_scored"] == 32
    assert not list(slurm.folder.glob(".graphdrl-*")), "nothing is left over"


def test_a_training_that_fails_fails_the_job_and_says_why(slurm: Slurm) -> None:
    number = slurm.submit("training.stepz=3")
    job, output = slurm.ended(number), slurm.output(number)
    assert job["JobState"] == "FAILED"
    assert not job["ExitCode"].startswith("0:")
    assert "training.steps" in output, "the nearest right key"

    token = slurm.home / ".ray" / "auth_token"
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    assert token.read_text() not in output


def test_nodes_are_in_the_pools_that_they_were_given(slurm: Slurm) -> None:
    words = (*TINY, "name=split", "placement=split", "training.num_workers=1", "training.cpus_per_worker=2")
    number = slurm.submit(*words, GRAPHDRL_POOLS="oracle,trainer")
    job, output = slurm.ended(number), slurm.output(number)
    assert job["JobState"] == "FAILED"
    assert "needs 2 CPUs for 1 worker with 2 CPUs, and pool 'trainer' has 1 CPU on 1 node" in output


def test_a_node_without_graphdrl_is_said_before_ray_is_started(slurm: Slurm) -> None:
    number = slurm.submit(PATH="/usr/bin:/bin")
    job, output = slurm.ended(number), slurm.output(number)
    assert job["JobState"] == "FAILED"
    assert "there is no graphdrl on n1" in output
    assert "Ray:" not in output


def test_an_oracle_that_is_served_answers_trainings_that_are_further_steps(slurm: Slurm) -> None:
    serving = slurm.submit("oracle.num_cpus=0.4", "--port", "8000", GRAPHDRL_COMMAND="serve oracle")
    slurm.until_said(serving, "its HTTP door is at http://127.0.0.1:8000/oracle")
    assert not slurm.reaches("10.77.0.1", 8000), "the door is on the loopback of its node"
    step = ("srun", f"--jobid={serving}", "--overlap", "--nodes=1", "--ntasks=1", "--nodelist=n1")
    training = ("graphdrl", "train", *TINY, *ON_TWO_NODES, "name=beside")
    done = slurm.run(*step, *training, RAY_ADDRESS="10.77.0.1:6379", RAY_AUTH_MODE="token")
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads((slurm.folder / "runs" / "beside" / "summary.json").read_text())["images_scored"] == 32
    assert slurm.job(serving)["JobState"] == "RUNNING", "it goes on for others"
    slurm.run("scancel", serving)
    assert slurm.ended(serving)["JobState"] == "CANCELLED"
