"""`graphdrl propose`: which attributes vary in a folder of images, for whoever does not know yet what to ask for."""

from pathlib import Path
from typing import Annotated

import typer

from graphdrl.cli.own_images import Overrides, configured, read_folder


def propose(
    folder: Annotated[Path, typer.Argument(help="Folder of image files.")],
    most: Annotated[int, typer.Option(min=1, help="Propose at most this many attributes.")] = 12,
    num_images: Annotated[int, typer.Option(min=2, help="Look at this many images, chosen at random.")] = 200,
    size: Annotated[int, typer.Option(help="Images are cropped and resized to this side, a power of two.")] = 64,
    overrides: Overrides = None,
) -> None:
    """Let the oracle describe a sample of images, and grade what it says of some and not of others."""
    from rich.console import Console
    from rich.table import Table

    from graphdrl.oracle import ProposeQuestion
    from graphdrl.oracle.asking import as_answered
    from jobs import open_oracle

    config = configured(folder, size, overrides or [])
    own, aside = read_folder(config, num_images, fewest_images=2), Console(stderr=True)
    sample = own.images.images[own.rows]
    with aside.status("starting") as status, open_oracle(config, status.update) as oracle:
        status.update(f"looking at {len(sample):,} images")
        [(_, answer)] = as_answered(oracle, [ProposeQuestion(sample, most, client=config.name)])
    aside.print(f"{len(sample):,} images looked at, {len(own.images.skipped):,} files skipped")
    if not answer.attributes:
        raise ValueError(
            f"the oracle saw no attribute that varies in {len(sample)} images: show it more with --num-images, or name "
            "attributes yourself"
        )
    table = Table("attribute", "mentioned", "spread of grades", box=None, pad_edge=False)
    for name, mentioned, spread in zip(answer.attributes, answer.mentioned, answer.spread, strict=True):
        table.add_row(name, f"{mentioned:.0%} of images", f"{spread:.2f}")
    Console().print(table)
    typer.echo(f"--attributes {','.join(answer.attributes)}")
