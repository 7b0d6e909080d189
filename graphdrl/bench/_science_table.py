"""A table of rows and seeds, for people and for programs: JSON, Parquet, Markdown and a plot of the spread."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from graphdrl.bench._cells import Cell

SHOWN = (
    "dci_d",
    "mig",
    "sap",
    "factor_vae",
    "modularity",
    "irs",
    "reconstruction_mse",
    "reconstruction_mse_correlated",
)
"""What the Markdown table and the plot have, in this order; the rest is in the Parquet file."""

_COSTS = ("parameters", "critic_parameters", "flops_per_image", "peak_memory_mib", "train_seconds", "images_trained")


def spread(figures: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Mean and standard deviation over seeds (n - 1 in the denominator; 0 for one seed) of every number."""
    names = [name for name, value in figures[0].items() if isinstance(value, int | float)]
    columns = {name: np.array([row[name] for row in figures], float) for name in names}
    ddof = min(1, len(figures) - 1)
    return {name: {"mean": float(v.mean()), "std": float(v.std(ddof=ddof))} for name, v in columns.items()}


def write_table(
    cells: Mapping[str, Mapping[str, Sequence[Cell]]],
    figures: Mapping[str, Mapping[str, Any]],
    rows: Mapping[str, Mapping[str, Any]],
    folder: Path,
) -> None:
    """Write `cells.parquet`, `table.md` and `table.svg` into `folder`.

    cells: by data set and row. figures: by the cells' names. rows: by data set and row, what `spread` says of the cells
    with `images`, `supervision` and `chosen`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    records = [
        {"data": data, "row": row, "seed": cell.seed} | dict(figures[cell.name])
        for data, methods in cells.items()
        for row, own in methods.items()
        for cell in own
    ]
    pq.write_table(pa.Table.from_pylist(records), folder / "cells.parquet")
    (folder / "table.md").write_text("\n\n".join(_markdown(data, rows[data]) for data in rows) + "\n")
    _plot(rows, folder / "table.svg")


def _markdown(data: str, rows: Mapping[str, Any]) -> str:
    """One data set: quality, then what each row was set to and what it cost."""
    quality = [["method", "supervision", *SHOWN]]
    costs = [["method", "chosen", *_COSTS]]
    for name, row in rows.items():
        quality.append([name, row["supervision"], *(_with_spread(figure, row.get(figure)) for figure in SHOWN)])
        costs.append([name, _settings(row["chosen"]), *(f"{row[figure]['mean']:,.0f}" for figure in _COSTS)])
    images = next(iter(rows.values()))["images"]
    return f"## {data}\n\n{images}\n\n{_lines(quality)}\n\n{_lines(costs)}"


def _with_spread(name: str, figure: Mapping[str, float] | None) -> str:
    digits = 5 if name.startswith("reconstruction") else 3
    return f"{figure['mean']:.{digits}f} ± {figure['std']:.{digits}f}" if figure else "-"


def _settings(chosen: Mapping[str, Any]) -> str:
    """Values by the last part of their keys, those of a whole section one by one."""
    flat = {
        name: one
        for key, value in chosen.items()
        for name, one in (value.items() if isinstance(value, Mapping) else [(key.rpartition(".")[2], value)])
    }
    return ", ".join(f"{name} {value}" for name, value in flat.items()) or "-"


def _lines(cells: list[list[str]]) -> str:
    lines = ["| " + " | ".join(row) + " |" for row in cells]
    return "\n".join([lines[0], "|" + " --- |" * len(cells[0]), *lines[1:]])


def _plot(rows: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """DCI-D and MIG of every row, with the seeds' spread, a column for each data set."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4 * len(rows), 6), layout="constrained")
    for column, (data, methods) in enumerate(rows.items()):
        for line, name in enumerate(("dci_d", "mig")):
            axes = figure.add_subplot(2, len(rows), line * len(rows) + column + 1)
            means = [row[name]["mean"] for row in methods.values()]
            axes.barh(list(methods), means, xerr=[row[name]["std"] for row in methods.values()], color="#4878a8")
            axes.invert_yaxis()
            axes.set_xlim(0, 1)
            axes.set_title(f"{data}: {'DCI-D' if name == 'dci_d' else 'MIG'}")
    figure.savefig(path)
