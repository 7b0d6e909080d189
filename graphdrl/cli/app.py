"""`graphdrl`: what a person types. Commands load what they need when they run, so that `--help` answers at once."""

import os
import sys

import typer
from rich.console import Console

from graphdrl.cli import (
    bench,
    doctor,
    evaluate,
    jobs,
    oracle_eval,
    propose,
    relations,
    report,
    score,
    serve,
    submit,
    train,
    tune,
    up,
)

_INTERRUPTED = 130
"""What typer makes of Ctrl-C."""

app = typer.Typer(
    name="graphdrl",
    help="Train disentangled image models that know how their factors hang together.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.command("train")(train.train)
app.command("tune")(tune.tune)
app.command("score")(score.score)
app.command("relations")(relations.relations)
app.command("propose")(propose.propose)
app.command("evaluate")(evaluate.evaluate)
app.command("report")(report.report)
app.command("oracle-eval")(oracle_eval.oracle_eval)
app.add_typer(serve.app, name="serve")
app.command("bench")(bench.bench)
app.command("submit", context_settings=submit.SETTINGS)(submit.submit)
app.add_typer(jobs.app, name="jobs")
app.command("up")(up.up)
app.command("doctor")(doctor.doctor)


def main() -> None:
    """Run the command line; what a user can mend ends in one sentence and exit code 1."""
    # Loading a model is not worth a progress bar and a warning of transformers' own.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    try:
        app()
    except (ValueError, OSError, RuntimeError, ImportError) as error:
        if os.environ.get("GRAPHDRL_DEBUG"):
            raise
        Console(stderr=True, soft_wrap=True).print(
            f"[red]error:[/red] {_sentence(error)}", highlight=False, markup=True
        )
        sys.exit(1)
    except SystemExit as end:
        if end.code == _INTERRUPTED:
            print("stopped; `graphdrl train --resume RUN` goes on from a training's last checkpoint", file=sys.stderr)
        raise


def _sentence(error: BaseException) -> str:
    from rich.markup import escape

    text = str(error) or type(error).__name__
    return escape(text if "\n" not in text else text.strip().splitlines()[-1])
