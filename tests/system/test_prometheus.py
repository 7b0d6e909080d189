"""A real Prometheus scrapes the oracle's metrics with the configuration that the docs show, and the dashboard's
questions to it are answered."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import uvicorn
import yaml
from starlette.applications import Starlette
from starlette.routing import Mount

from serve.counts import ClientCounts, Snapshot
from serve.doors import make_app
from serve.metrics import quantile_s, render

pytestmark = pytest.mark.system

ROOT = Path(__file__).parents[2]
KEY = "a-key-of-this-test"
_BOTH = 'up{job="graphdrl-oracle"} == 1 or up{job="stranger"}'
LATENCIES_S = [0.004, 0.02, 0.02, 0.04, 0.3, 0.3, 0.7, 4.0]


def snapshot(age: int = 0) -> Snapshot:
    """What a busy front has counted; every counter grows with `age`."""
    greedy, nameless = (
        ClientCounts(
            questions=40 * age,
            refused=5 * age,
            late=2 * age,
            given_up=age,
            failed=3 * age,
            items=400 * age,
            from_store=100 * age,
            joined=60 * age,
            asked=240 * age,
            malformed=6 * age,
            images=33 * age,
            images_zero=4 * age,
            images_flagged=7 * age,
        )
        for _ in range(2)
    )
    for _ in range(age):
        for seconds in LATENCIES_S:
            greedy.took(seconds)
    return Snapshot(
        model="builtin@1",
        clients={'run "7"\n': greedy, "": nameless},
        queued={'run "7"\n': 1_500},
        in_flight=160,
        stored=54_321,
        asked_again=9 * age,
        num_replicas=2,
        prompt_tokens=6_000 * age,
        written_tokens=700 * age,
        busy_s=0.5 * age,
        up_s=float(age),
    )


@dataclass(frozen=True)
class Target:
    """Where metrics can be scraped."""

    address: str
    path: str
    key: str


class Counted:
    """An oracle of which nothing is asked but its metrics."""

    def __init__(self, read: Callable[[], Snapshot]) -> None:
        self._read = read

    async def metrics(self) -> bytes:
        return render(self._read())


@contextmanager
def served(read: Callable[[], Snapshot]) -> Iterator[Target]:
    """The oracle's own HTTP door, with no more than these counts behind it."""
    app = Starlette(routes=[Mount("/oracle", make_app(Counted(read), KEY))])
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
        thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
        thread.start()
        try:
            yield Target(f"127.0.0.1:{listening.getsockname()[1]}", "/oracle/metrics", KEY)
        finally:
            server.should_exit = True
            thread.join()


def program(name: str) -> str:
    found = shutil.which(name, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    assert found, f"{name} is missing: `make test-system` brings it"
    return found


def configuration(target: Target, folder: Path) -> Path:
    """The docs' prometheus.yml, with this target in it, and once more with a wrong key."""
    page = (ROOT / "docs" / "observing.md").read_text()
    (text,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    config = yaml.safe_load(text)
    (oracle,) = config["scrape_configs"]
    assert oracle["metrics_path"] == target.path
    (folder / "door.key").write_text(target.key)
    oracle |= {"authorization": {"credentials_file": str(folder / "door.key")}}
    oracle |= {"static_configs": [{"targets": [target.address]}]}
    stranger = oracle | {"job_name": "stranger", "authorization": {"credentials": "wrong"}}
    config = {"global": {"scrape_interval": "1s", "scrape_timeout": "1s"}, "scrape_configs": [oracle, stranger]}
    path = folder / "prometheus.yml"
    path.write_text(yaml.safe_dump(config))
    return path


class Prometheus:
    """A Prometheus of this test's own."""

    def __init__(self, address: str) -> None:
        self._address = address

    def is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://{self._address}/-/ready", timeout=10) as answer:
                return answer.status == 200
        except OSError:
            return False

    def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """The labels and the value of every series that answers an expression now."""
        url = f"http://{self._address}/api/v1/query?{urllib.parse.urlencode({'query': expression})}"
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:
                found = json.load(answer)
        except urllib.error.HTTPError as error:
            pytest.fail(f"{expression}: {error.read().decode()}")
        return [(one["metric"], float(one["value"][1])) for one in found["data"]["result"]]

    def value(self, expression: str) -> float:
        ((_, value),) = self.query(expression)
        return value


@contextmanager
def scraping(target: Target, folder: Path) -> Iterator[Prometheus]:
    """Prometheus, from the moment that it has scraped the target until the context ends."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    command = [program("prometheus"), f"--config.file={configuration(target, folder)}"]
    command += [f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address={address}", "--log.level=warn"]
    with (folder / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            prometheus = Prometheus(address)

            def has_scraped() -> bool:
                assert process.poll() is None, (folder / "log").read_text()
                return prometheus.is_ready() and len(prometheus.query(_BOTH)) == 2

            until(has_scraped)
            yield prometheus
        finally:
            process.terminate()


def until(holds: Callable[[], Any]) -> None:
    give_up_at = time.monotonic() + 100
    while not holds():
        assert time.monotonic() < give_up_at, holds.__doc__ or "waited in vain"
        time.sleep(0.1)


def test_prometheus_reads_what_the_front_counted(tmp_path: Path) -> None:
    shown = snapshot(age=1)
    counts = shown.clients['run "7"\n']
    with served(lambda: shown) as target, scraping(target, tmp_path) as prometheus:
        assert prometheus.value('up{job="graphdrl-oracle"}') == 1
        assert prometheus.value('up{job="stranger"}') == 0, "a wrong key reads nothing"
        assert not prometheus.query('{__name__=~"graphdrl_.*", job="stranger"}')

        def of(name: str, labels: str = "") -> float:
            return prometheus.value(f"graphdrl_oracle_{name}{{{labels}}}")

        client = r'client="run \"7\"\n"'
        assert of("questions_total", client) == counts.questions
        assert of("questions_total", 'client="(none)"') == shown.clients[""].questions
        for outcome in ("from_store", "joined", "asked"):
            assert of("items_total", f'{client}, outcome="{outcome}"') == getattr(counts, outcome)
        for reason in ("refused", "late", "given_up", "failed"):
            assert of("unanswered_questions_total", f'{client}, reason="{reason}"') == getattr(counts, reason)
        assert of("malformed_items_total", client) == counts.malformed
        for name in ("images", "images_zero", "images_flagged"):
            assert of(f"{name}_total", client) == getattr(counts, name)
        assert of("queued_items", client) == shown.queued['run "7"\n']
        assert of("in_flight_items") == shown.in_flight
        assert of("stored_items") == shown.stored
        assert of("asked_again_items_total") == shown.asked_again
        assert of("tokens_total", 'kind="prompt"') == shown.prompt_tokens
        assert of("tokens_total", 'kind="written"') == shown.written_tokens
        assert of("engine_busy_seconds_total") == shown.busy_s
        assert of("replicas") == shown.num_replicas
        assert of("up_seconds") == shown.up_s
        assert of("info", 'model="builtin@1"') == 1
        assert of("latency_seconds_count", client) == len(LATENCIES_S)
        assert of("latency_seconds_sum", client) == pytest.approx(sum(LATENCIES_S))
        for quantile in (0.3, 0.5, 0.95):
            bucket = f"graphdrl_oracle_latency_seconds_bucket{{{client}}}"
            there = prometheus.value(f"histogram_quantile({quantile}, {bucket})")
            assert there == pytest.approx(quantile_s(counts.latencies, quantile)), "status shows the same"


def test_every_panel_of_the_dashboard_has_something_to_show(tmp_path: Path) -> None:
    ages = count(1)
    panels = json.loads((files("serve") / "grafana.json").read_text())["panels"]
    with served(lambda: snapshot(next(ages))) as target, scraping(target, tmp_path) as prometheus:
        until(lambda: prometheus.value("count_over_time(graphdrl_oracle_up_seconds[1m])") >= 3)
        for panel in panels:
            for one in panel["targets"]:
                # As Grafana fills them in when all is chosen.
                expression = one["expr"].replace("$__rate_interval", "1m")
                expression = re.sub(r"\$(instance|client)", ".*", expression)
                found = prometheus.query(expression)
                assert found, f"{panel['title']}: {expression}"
                if panel["fieldConfig"]["defaults"]["unit"] == "percentunit":
                    assert all(0 <= value <= 1 for _, value in found), f"{panel['title']}: {found}"


def test_the_alarms_that_the_docs_propose_can_be_asked_and_are_not_raised_by_a_good_oracle(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "observing.md").read_text()
    alarms = re.findall(r"^\| `(.+ [=>]+ [\d.]+)` \|", page, re.MULTILINE)
    assert len(alarms) >= 4
    with served(lambda: snapshot(age=1)) as target, scraping(target, tmp_path) as prometheus:
        until(lambda: prometheus.value("count_over_time(graphdrl_oracle_up_seconds[1m])") >= 2)
        raised = [alarm for alarm in alarms if prometheus.query(alarm)]
    assert not raised


def test_prometheus_own_linter_finds_nothing_to_say() -> None:
    done = subprocess.run(
        [program("promtool"), "check", "metrics"], input=render(snapshot(1)), capture_output=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
