"""The batch file on a real Slurm of two nodes, which the test starts: each a host of its own in namespaces."""

import os
import re
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
TINY = ("data.num_images=64", "data.num_test=32", "training.steps=4", "training.batch_size=8")
# A node has one CPU, and a worker asks for one: the two cannot have been on the same node.
ON_TWO_NODES = ("training.num_workers=2", "training.cpus_per_worker=1")
WITHOUT_ORACLE = ("method=beta_vae", "oracle.engine=none")
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
        self._enter = ["nsenter", f"--target={pid}", "--net", "--pid", "--mount", "--uts"]
        self._environment = {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(self.home),
            "SLURM_CONF": str(folder / "slurm.conf"),
            **{name: os.environ[name] for name in ("OMP_NUM_THREADS", "HF_HUB_OFFLINE", "RAY_USAGE_STATS_ENABLED")},
        }

    def run(self, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self._enter, "--", *command],
            cwd=self.folder,
            env=self._environment | environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    def submit(self, *words: str, **environment: str) -> str:
        """The job's number."""
        done = self.run("sbatch", "--parsable", f"--chdir={self.folder}", str(BATCH_FILE), *words, **environment)
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

    def output(self, number: str) -> str:
        path = self.folder / f"graphdrl-{number}.out"
        return path.read_text() if path.exists() else "(no output yet)"


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    for program in ("munged", "slurmctld", "slurmd", "sbatch", "unshare", "nsenter", "ip"):
        assert shutil.which(program), f"{program} is missing: `make test-system` brings it"
    folder = tmp_path_factory.mktemp("slurm")
    for name in ("home", "work", "state"):
        (folder / name).mkdir()
    (folder / "slurm.conf").write_text(_CONFIGURATION.format(folder=folder))
    (folder / "hosts").write_text(_HOSTS)
    (folder / "munge.key").write_bytes(secrets.token_bytes(128))
    (folder / "munge.key").chmod(0o600)
    command = ["unshare", "--net", "--pid", "--mount", "--uts", "--fork", "--kill-child", "--mount-proc"]
    command += ["bash", str(Path(__file__).parent / "slurm_hosts.sh"), str(folder)]
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


def test_a_training_runs_on_both_nodes(slurm: Slurm) -> None:
    number = slurm.submit(*TINY, *ON_TWO_NODES, *WITHOUT_ORACLE, "name=both")
    job, output = slurm.ended(number), slurm.output(number)
    assert job["JobState"] == "COMPLETED", output
    assert job["NumNodes"] == "2"
    assert "10.77.0.1:6379 on 2 nodes" in output
    assert (slurm.folder / "runs" / "both" / "report.html").exists(), output
    assert (slurm.folder / "runs" / "both" / "model" / "model.safetensors").exists()
    assert not list(slurm.folder.glob(".graphdrl-*")), "nothing is left over"


def test_the_token_is_made_once_and_is_its_owners_alone(slurm: Slurm) -> None:
    token = slurm.home / ".ray" / "auth_token"
    before = token.read_text() if token.exists() else None
    number = slurm.submit("configs/none.yaml")
    slurm.ended(number)
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    assert token.read_text() not in slurm.output(number)
    assert before in (None, token.read_text())


def test_a_training_that_fails_fails_the_job_and_says_why(slurm: Slurm) -> None:
    number = slurm.submit("training.stepz=3")
    job, output = slurm.ended(number), slurm.output(number)
    assert job["JobState"] == "FAILED"
    assert not job["ExitCode"].startswith("0:")
    assert "training.steps" in output, "the nearest right key"
    assert re.search(r"Ray: .* on 2 nodes", output)
