"""`graphdrl bench NAME`: every figure that the project claims, measured again."""

from typing import Annotated

import typer


def bench(
    name: Annotated[str, typer.Argument(help="Which benchmark; an unknown name lists them.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="For tables: keys of their plan in configs/science, as in seeds=[0].")
    ] = None,
    save: Annotated[bool, typer.Option("--save", help="Keep the figures in docs/results/NAME.json.")] = False,
) -> None:
    """Run a benchmark; the last line is one JSON object of its figures."""
    import json

    from graphdrl.bench import load_bench, save_figures

    figures = load_bench(name, overrides or ())(lambda text: typer.echo(text, err=True))
    if save:
        typer.echo(f"saved to {save_figures(name, figures, overrides or ())}", err=True)
    typer.echo(json.dumps(figures))
