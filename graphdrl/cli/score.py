"""`graphdrl score`: how strongly each attribute shows in each image of a folder."""

from pathlib import Path
from typing import Annotated

import typer

from graphdrl.cli.own_images import Attributes, Overrides, ask_about_folder


def score(
    folder: Annotated[Path, typer.Argument(help="Folder of image files.")],
    attributes: Attributes,
    out: Annotated[Path, typer.Option(help="Parquet file to write.")] = Path("scores.parquet"),
    num_images: Annotated[int, typer.Option(min=1, help="Score at most this many, chosen at random.")] = 2_000,
    size: Annotated[int, typer.Option(help="Images are cropped and resized to this side, a power of two.")] = 64,
    engine: Annotated[str, typer.Option(help="vllm, or transformers: in this process.")] = "vllm",
    overrides: Overrides = None,
) -> None:
    """Ask the oracle about every image of a folder; writes one row an image, grades 0..5."""
    from graphdrl.training import write_scores
    from jobs import scores_of

    asked = ask_about_folder(folder, attributes, num_images, size, overrides or [], engine)
    names = dict(zip(asked.images.ids, asked.images.names, strict=True))
    write_scores(scores_of(asked.answers, len(asked.rows), len(asked.images)), out, names)
    typer.echo(out)
