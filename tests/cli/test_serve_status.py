"""`graphdrl serve status` as a person types it: what it shows of an oracle, and what it says where none is."""

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace

import pytest
import ray
from ray import serve as ray_serve
from rich.console import Console

from graphdrl.cli import main
from graphdrl.cli.status import describe, read_snapshot
from serve.counts import ClientCounts, Snapshot

COMMAND = [sys.executable, "-c", "from graphdrl.cli import main; main()", "serve", "status"]


def counts_of(latencies_s: list[float], **numbers: int) -> ClientCounts:
    counts = ClientCounts(**numbers)
    for seconds in latencies_s:
        counts.took(seconds)
    return counts


SNAPSHOT = Snapshot(
    model="builtin@1",
    clients={
        "greedy": counts_of(
            [0.2] * 8 + [0.7] * 2,
            questions=1_200,
            refused=3,
            late=1,
            items=12_000,
            from_store=9_000,
            joined=1_000,
            asked=2_000,
            malformed=30,
            images=1_200,
            images_zero=12,
            images_flagged=600,
        ),
        "": counts_of([60.0], questions=1, items=10, asked=10),
    },
    queued={"greedy": 1_500, "newcomer": 7},
    in_flight=160,
    stored=54_321,
    asked_again=64,
    num_replicas=2,
    prompt_tokens=1_000_000,
    written_tokens=12_345,
    busy_s=3_300.0,
    up_s=3_700.0,
)


def shown(snapshot: Snapshot) -> list[list[str]]:
    """The words of each line that a person sees."""
    console = Console(width=80)
    with console.capture() as captured:
        console.print(describe(snapshot))
    return [line.split() for line in captured.get().splitlines()]


def test_a_person_sees_the_service_and_every_client():
    lines = [" ".join(words) for words in shown(SNAPSHOT)]
    assert "model builtin@1" in lines
    assert "replicas 2" in lines
    assert "up 1 h 1 min" in lines
    assert "engines busy 44.6% (3,300 s of 2 x 3,700 s)" in lines
    assert "items 160 in flight, 54,321 stored, 64 asked again" in lines
    assert "tokens 1,000,000 read, 12,345 written" in lines
    assert "greedy 1,200 4 1,500 0.194 s 0.875 s" in lines
    assert "greedy 9,000 1,000 2,000 1.0% 1.0% 50.0%" in lines
    assert "(none) 1 0 0 > 30 s > 30 s" in lines
    assert "(none) 0 0 10 0.0% - -" in lines
    assert "newcomer 0 0 7 - -" in lines
    assert "all 1,201 4 1,507 0.203 s > 30 s" in lines
    assert "all 9,000 1,000 2,010 1.0% 1.0% 50.0%" in lines


def test_an_oracle_that_nobody_asked_yet_says_so():
    lines = [" ".join(words) for words in shown(replace(SNAPSHOT, clients={}, queued={}, num_replicas=0, up_s=7.0))]
    assert "up 7 s" in lines
    assert "engines busy - (3,300 s of 0 x 7 s)" in lines
    assert lines[-1] == "nobody has asked yet"


def test_a_clients_name_is_shown_and_does_nothing():
    lines = shown(replace(SNAPSHOT, clients={"[red]x[/red]\x1b[2J": SNAPSHOT.clients[""]}, queued={}))
    assert any(words and words[0] == "[red]x[/red]?[2J" for words in lines)


def test_without_an_address_it_says_where_to_get_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(sys, "argv", ["graphdrl", "serve", "status"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    said = capsys.readouterr().err.strip()
    assert said.startswith("error: which oracle?")
    assert "--address" in said
    assert "RAY_ADDRESS" in said


def ask(address: str, *words: str) -> subprocess.CompletedProcess[str]:
    command = [*COMMAND, "--address", address, *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=100 << 20)
    yield ray.get_runtime_context().gcs_address
    ray_serve.shutdown()
    ray.shutdown()


class Counted:
    """Stands for the front: it has counted what SNAPSHOT says."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    async def snapshot(self) -> Snapshot:
        return self._snapshot


def test_status_finds_the_oracle_of_a_cluster_and_says_so_where_there_is_none(address: str):
    none = ask(address)
    assert (none.returncode, none.stdout) == (1, "")
    assert f"no oracle runs on the Ray cluster at {address}" in none.stderr
    assert f"graphdrl serve oracle --address {address}" in none.stderr
    assert "Traceback" not in none.stderr

    ray_serve.start(proxy_location="Disabled", logging_config={"log_level": "WARNING"})
    front = ray_serve.deployment(name="front", ray_actor_options={"num_cpus": 0})(Counted)
    ray_serve.run(front.bind(SNAPSHOT), name="oracle", route_prefix=None)

    table = ask(address)
    assert (table.returncode, table.stderr) == (0, "")
    assert "newcomer" in table.stdout
    counts = ask(address, "--json")
    assert (counts.returncode, counts.stderr) == (0, "")
    assert json.loads(counts.stdout) == asdict(SNAPSHOT)


def test_where_no_cluster_answers_is_one_sentence():
    with socket.socket() as taken:  # nobody else can listen there meanwhile, and it does not either
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(RuntimeError, match=f"no Ray cluster answers at {address}.*check the address"):
            read_snapshot(address)
