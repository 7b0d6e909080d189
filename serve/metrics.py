"""The front's counts as Prometheus reads them, made anew at every scrape: nothing here is counted twice or kept."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import accumulate

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from serve.counts import LATENCY_BUCKETS_S, ClientCounts, Snapshot

_PREFIX = "graphdrl_oracle_"
_NAMELESS = "(none)"


@dataclass(frozen=True)
class _ClientCounter:
    """A counter with one series a client, or with one for each of several fields, told apart by the label `by`."""

    name: str
    text: str
    fields: tuple[str, ...]
    by: str = ""


_CLIENT_COUNTERS = (
    _ClientCounter("questions", "Questions asked.", ("questions",)),
    _ClientCounter(
        "unanswered_questions",
        "Questions that got no answer, by reason.",
        ("refused", "late", "given_up", "failed"),
        by="reason",
    ),
    _ClientCounter(
        "items",
        "Grades, pairs, beliefs and texts wanted, by where each came from: "
        "the score store, one that was in flight already (joined), or the engine (asked).",
        ("from_store", "joined", "asked"),
        by="outcome",
    ),
    _ClientCounter("malformed_items", "Items that could not be read from the model's answer.", ("malformed",)),
    _ClientCounter("images", "Images graded.", ("images",)),
    _ClientCounter("images_zero", "Graded images on which every grade rounds to 0.", ("images_zero",)),
    _ClientCounter("images_flagged", "Graded images that the model shows not to know.", ("images_flagged",)),
)


def render(snapshot: Snapshot) -> bytes:
    """A snapshot in Prometheus' text format 0.0.4; see `SnapshotCollector` for the names."""
    registry = CollectorRegistry()
    registry.register(SnapshotCollector(lambda: snapshot))
    return generate_latest(registry)


class SnapshotCollector(Collector):
    """All that a `Snapshot` says, under names that begin with graphdrl_oracle_, in seconds and items.

    read: is called once a scrape.
    A client's name is a label: what is not text in UTF-8 is replaced in it, and clients without a name share "(none)".
    """

    def __init__(self, read: Callable[[], Snapshot]) -> None:
        self._read = read

    def collect(self) -> Iterator[Metric]:
        snapshot = self._read()
        yield from _of_the_service(snapshot)
        yield _queued(snapshot)
        clients = _by_label(snapshot.clients)
        for counter in _CLIENT_COUNTERS:
            yield _counter(counter, clients)
        yield _latency(clients)


def quantile_s(latencies: list[int], quantile: float) -> float:
    """Seconds within which this share of the questions was answered, read off the buckets of `ClientCounts`.

    As Prometheus' histogram_quantile, linear within a bucket; but infinite where it lies beyond the last edge, and NaN
    where nothing was answered yet.
    """
    rank = quantile * sum(latencies)
    if rank == 0:
        return math.nan
    below, edge = 0, 0.0
    for upper, count in zip(LATENCY_BUCKETS_S, latencies, strict=False):
        if count and below + count >= rank:
            return edge + (upper - edge) * (rank - below) / count
        below, edge = below + count, upper
    return math.inf


def _of_the_service(snapshot: Snapshot) -> Iterator[Metric]:
    info = GaugeMetricFamily(f"{_PREFIX}info", "Which model answers; always 1.", labels=["model"])
    info.add_metric([_label(snapshot.model)], 1)
    tokens = CounterMetricFamily(f"{_PREFIX}tokens", "Tokens that the engines read and wrote.", labels=["kind"])
    tokens.add_metric(["prompt"], snapshot.prompt_tokens)
    tokens.add_metric(["written"], snapshot.written_tokens)
    yield from (info, tokens)
    for name, text, value in (
        ("up_seconds", "Since the front was made.", snapshot.up_s),
        ("replicas", "Engines.", snapshot.num_replicas),
        ("in_flight_items", "Items that the engines have now.", snapshot.in_flight),
        ("stored_items", "Items in the score store.", snapshot.stored),
    ):
        yield GaugeMetricFamily(_PREFIX + name, text, value)
    for name, text, value in (
        ("asked_again_items", "Items asked once more because their engine was lost.", snapshot.asked_again),
        ("engine_busy_seconds", "In which engines computed, summed over replicas.", snapshot.busy_s),
    ):
        yield CounterMetricFamily(_PREFIX + name, text, value)


def _queued(snapshot: Snapshot) -> Metric:
    queued: defaultdict[str, int] = defaultdict(int)
    # A client whose queue is empty stays in sight with a 0.
    for client in (*snapshot.clients, *snapshot.queued):
        queued[_label(client)] += 0
    for client, num_items in snapshot.queued.items():
        queued[_label(client)] += num_items
    family = GaugeMetricFamily(f"{_PREFIX}queued_items", "Items that wait for their turn.", labels=["client"])
    for label, num_items in queued.items():
        family.add_metric([label], num_items)
    return family


def _counter(counter: _ClientCounter, clients: dict[str, list[ClientCounts]]) -> Metric:
    labels = ["client", counter.by] if counter.by else ["client"]
    family = CounterMetricFamily(_PREFIX + counter.name, counter.text, labels=labels)
    for client, group in clients.items():
        for field in counter.fields:
            values = [client, field] if counter.by else [client]
            family.add_metric(values, sum(getattr(counts, field) for counts in group))
    return family


def _latency(clients: dict[str, list[ClientCounts]]) -> Metric:
    text = "From a question's arrival to its answer."
    family = HistogramMetricFamily(f"{_PREFIX}latency_seconds", text, labels=["client"])
    edges = [*map(str, LATENCY_BUCKETS_S), "+Inf"]
    for client, group in clients.items():
        upto = accumulate(map(sum, zip(*(counts.latencies for counts in group), strict=True)))
        seconds = sum(counts.seconds for counts in group)
        family.add_metric([client], list(zip(edges, upto, strict=True)), seconds)
    return family


def _by_label(clients: dict[str, ClientCounts]) -> dict[str, list[ClientCounts]]:
    """Clients whose names make the same label are one series: two would spoil the whole scrape."""
    groups: dict[str, list[ClientCounts]] = {}
    for client, counts in clients.items():
        groups.setdefault(_label(client), []).append(counts)
    return groups


def _label(name: str) -> str:
    return name.encode("utf-8", "replace").decode() or _NAMELESS
