"""`graphdrl evaluate`: measure a run's model again."""

import json
from typing import Annotated

import typer


def evaluate(run: Annotated[str, typer.Argument(help="A finished run, such as runs/quickstart.")]) -> None:
    """Measure disentanglement and reconstruction of a run's model on independently drawn images; prints JSON."""
    from graphdrl.config import load_config
    from graphdrl.models import GEM
    from graphdrl.training import Run
    from jobs import held_out_images, measured

    folder = Run(run)
    folder.fetch()
    if not folder.model.exists():
        raise ValueError(f"{run} has no trained model (model/ is missing); train one, or resume it with --resume")
    config = load_config(folder.config)
    test = held_out_images(config)
    if test is None:
        raise ValueError(
            f"nobody knows the factors of {config.data.source} images, so there is nothing to measure against"
        )
    typer.echo(json.dumps(measured(GEM.from_pretrained(folder.model), config, test), indent=2))
