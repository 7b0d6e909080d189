"""`graphdrl relations`: how attributes hang together, in a folder of images or in a run that trained on some."""

from pathlib import Path
from typing import Annotated

import typer

from graphdrl.cli.own_images import Attributes, Overrides, ask_about_folder


def relations(
    folder: Annotated[str, typer.Argument(help="Folder of image files, or a run such as runs/quickstart.")],
    attributes: Attributes = "",
    out: Annotated[Path, typer.Option(help="Page to write, of a folder.")] = Path("relations.html"),
    num_images: Annotated[int, typer.Option(min=1, help="Score at most this many, chosen at random.")] = 2_000,
    size: Annotated[int, typer.Option(help="Images are cropped and resized to this side, a power of two.")] = 64,
    estimator: Annotated[str, typer.Option(help="Statistic of the edges.")] = "somers_d",
    engine: Annotated[str, typer.Option(help="vllm, or transformers: in this process.")] = "vllm",
    beliefs: Annotated[
        bool, typer.Option("--beliefs", help="Show beside it what the model believes without looking at any image.")
    ] = False,
    do: Annotated[
        bool,
        typer.Option(
            "--do",
            help="Of a run: move its model's nodes, let its oracle, in this process, grade what comes out; kept.",
        ),
    ] = False,
    overrides: Overrides = None,
) -> None:
    """Let the oracle look at a folder of images; a page says what goes with what, both ways, and how surely.

    Of a run, print what its model knows of every pair of attributes.
    """
    from graphdrl.training import Run

    run = Run(folder)
    if run.exists():
        run.fetch()
    if run.config.exists():
        from graphdrl.cli.run_relations import ask_what_is_believed, ask_what_moves, print_relations

        if beliefs:
            ask_what_is_believed(run, overrides or [])
        if do:
            ask_what_moves(run, overrides or [])
        print_relations(run)
        return
    if do:
        raise ValueError(
            f"--do moves the nodes of a trained model, and {folder} is no run: give one, or leave out --do"
        )
    _of_images(Path(folder), attributes, out, num_images, size, estimator, engine, beliefs, overrides or [])


def _of_images(
    folder: Path,
    attributes: str,
    out: Path,
    num_images: int,
    size: int,
    estimator: str,
    engine: str,
    beliefs: bool,
    overrides: list[str],
) -> None:
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
        overrides,
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
