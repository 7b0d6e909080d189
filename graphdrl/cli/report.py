"""`graphdrl report`: write a run's page again."""

from typing import Annotated

import typer


def report(run: Annotated[str, typer.Argument(help="A finished run, such as runs/quickstart.")]) -> None:
    """Write report.html again from what lies in the run's folder."""
    from graphdrl.config import load_config
    from graphdrl.training import Run
    from jobs import known_relations, write_run_report

    folder = Run(run)
    folder.fetch()
    if not folder.summary.exists():
        raise ValueError(f"{run} is not a finished run (it has no summary.json); train one, or resume it with --resume")
    write_run_report(folder, known_relations(load_config(folder.config)))
    folder.upload()
    typer.echo(folder.report)
