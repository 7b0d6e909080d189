"""`graphdrl up`: a Ray cluster of several nodes on this machine, to try at home what runs on many machines."""

import os
import signal
import sys
import time
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

if TYPE_CHECKING:
    from cluster import HomeCluster

_LOOK_EVERY_S = 1.0


def up(
    nodes: Annotated[int, typer.Option(min=1, max=64, help="How many nodes, with the head.")] = 2,
    cpus_per_node: Annotated[float, typer.Option(min=0, help="CPUs that each node says it has.")] = 1,
    pools: Annotated[
        str, typer.Option(help="Pool of each node, in order: trainer,trainer,oracle is for placement=split.")
    ] = "",
    redis: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Keep there what the head knows; it may then die.")
    ] = None,
    name: Annotated[str, typer.Option(help="Of this cluster in that Redis.")] = "home",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Of the cluster; 0: a free one.")] = 6380,
    dashboard_port: Annotated[int, typer.Option(min=0, max=65535, help="Of the dashboard; 0: a free one.")] = 8265,
) -> None:
    """Run a Ray cluster of several nodes on this machine until Ctrl-C."""
    from cluster import HomeCluster

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _stop)
    named = tuple(pool.strip() for pool in pools.split(",") if pool.strip())
    if len(named) > nodes:
        raise ValueError(f"--pools names {len(named)} nodes and --nodes is {nodes}: raise it, or name fewer")
    cluster = HomeCluster(nodes, cpus_per_node, redis, name=name, pools=named, port=port, dashboard_port=dashboard_port)
    try:
        typer.echo(f"starting {nodes} nodes", err=True)
        with cluster:
            typer.echo(_welcome(cluster))
            sys.stdout.flush()
            _watch(cluster)
    except KeyboardInterrupt:
        typer.echo("the cluster has ended", err=True)


def _stop(number: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt


def _welcome(cluster: "HomeCluster") -> str:
    mode = os.environ.get("RAY_AUTH_MODE", "")
    return f"""\
The cluster is up; Ctrl-C ends it. In another terminal:

  export RAY_AUTH_MODE={mode} RAY_ADDRESS={cluster.address} RAY_API_SERVER_ADDRESS={cluster.dashboard}
  graphdrl train configs/quickstart.yaml           # from here
  graphdrl submit train configs/quickstart.yaml    # as a job of the cluster

Dashboard: {cluster.dashboard}    logs: {cluster.logs}"""


def _watch(cluster: "HomeCluster") -> NoReturn:
    """Say what dies, and start the GCS again where Redis remembers for it."""
    living = list(cluster.nodes)
    while True:
        time.sleep(_LOOK_EVERY_S)
        if not cluster.gcs_alive():
            _mend(cluster)
        for node in [node for node in living if not node.alive()]:
            living.remove(node)
            typer.echo(f"{node.name} has died; {len(living)} nodes are left", err=True)


def _mend(cluster: "HomeCluster") -> None:
    if not cluster.remembers:
        raise RuntimeError("the head's GCS has died, and the cluster with it: --redis HOST:PORT would have kept it")
    typer.echo("the head's GCS has died; starting it again", err=True)
    cluster.restart_gcs()
    typer.echo("the GCS answers again", err=True)
