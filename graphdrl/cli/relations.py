"""`graphdrl relations`: how the attributes of a folder of images hang together; no model is trained."""

from pathlib import Path
from typing import Annotated

import typer

from graphdrl.cli.own_images import Attributes, Overrides, ask_about_folder


def relations(
    folder: Annotated[Path, typer.Argument(help="Folder of image files.")],
    attributes: Attributes,
    out: Annotated[Path, typer.Option(help="Page to write.")] = Path("relations.html"),
    num_images: Annotated[int, typer.Option(min=1, help="Score at most this many, chosen at random.")] = 2_000,
    size: Annotated[int, typer.Option(help="Images are cropped and resized to this side, a power of two.")] = 64,
    estimator: Annotated[str, typer.Option(help="Statistic of the edges.")] = "somers_d",
    engine: Annotated[str, typer.Option(help="vllm, or transformers: in this process.")] = "vllm",
    beliefs: Annotated[
        bool, typer.Option("--beliefs", help="Show beside it what the model believes without looking at any image.")
    ] = False,
    overrides: Overrides = None,
) -> None:
    """Let the oracle look at a folder of images; a page says what goes with what, both ways, and how surely."""
    from graphdrl.oracle.doubt import doubtful
    from graphdrl.relations import FEWEST_IMAGES, estimate, load_estimator
    from graphdrl.report import RelationsContent, write_relations_page
    from jobs import scores_of

    load_estimator(estimator)  # a wrong name is said before anybody is asked
    asked = ask_about_folder(
        folder,
        attributes,
        num_images,
        size,
        overrides or [],
        engine,
        fewest_attributes=2,
        fewest_images=FEWEST_IMAGES,
        beliefs=beliefs,
    )
    scores = scores_of(asked.answers, len(asked.rows), len(asked.images))
    shown = {asked.images.ids[row]: asked.images.images[row] for row in asked.rows}
    write_relations_page(
        RelationsContent(
            title=f"Relations in {folder.name}",
            edges=estimate(scores, estimator),
            scores=scores,
            images=shown,
            facts={"folder": str(folder), "images_found": len(asked.images), "images_scored": len(scores)},
            skipped=asked.images.skipped,
            notes=doubtful(scores),
            beliefs=asked.beliefs,
        ),
        out,
    )
    typer.echo(out)
