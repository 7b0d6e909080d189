"""`graphdrl tune`: a search over any keys of a run's configuration."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from graphdrl.cli.configs import split_words

if TYPE_CHECKING:
    from jobs import Searched

_ROWS = 5


def tune(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[SEARCH.yaml] [key=value]...",
            help="A search, and values that override it (num_trials=4) or the run that it searches around.",
        ),
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(help="Go on with the search in this folder, which must be one of your own.")
    ] = None,
) -> None:
    """Try many configurations of a run on the same scores; leaves runs/NAME with a leaderboard and the best model."""
    from graphdrl.config import load_search
    from jobs import begin_search, resume_search
    from jobs import tune as carry_out

    started = time.time()
    path, overrides = split_words(words)
    if resume is not None:
        if path or overrides:
            raise ValueError("--resume goes on with the search's own search.yaml; leave out the search and overrides")
        start = resume_search(resume)
    else:
        if path is None:
            raise ValueError("which search? Give a file such as configs/tune/learning_rate.yaml")
        start = begin_search(load_search(path, overrides))
    _show(carry_out(start, started, lambda text: typer.echo(text, err=True)))


def _show(searched: "Searched") -> None:
    """The head of the leaderboard, and where the rest lies."""
    report = searched.report
    lines = (searched.folder / "leaderboard.md").read_text().splitlines()
    table = [line for line in lines if line.startswith("|")]
    typer.echo("\n".join(table[: 2 + _ROWS]), err=True)
    typer.echo(f"{report.questions_asked:,} grades asked of the oracle for {len(report.rows)} trials", err=True)
    if searched.best is not None:
        typer.echo(f"best model: {searched.best.run.folder}", err=True)
    typer.echo(f"report: {searched.page}", err=True)
