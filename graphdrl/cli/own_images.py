"""What `score` and `relations` have in common: a folder of images, names to ask for, and the oracle's answers."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from graphdrl.images import ImageSet
from graphdrl.oracle import Answer

Attributes = Annotated[str, typer.Option(help="What to look for, by commas: bald,beard,glasses.")]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", help="key=value of the configuration, such as oracle.model=NAME.")
]


@dataclass(frozen=True)
class Asked:
    """Images of a folder and what the oracle said of those that were chosen (`rows`)."""

    images: ImageSet
    rows: list[int]
    attributes: tuple[str, ...]
    answers: list[Answer]


def ask_about_folder(
    folder: Path,
    attributes: str,
    num_images: int,
    size: int,
    overrides: list[str],
    engine: str,
    *,
    fewest_attributes: int = 1,
    fewest_images: int = 1,
) -> Asked:
    """Read the folder, start the oracle, ask; corrupt files are skipped, counted and listed.

    Raises ValueError, before the oracle starts, when there are fewer attributes or images than the asker needs.
    """
    from rich.console import Console

    from graphdrl.config import load_config
    from graphdrl.images import prepare
    from jobs import check_attributes, open_oracle, score_images, subset

    names = tuple(dict.fromkeys(name.strip() for name in attributes.split(",") if name.strip()))
    if len(names) < fewest_attributes:
        raise ValueError(
            f"{len(names)} attributes were given and {fewest_attributes} or more are needed; "
            "name them by commas, as in --attributes bald,beard,glasses"
        )
    backend = "local" if engine == "transformers" else "ray"
    settings = [
        f"data.path={json.dumps(str(folder))}",
        f"data.image_size={size}",
        f"oracle.engine={engine}",
        f"training.backend={backend}",
    ]
    config = load_config(None, [*settings, *overrides])
    if config.oracle.engine == "none":
        raise ValueError("oracle.engine: none asks nobody, so nothing can be scored; take vllm or transformers")
    check_attributes(names, config.oracle.model)
    images = prepare("folder", {"path": folder}, None, size, config.seed, config.runs / ".data")
    rows = subset(images, num_images, config.seed)
    if len(rows) < fewest_images:
        raise ValueError(f"{len(rows)} images are too few, {fewest_images} or more are needed; give a larger folder")
    console = Console(stderr=True)
    with console.status("starting") as status, open_oracle(config, status.update) as oracle:
        answers = score_images(oracle, images.images[rows], names, config, status.update)
    console.print(f"{len(rows):,} images scored, {len(images.skipped):,} files skipped")
    return Asked(images, rows.tolist(), names, answers)
