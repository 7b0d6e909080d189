"""What `score`, `relations` and `propose` have in common: a folder of images, and the oracle's answers about them."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from graphdrl.images import ImageSet
from graphdrl.oracle import Answer, Oracle, RelateAnswer

if TYPE_CHECKING:
    from rich.console import Console

    from graphdrl.config import Config

Attributes = Annotated[str, typer.Option(help="What to look for, by commas: bald,beard,glasses.")]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", help="key=value of the configuration, such as oracle.model=NAME.")
]

NO_COMMONSENSE = (
    "the built-in model learnt to see and has no commonsense to be asked for; name another model in oracle.model"
)


@dataclass(frozen=True)
class OwnFolder:
    """The images of a folder that could be read, those that were chosen of them (`rows`), and the configuration."""

    config: "Config"
    images: ImageSet
    rows: list[int]


@dataclass(frozen=True)
class Asked:
    """Images of a folder and what the oracle said of those that were chosen (`rows`).

    beliefs: what its model thinks of the attributes without looking; None where it was not asked or had none.
    """

    images: ImageSet
    rows: list[int]
    attributes: tuple[str, ...]
    answers: list[Answer]
    beliefs: RelateAnswer | None = None


def configured(folder: Path, size: int, overrides: list[str], engine: str = "vllm") -> "Config":
    """The configuration of a command on one folder; raises ValueError when nobody would be asked."""
    from graphdrl.config import load_config

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
    return config


def read_folder(config: "Config", num_images: int, fewest_images: int = 1) -> OwnFolder:
    """Read the folder, choose at most `num_images`; corrupt files are skipped, counted and listed.

    Raises ValueError when fewer than `fewest_images` are left.
    """
    from graphdrl.images import prepare
    from jobs import subset

    data = config.data
    images = prepare("folder", {"path": data.path}, None, data.image_size, config.seed, config.runs / ".data")
    rows = subset(images, num_images, config.seed)
    if len(rows) < fewest_images:
        raise ValueError(f"{len(rows)} images are too few, {fewest_images} or more are needed; give a larger folder")
    return OwnFolder(config, images, rows.tolist())


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
    beliefs: bool = False,
) -> Asked:
    """Read the folder, start the oracle, ask for grades and, if wanted, for beliefs.

    Raises ValueError, before the oracle starts, when there are fewer attributes or images than the asker needs.
    """
    from rich.console import Console

    from jobs import check_attributes, open_oracle, score_images

    names = tuple(dict.fromkeys(name.strip() for name in attributes.split(",") if name.strip()))
    if len(names) < fewest_attributes:
        raise ValueError(
            f"{len(names)} attributes were given and {fewest_attributes} or more are needed; "
            "name them by commas, as in --attributes bald,beard,glasses"
        )
    config = configured(folder, size, overrides, engine)
    check_attributes(names, config.oracle.model)
    own, console, held = read_folder(config, num_images, fewest_images), Console(stderr=True, soft_wrap=True), None
    with console.status("starting") as status, open_oracle(config, status.update) as oracle:
        answers = score_images(oracle, own.images.images[own.rows], names, config, status.update)
        if beliefs:
            status.update("asking what the model believes")
            held = _beliefs(oracle, names, config, console)
    console.print(f"{len(own.rows):,} images scored, {len(own.images.skipped):,} files skipped")
    return Asked(own.images, own.rows, names, answers, held)


def _beliefs(oracle: Oracle, attributes: tuple[str, ...], config: "Config", console: "Console") -> RelateAnswer | None:
    """What the model believes; one that has nothing to say is no reason to lose the scores, so that is only told."""
    from graphdrl.oracle import OracleError, RelateQuestion
    from graphdrl.oracle.asking import as_answered
    from graphdrl.oracle.identity import BUILTIN

    if config.oracle.model == BUILTIN:
        console.print(f"no beliefs on the page: {NO_COMMONSENSE}", highlight=False)
        return None
    try:
        [(_, answer)] = as_answered(oracle, [RelateQuestion(attributes, client=config.name)])
    except OracleError as error:
        console.print(f"no beliefs on the page: {error}", markup=False, highlight=False)
        return None
    return answer
