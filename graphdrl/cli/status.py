"""`graphdrl serve status`: how a running oracle does."""

import math
import os
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import RenderableType

    from serve import ClientCounts, Snapshot

_APPLICATION = "oracle"
_ANSWER_WITHIN_S = 30.0
_CONNECT_WITHIN_S = 10.0
_ABSENT = "-"
_OF_QUESTIONS = ("questions", "unanswered", "queue", "p50", "p95")
_OF_ITEMS = ("from store", "joined", "asked", "malformed", "zero", "flagged")
"""Two tables, because one of all would not fit into 80 columns, and cut its numbers short."""


def status(
    address: Annotated[
        str | None, typer.Option(help="Ray cluster that the oracle runs on; none: the one in RAY_ADDRESS.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print all counts as one JSON object.")] = False,
) -> None:
    """Show how the oracle that runs on a cluster does, in sum and for each client."""
    import json
    from dataclasses import asdict

    from rich.console import Console

    snapshot = read_snapshot(address or os.environ.get("RAY_ADDRESS", ""))
    if as_json:
        typer.echo(json.dumps(asdict(snapshot)))
    else:
        Console().print(describe(snapshot))


def read_snapshot(address: str) -> "Snapshot":
    """Ask the oracle of the cluster at `address` for its counts.

    Raises RuntimeError when no address is given, when no cluster answers there, and when no oracle answers on it.
    """
    if address in ("", "local"):
        raise RuntimeError(
            "which oracle? Give --address ADDRESS, or set RAY_ADDRESS, to what `graphdrl serve oracle` printed"
        )
    _check_reachable(address)
    import logging

    from cluster import joined

    with joined(address):
        from ray import serve as ray_serve
        from ray.exceptions import RayError

        logging.getLogger("ray.serve").setLevel(logging.ERROR)  # a slow answer is none of its reader's business
        running = ray_serve.status().applications.get(_APPLICATION)
        if running is None:
            raise RuntimeError(
                f"no oracle runs on the Ray cluster at {address}: "
                f"start one with `graphdrl serve oracle --address {address}`"
            )
        if running.status == "DEPLOYING":
            raise RuntimeError(f"the oracle at {address} is still starting: ask again in a moment")
        try:
            handle = ray_serve.get_app_handle(_APPLICATION)
            return handle.snapshot.remote().result(timeout_s=_ANSWER_WITHIN_S)
        except (RayError, TimeoutError) as error:
            raise RuntimeError(
                f"the oracle at {address} does not answer (its state is {running.status}): look at its log, "
                "or stop it and start it again"
            ) from error


def _check_reachable(address: str) -> None:
    """Ray itself would go on trying for minutes."""
    import socket

    host, _, port = address.rpartition(":")
    if not host or "://" in address or not port.isdigit():
        return  # an address of Ray's own kind, such as auto
    try:
        socket.create_connection((host.strip("[]"), int(port)), _CONNECT_WITHIN_S).close()
    except OSError as error:
        raise RuntimeError(
            f"no Ray cluster answers at {address} ({error}): check the address, and whether the oracle still runs"
        ) from error


def describe(snapshot: "Snapshot") -> "RenderableType":
    """What a person reads of a snapshot: a few lines about the service, then two tables with a row a client."""
    from rich.console import Group

    rows = _rows(snapshot)
    if not rows:
        return Group(_service(snapshot), "", "nobody has asked yet")
    return Group(_service(snapshot), "", _table(rows, _OF_QUESTIONS), "", _table(rows, _OF_ITEMS))


def _service(snapshot: "Snapshot") -> "RenderableType":
    from rich.table import Table
    from rich.text import Text

    # With autoscaling there were more or fewer before: what the share is of stands beside it.
    busy = _share(snapshot.busy_s, snapshot.num_replicas * snapshot.up_s)
    busy += f" ({snapshot.busy_s:,.0f} s of {snapshot.num_replicas} x {snapshot.up_s:,.0f} s)"
    items = f"{snapshot.in_flight:,} in flight, {snapshot.stored:,} stored, {snapshot.asked_again:,} asked again"
    table = Table(show_header=False, box=None, pad_edge=False)
    for name, value in (
        ("model", snapshot.model),
        ("replicas", f"{snapshot.num_replicas}"),
        ("up", _duration(snapshot.up_s)),
        ("engines busy", busy),
        ("items", items),
        ("tokens", f"{snapshot.prompt_tokens:,} read, {snapshot.written_tokens:,} written"),
    ):
        table.add_row(name, Text(value))
    return table


def _rows(snapshot: "Snapshot") -> list[tuple[str, dict[str, str]]]:
    """Each client's name and its figures by heading; where there are several, their sum is the last."""
    from serve import ClientCounts

    # A client may wait in the queue before anything else is known of it.
    clients = sorted(snapshot.clients.keys() | snapshot.queued)
    rows = [
        (client or "(none)", _figures(snapshot.clients.get(client, ClientCounts()), snapshot.queued.get(client, 0)))
        for client in clients
    ]
    if len(snapshot.clients) > 1:
        rows.append(("all", _figures(_summed(snapshot), sum(snapshot.queued.values()))))
    return rows


def _figures(counts: "ClientCounts", queued: int) -> dict[str, str]:
    from serve import quantile_s

    return {
        "questions": f"{counts.questions:,}",
        "unanswered": f"{counts.refused + counts.late + counts.given_up + counts.failed:,}",
        "queue": f"{queued:,}",
        "p50": _latency(quantile_s(counts.latencies, 0.5)),
        "p95": _latency(quantile_s(counts.latencies, 0.95)),
        "from store": f"{counts.from_store:,}",
        "joined": f"{counts.joined:,}",
        "asked": f"{counts.asked:,}",
        "malformed": _share(counts.malformed, counts.joined + counts.asked),  # what is in the store was well-formed
        "zero": _share(counts.images_zero, counts.images),
        "flagged": _share(counts.images_flagged, counts.images),
    }


def _table(rows: list[tuple[str, dict[str, str]]], headings: tuple[str, ...]) -> "RenderableType":
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("client", overflow="fold")
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    for client, figures in rows:
        table.add_row(_name(client), *(figures[heading] for heading in headings))
    return table


def _summed(snapshot: "Snapshot") -> "ClientCounts":
    from serve import ClientCounts

    totals: dict[str, Any] = snapshot.total()
    columns = zip(*(counts.latencies for counts in snapshot.clients.values()), strict=True)
    return ClientCounts(**totals, latencies=[sum(column) for column in columns])


def _name(client: str) -> Any:
    from rich.text import Text

    # As text, not as markup, and without what moves a terminal's cursor.
    return Text("".join(letter if letter.isprintable() else "?" for letter in client))


def _share(part: float, whole: float) -> str:
    return f"{part / whole:.1%}" if whole else _ABSENT


def _latency(seconds: float) -> str:
    from serve import LATENCY_BUCKETS_S

    if math.isnan(seconds):
        return _ABSENT
    return f"{seconds:.3g} s" if math.isfinite(seconds) else f"> {LATENCY_BUCKETS_S[-1]:g} s"


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
