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
    from graphdrl.oracle.doubt import doubtful
    from graphdrl.relations import FEWEST_IMAGES, estimate, load_estimator
    from graphdrl.report import RelationsContent, write_relations_page
    from jobs import scores_of

    if _show_run(folder, overrides or [], beliefs, do):
        return
    load_estimator(estimator)  # a wrong name is said before anybody is asked
    pictures = Path(folder)
    asked = ask_about_folder(
        pictures,
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
            title=f"Relations in {pictures.name}",
            edges=estimate(scores, estimator),
            scores=scores,
            images=shown,
            facts={"folder": folder, "images_found": len(asked.images), "images_scored": len(scores)},
            skipped=asked.images.skipped,
            notes=doubtful(scores),
            beliefs=asked.beliefs,
        ),
        out,
    )
    typer.echo(out)


def _show_run(folder: str, overrides: list[str], beliefs: bool, do: bool) -> bool:
    """Ask and print what is known of a run's relations; False when the folder is no run.

    Raises ValueError when nodes are to be moved and there are none.
    """
    from graphdrl.training import Run

    run = Run(folder)
    if run.exists():
        run.fetch()
    if not run.config.exists():
        if do:
            raise ValueError(f"--do moves the nodes of a trained model, and {folder} is no run: give one, or no --do")
        return False
    from graphdrl.cli.run_relations import ask_what_is_believed, ask_what_moves, print_relations

    if beliefs:
        ask_what_is_believed(run, overrides)
    if do:
        ask_what_moves(run, overrides)
    print_relations(run)
    return True
