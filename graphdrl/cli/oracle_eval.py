"""`graphdrl oracle-eval`: how good a multimodal model is at grading images, on images whose grades are known."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from graphdrl.cli.own_images import Overrides

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from graphdrl.oracle.evaluation import AttributeQuality, Quality
    from jobs import Evaluated

_RANK = {
    "continuum": "Spearman",
    "grades": "Concordance",
    "presence": "ROC area",
}


def oracle_eval(
    sets: Annotated[
        list[str],
        typer.Argument(
            metavar="SET...", help="faces, avatars:STYLE, photographs (no labels), or a folder with a labels.csv."
        ),
    ],
    attributes: Annotated[str, typer.Option(help="Only these labels, by commas; all by default.")] = "",
    num_images: Annotated[int, typer.Option(min=1, help="Of each set, chosen at random.")] = 2_000,
    size: Annotated[int, typer.Option(help="Images are cropped and resized to this side, a power of two.")] = 64,
    engine: Annotated[str, typer.Option(help="vllm, or transformers: in this process.")] = "vllm",
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures there.")] = None,
    save: Annotated[
        Path | None,
        typer.Option(
            help="Write the calibration there, with these sets as gold sets; "
            "calibration/scores.json in the model's folder is found by itself."
        ),
    ] = None,
    overrides: Overrides = None,
) -> None:
    """Score labelled images: accuracy, rank agreement, calibration, confusion, and whether the oracle knows them."""
    from rich.console import Console

    from graphdrl.config import load_config
    from jobs import check_attributes, evaluate_oracle, labelled_images

    backend = "local" if engine == "transformers" else "ray"
    config = load_config(None, [f"oracle.engine={engine}", f"training.backend={backend}", *(overrides or [])])
    if config.oracle.engine == "none":
        raise ValueError("oracle.engine: none asks nobody, so nothing can be evaluated; take vllm or transformers")
    labelled = [labelled_images(spec, num_images, size, config.seed) for spec in dict.fromkeys(sets)]
    names = [name.strip() for name in attributes.split(",") if name.strip()]
    if names:
        check_attributes(names, config.oracle.model)
        unknown = sorted(set(names) - {name for one in labelled for name in one.attributes})
        if unknown:
            raise ValueError(f"none of these sets has labels of {unknown[0]!r}: leave it out of --attributes")
        labelled = [one.only(names) for one in labelled]
    for one in labelled:
        check_attributes(one.attributes, config.oracle.model)
    aside, console = Console(stderr=True), Console()
    with aside.status("starting") as status:
        outcome, calibration = evaluate_oracle(labelled, config, status.update)
    for evaluated in outcome:
        _show(evaluated, console)
    for one in labelled:
        if one.skipped:
            name, reason = one.skipped[0]
            aside.print(f"{len(one.skipped):,} files of {one.name} skipped, such as {name}: it {reason}")
    if json_file is not None:
        json_file.write_text(json.dumps({each.name: _figures(each) for each in outcome}, indent=2) + "\n")
        typer.echo(json_file)
    if save is not None:
        if calibration is None:
            raise ValueError("these sets are too small for a calibration: give one of 70 labelled images or more")
        calibration.save(save)
        typer.echo(save)


def _figures(one: "Evaluated") -> dict[str, Any]:
    doubt = None if one.doubt is None else vars(one.doubt) | {"doubtful": one.doubt.doubtful}
    return {"quality": None if one.quality is None else one.quality.to_json(), "doubt": doubt}


def _show(one: "Evaluated", console: "Console") -> None:
    console.print(f"\n[bold]{one.name}[/bold], {one.num_images:,} images", highlight=False)
    if one.quality is not None:
        console.print(_quality_table(one.quality))
        malformed = f", {one.quality.malformed:.2%} of the answers malformed" if one.quality.malformed else ""
        console.print(f"zero-scoring rate {one.quality.zero_scoring_rate:.2%}{malformed}", highlight=False)
        if one.quality.labels != "presence":
            console.print("\nGiven grade (columns) of each true grade (rows), in % of the row:")
            console.print(_confusion_table(one.quality))
    if one.doubt is not None:
        console.print(one.doubt.verdict, highlight=False, soft_wrap=True)


def _quality_table(quality: "Quality") -> "Table":
    from rich.table import Table

    from graphdrl.oracle.evaluation import FIGURES

    table = Table(box=None, pad_edge=False)
    table.add_column("attribute")
    for name in ("images", "present or absent", "exact grade", _RANK[quality.labels], "ECE", "ECE present"):
        table.add_column(name, justify="right")
    for name, one in quality.by_attribute.items():
        table.add_row(name, f"{one.num:,}", *_cells([getattr(one, figure) for figure in FIGURES]))
    table.add_row("[bold]average[/bold]", "", *_cells([quality.average(figure) for figure in FIGURES]))
    return table


def _cells(values: Sequence[float | None]) -> list[str]:
    """Accuracies in per cent, the other figures as they are."""
    accuracies, others = values[:2], values[2:]
    return [
        *("-" if value is None else f"{value:.1%}" for value in accuracies),
        *("-" if value is None else f"{value:.3f}" for value in others),
    ]


def _confusion_table(quality: "Quality") -> "Table":
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("attribute")
    table.add_column("true", justify="right")
    grades = range(len(next(iter(quality.by_attribute.values())).confusion))
    for name in (*map(str, grades), "images"):
        table.add_column(name, justify="right")
    for name, one in quality.by_attribute.items():
        for row, cells in enumerate(_confusion_rows(one)):
            table.add_row(name if not row else "", *cells)
    return table


def _confusion_rows(one: "AttributeQuality") -> list[list[str]]:
    """A row of cells for each true grade that some image has."""
    rows = []
    for grade, counts in enumerate(one.confusion):
        if counts.any():
            shares = counts / counts.sum()
            rows.append(
                [str(grade), *(f"{100 * share:.0f}" if share else "." for share in shares), f"{counts.sum():,}"]
            )
    return rows
