"""`graphdrl jobs`: what runs and ran on a cluster."""

import sys
import time
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from graphdrl.cli.submit import Address, address_of, follow

if TYPE_CHECKING:
    from rich.table import Table

    from jobs import JobRow

app = typer.Typer(help="Jobs of a cluster: list them, read their logs, stop them.", no_args_is_help=True)
Job = Annotated[str, typer.Argument(metavar="ID", help="A job's id, as `graphdrl jobs list` shows it.")]


@app.command("list")
def list_jobs(address: Address = None) -> None:
    """Show all jobs that were submitted to a cluster, the newest first."""
    from rich.console import Console

    from jobs import JobServer

    rows = JobServer(address_of(address)).jobs()
    # In a pipe nothing should be cut to the width of a terminal that is not there.
    console = Console(width=None if sys.stdout.isatty() else 250)
    console.print(table(rows, time.time()) if rows else "no jobs yet")


@app.command("logs")
def logs(
    job: Job,
    address: Address = None,
    following: Annotated[
        bool, typer.Option("--follow", help="Go on until the job ends, and end with its exit code.")
    ] = False,
) -> None:
    """Print what a job has written."""
    from jobs import JobServer

    server = JobServer(address_of(address))
    if following:
        follow(server, job)
    typer.echo(server.log(job), nl=False)


@app.command("stop")
def stop(job: Job, address: Address = None) -> None:
    """Stop a job; its runs stay, and a training can be resumed from its last checkpoint."""
    from jobs import JobServer

    stopped = JobServer(address_of(address)).stop(job)
    typer.echo(f"job {job} is stopped" if stopped else f"job {job} had ended before")


def table(rows: "list[JobRow]", now_s: float) -> "Table":
    """A row a job; times are local."""
    from rich.table import Table
    from rich.text import Text

    shown = Table(box=None, pad_edge=False)
    for heading in ("id", "status", "started", "took", "submitted by", "command"):
        shown.add_column(heading, no_wrap=heading in ("id", "status", "took"), overflow="fold")
    for row in rows:
        started = datetime.fromtimestamp(row.started_s).strftime("%Y-%m-%d %H:%M") if row.started_s else "-"
        took = f"{(row.ended_s or now_s) - row.started_s:,.0f} s" if row.started_s else "-"
        cells = (row.id, row.status.lower(), started, took, row.submitted_by or "-", row.command or "-")
        # As text, not as markup, and without what moves a terminal's cursor: others may have written it.
        shown.add_row(*(Text("".join(c if c.isprintable() else "?" for c in cell)) for cell in cells))
    return shown
