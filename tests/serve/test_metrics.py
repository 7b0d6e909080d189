"""What Prometheus reads is what the front counted, whatever clients call themselves; the dashboard asks for no more."""

import json
import math
import re
from importlib.resources import files
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from serve.counts import LATENCY_BUCKETS_S, ClientCounts, Snapshot
from serve.metrics import quantile_s, render

GREEDY = ClientCounts(
    questions=40,
    refused=5,
    late=2,
    given_up=1,
    failed=3,
    items=400,
    from_store=100,
    joined=60,
    asked=240,
    malformed=6,
    images=33,
    images_zero=4,
    images_flagged=7,
)
SMALL = ClientCounts(questions=2, items=20, asked=20, images=2)


def snapshot(clients: dict[str, ClientCounts], queued: dict[str, int] | None = None) -> Snapshot:
    return Snapshot(
        model="builtin@1",
        clients=clients,
        queued=queued or {},
        in_flight=12,
        stored=345,
        asked_again=9,
        num_replicas=2,
        prompt_tokens=6_000,
        written_tokens=700,
        busy_s=81.5,
        up_s=100.25,
    )


def samples(shown: Snapshot) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Every series of a rendered snapshot, read by Prometheus' own client; none is there twice."""
    families = text_string_to_metric_families(render(shown).decode())
    rows = [(sample.name, frozenset(sample.labels.items()), sample.value) for one in families for sample in one.samples]
    series = {(name, labels): value for name, labels, value in rows}
    assert len(series) == len(rows)
    return series


def value(shown: Snapshot, name: str, **labels: str) -> float:
    return samples(shown)[f"graphdrl_oracle_{name}", frozenset(labels.items())]


def test_every_count_of_a_client_is_exported_under_its_name():
    shown = snapshot({"greedy": GREEDY, "small": SMALL}, {"greedy": 30})
    assert value(shown, "questions_total", client="greedy") == 40
    assert value(shown, "questions_total", client="small") == 2
    for outcome, number in (("from_store", 100), ("joined", 60), ("asked", 240)):
        assert value(shown, "items_total", client="greedy", outcome=outcome) == number
    for reason, number in (("refused", 5), ("late", 2), ("given_up", 1), ("failed", 3)):
        assert value(shown, "unanswered_questions_total", client="greedy", reason=reason) == number
    assert value(shown, "malformed_items_total", client="greedy") == 6
    assert value(shown, "images_total", client="greedy") == 33
    assert value(shown, "images_zero_total", client="greedy") == 4
    assert value(shown, "images_flagged_total", client="greedy") == 7
    assert value(shown, "queued_items", client="greedy") == 30
    assert value(shown, "queued_items", client="small") == 0


def test_the_services_own_figures_are_exported():
    shown = snapshot({})
    assert value(shown, "info", model="builtin@1") == 1
    assert value(shown, "up_seconds") == 100.25
    assert value(shown, "replicas") == 2
    assert value(shown, "in_flight_items") == 12
    assert value(shown, "stored_items") == 345
    assert value(shown, "asked_again_items_total") == 9
    assert value(shown, "engine_busy_seconds_total") == 81.5
    assert value(shown, "tokens_total", kind="prompt") == 6_000
    assert value(shown, "tokens_total", kind="written") == 700


def test_latencies_become_a_cumulative_histogram():
    counts = ClientCounts()
    for seconds in (0.004, 0.01, 0.02, 3.0, 99.0):
        counts.took(seconds)
    shown = snapshot({"one": counts})
    upto = {"0.01": 2, "0.025": 3, "2.5": 3, "5.0": 4, "30.0": 4, "+Inf": 5}
    for edge, number in upto.items():
        assert value(shown, "latency_seconds_bucket", client="one", le=edge) == number
    assert value(shown, "latency_seconds_count", client="one") == 5
    assert value(shown, "latency_seconds_sum", client="one") == pytest.approx(102.034)


@pytest.mark.parametrize(
    ("client", "label"),
    [
        ('say "hi"\\n', 'say "hi"\\n'),
        ("two\nlines 1\n# TYPE forged counter", "two\nlines 1\n# TYPE forged counter"),
        ("{client=}", "{client=}"),
        ("Zoë", "Zoë"),
        ("torn \ud800", "torn ?"),
        ("", "(none)"),
    ],
)
def test_no_client_can_spoil_a_scrape_by_its_name(client: str, label: str):
    shown = snapshot({client: GREEDY, "small": SMALL}, {client: 3})
    assert value(shown, "questions_total", client=label) == 40
    assert value(shown, "queued_items", client=label) == 3
    assert value(shown, "questions_total", client="small") == 2
    assert not any("forged" in name for name, _ in samples(shown))


def test_clients_with_the_same_label_are_counted_together():
    counts = ClientCounts(questions=1)
    counts.took(0.02)
    shown = snapshot({"": counts, "(none)": counts, "a?": SMALL, "a\ud800": SMALL}, {"": 2, "(none)": 3})
    assert value(shown, "questions_total", client="(none)") == 2
    assert value(shown, "queued_items", client="(none)") == 5
    assert value(shown, "latency_seconds_bucket", client="(none)", le="0.025") == 2
    assert value(shown, "latency_seconds_sum", client="(none)") == pytest.approx(0.04)
    assert value(shown, "items_total", client="a?", outcome="asked") == 40


def test_quantiles_are_linear_within_a_bucket():
    latencies = [0] * (len(LATENCY_BUCKETS_S) + 1)
    assert math.isnan(quantile_s(latencies, 0.5))
    latencies[4] = 8  # 0.1 to 0.25 s
    latencies[6] = 2  # 0.5 to 1 s
    assert quantile_s(latencies, 0.4) == pytest.approx(0.1 + 0.15 * 4 / 8)
    assert quantile_s(latencies, 0.8) == pytest.approx(0.25)
    assert quantile_s(latencies, 0.95) == pytest.approx(0.5 + 0.5 * 1.5 / 2)
    latencies[-1] = 10
    assert quantile_s(latencies, 0.25) == pytest.approx(0.1 + 0.15 * 5 / 8)
    assert quantile_s(latencies, 0.95) == math.inf


def dashboard() -> dict:
    return json.loads((files("serve") / "grafana.json").read_text())


def test_the_dashboard_shows_all_that_is_exported_and_no_more():
    exported = {name for name, _ in samples(snapshot({"one": GREEDY}))}
    queries = [target["expr"] for panel in dashboard()["panels"] for target in panel["targets"]]
    queries += [one["definition"] for one in dashboard()["templating"]["list"] if one["type"] == "query"]
    asked = {name for query in queries for name in re.findall(r"graphdrl_oracle_\w+", query)}
    assert asked <= exported
    not_for_panels = ("_count", "_sum", "_info")
    assert {name for name in exported if not name.endswith(not_for_panels)} <= asked


def test_the_docs_name_every_metric_with_its_labels():
    page = (Path(__file__).parents[2] / "docs" / "observing.md").read_text()
    table = page[page.index("| name | labels | meaning |") :].split("\n\n")[0]
    documented = set()
    for row in table.splitlines()[2:]:
        names, labels = row.split("|")[1:3]
        documented |= {(name, label) for name in re.findall(r"\w+", names) for label in _labels(name, labels)}
    exported = {
        (re.sub("_(bucket|sum|count)$", "", name.removeprefix("graphdrl_oracle_")), label)
        for name, labels in samples(snapshot({"one": GREEDY}))
        for label in [name for name, _ in labels if name != "le"] or [""]
    }
    assert documented == exported


def _labels(name: str, cell: str) -> list[str]:
    """A cell of the docs' table: labels of all names, or `name`: and labels of that one alone."""
    words = re.findall(r"\w+", cell)
    if ":" in cell:
        return words[1:] if words[0] == name else [""]
    return words or [""]


def test_the_dashboard_has_what_grafanas_import_needs():
    shown = dashboard()
    assert shown["id"] is None, "an id belongs to the Grafana that it was exported from"
    assert {"uid", "title", "schemaVersion", "version", "time"} <= shown.keys()
    variables = {one["name"]: one for one in shown["templating"]["list"]}
    assert (variables["datasource"]["type"], variables["datasource"]["query"]) == ("datasource", "prometheus")
    panels = shown["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        assert panel["type"] in {one["id"] for one in shown["__requires"] if one["type"] == "panel"}
        assert panel["title"]
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        letters = [target["refId"] for target in panel["targets"]]
        assert len(set(letters)) == len(letters)
        for target in panel["targets"]:
            used = set(re.findall(r"\$(\w+)", target["expr"])) - {"__rate_interval"}
            assert used <= variables.keys()


def test_no_panel_lies_on_another():
    cells: set[tuple[int, int]] = set()
    for panel in dashboard()["panels"]:
        at = panel["gridPos"]
        mine = {(at["x"] + column, at["y"] + row) for column in range(at["w"]) for row in range(at["h"])}
        assert not mine & cells, panel["title"]
        assert at["x"] + at["w"] <= 24
        cells |= mine
