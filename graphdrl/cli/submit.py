"""`graphdrl submit`: a command of graphdrl, run on a cluster."""

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

if TYPE_CHECKING:
    from jobs import JobServer

SUBMITTABLE = ("train", "tune", "score", "relations", "evaluate", "bench")
"""Commands that do work; the others look at what is here."""

RUNS = "~/graphdrl-runs"
"""Where a cluster keeps what jobs leave. A job works in a folder of Ray's, which is thrown away some time after it."""

SETTINGS = {"ignore_unknown_options": True}
"""A submitted command's own options are not ours to know."""

Address = Annotated[
    str | None, typer.Option(help="The cluster's dashboard, http://HOST:8265; none: RAY_API_SERVER_ADDRESS.")
]


def submit(
    words: Annotated[
        list[str], typer.Argument(metavar="COMMAND [ARGS]...", help="What to run, with its own arguments and options.")
    ],
    address: Address = None,
    wait: Annotated[bool, typer.Option(" /--no-wait", help="Print the job's id and return at once.")] = True,
    runs: Annotated[
        str, typer.Option(help="Folder on the cluster that is the job's runs/; several nodes must all see it.")
    ] = RUNS,
) -> None:
    """Run a command of graphdrl on a cluster, with the files of this folder; follow its log, and end as it ends."""
    arguments = on_cluster(words)
    from jobs import JobServer, check_package, left_behind, new_id

    here = Path.cwd()
    server = JobServer(address_of(address))
    for name in left_behind(arguments, here, check_package(here)):
        typer.echo(f"note: {name} is here, but is not packaged (docs/jobs.md lists what is not)", err=True)
    job = new_id(arguments)
    server.submit(keeping(arguments, job), here, job, runs)
    if not wait:
        typer.echo(job)
        return
    typer.echo(
        f"job {job} goes to {server.address}, its runs to {runs} there; Ctrl-C stops following it, not the job",
        err=True,
    )
    follow(server, job)


def address_of(given: str | None) -> str:
    """The address on the command line, or else in the environment; empty where there is none."""
    return given or os.environ.get("RAY_API_SERVER_ADDRESS", "")


def on_cluster(words: list[str]) -> list[str]:
    """The words of a command that can be submitted; raises ValueError for others, and typer's error for wrong options.

    Addresses with credentials in them are refused as well.

    A file that the command would write to where it runs is named by `--out FILE` at the end, also when nobody asked for
    another name than the usual: `keeping` gives it a place that outlives the job.
    """
    from difflib import get_close_matches

    from graphdrl.cli.app import app

    commands: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    name, *rest = words
    known = [command for command in SUBMITTABLE if command in commands]
    if name not in known:
        near = get_close_matches(name, known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"{name!r} cannot be submitted{hint} (these can: {', '.join(known)})")
    with commands[name].make_context(f"graphdrl {name}", list(rest)) as context:
        out = context.params.get("out")
    _refuse_credentials(rest)
    return [*words, "--out", str(out)] if out is not None and not Path(out).is_absolute() else words


def _refuse_credentials(words: list[str]) -> None:
    """A job's command is shown to whoever lists the cluster's jobs."""
    from graphdrl.storage import place

    for word in words:
        key, _, value = word.partition("=")
        address = word if "://" in key else value
        if "://" in address:
            place(address)


def keeping(arguments: list[str], job: str) -> list[str]:
    """The arguments with a relative `--out FILE` as a file of the job's own folder below `runs/`."""
    if arguments[-2:-1] != ["--out"] or Path(arguments[-1]).is_absolute():
        return arguments
    return [*arguments[:-1], f"runs/{job}/{Path(arguments[-1]).name}"]


def follow(server: "JobServer", job: str) -> NoReturn:
    """Show the job's log until it ends, then end with its exit code; on Ctrl-C say how to go on, and end by it."""
    try:
        end = server.follow(job, _write)
    except KeyboardInterrupt:
        again = f"{job} --address {server.address}"
        typer.echo(
            f"no longer following; the job goes on (`graphdrl jobs logs {again} --follow` follows it again, "
            f"`graphdrl jobs stop {again}` stops it)",
            err=True,
        )
        # To end by the signal, as a shell expects it of whom it interrupts: a script then does not go on either.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
        raise
    if end.message:
        typer.echo(end.message, err=True)
    typer.echo(f"job {job}: {end.status.lower()}", err=True)
    raise typer.Exit(end.exit_code)


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
