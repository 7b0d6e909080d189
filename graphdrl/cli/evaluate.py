"""`graphdrl evaluate`: measure a run's model again."""

import json
from typing import Annotated

import typer


def evaluate(
    run: Annotated[str, typer.Argument(help="A finished run, such as runs/quickstart.")],
    dci: Annotated[
        list[str] | None,
        typer.Option(help="DCI's classifier, random_forest or gradient_boosting (minutes); may be given twice."),
    ] = None,
    features: Annotated[
        str | None,
        typer.Option(help="Measure FID and KID, by features of: oracle, or an Inception network's TorchScript FILE."),
    ] = None,
    oracle: Annotated[
        str | None,
        typer.Option(
            metavar="ENGINE",
            help="Ask the oracle what traversals and samples show, by vllm, or transformers: in this process.",
        ),
    ] = None,
    save: Annotated[bool, typer.Option("--save", help="Keep the figures in the run's summary and report.")] = False,
) -> None:
    """Measure a run's model on images that it was not trained on; prints JSON. What an option adds takes longer."""
    from rich.console import Console

    from graphdrl.config import load_config
    from graphdrl.training import Run
    from jobs import Measures, evaluate_run, keep_figures

    folder = Run(run)
    folder.fetch()
    if not folder.model.exists():
        raise ValueError(f"{run} has no trained model (model/ is missing); train one, or resume it with --resume")
    if save and not folder.summary.exists():
        raise ValueError(f"{run} has no summary.json to keep figures in; resume it with --resume, or leave out --save")
    config = load_config(folder.config, _asking(oracle))
    chosen = {"dci_backends": tuple(dci)} if dci else {}
    measures = Measures(features=features, asks=oracle is not None, **chosen)
    with Console(stderr=True, soft_wrap=True).status("loading") as status:
        figures = evaluate_run(folder, config, measures, status.update)
        if save:
            keep_figures(folder, config, figures)
    typer.echo(json.dumps(figures, indent=2))


def _asking(engine: str | None) -> list[str]:
    """Overrides that put an engine in the place of the run's."""
    if engine is None:
        return []
    return [f"oracle.engine={engine}", f"training.backend={'local' if engine == 'transformers' else 'ray'}"]
