"""What a table of methods consists of, from configs/science: its cells, and how its settings are chosen."""

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from itertools import product
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from graphdrl.bench._cell_scores import ScoresSettings
from graphdrl.bench._cells import Cell, Runner
from graphdrl.config import set_value

Tree = dict[str, Any]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DataPlan(_Section):
    """One data set."""

    images: str = Field(description="what its images are, for the reader of the table")
    config: Tree = Field(description="keys and values of a run's configuration")
    scores: ScoresSettings = Field(default_factory=ScoresSettings, description="where its scores come from")


class MethodPlan(_Section):
    """One row."""

    supervision: str = Field(
        "{num_scored} scored images", description="what the method is told beside the images; {num_scored} is filled in"
    )
    method: str | None = Field(None, description="the method's name, where the row has another")
    everywhere: bool = Field(True, description="false: it needs what only the first data set has, pairs or a graph")
    scored: bool = Field(False, description="whether it sees scored images")
    config: Tree = Field(default_factory=dict, description="keys and values of a run's configuration")
    scores: Tree = Field(default_factory=dict, description="what is done to the scores, over those of the data")
    same_as: str | None = Field(None, description="the row whose cells are this one's as well")
    choose: dict[str, list[Any]] = Field(default_factory=dict, description="by dotted key, the values to choose from")


class Choosing(_Section):
    """On what settings are chosen; never on a row of the table."""

    data: str
    seed: int


class Elsewhere(_Section):
    """The rows of the other data sets."""

    methods: list[str]
    best: int = Field(0, ge=0, description="so many more, the best of the first data set")


class TablePlan(_Section):
    """A whole table, or what is asked for of it."""

    folder: Path
    seeds: list[int]
    choosing: Choosing | None = None
    runner: Runner = Field("processes", description="processes: of this machine, without Ray; ray: tasks of a cluster")
    at_once: int = Field(2, ge=1, description="runner processes: cells side by side, a thread each")
    config: Tree
    scored: Tree = Field(description="what is different for methods that see scored images")
    set_to: dict[str, Tree] = Field(default_factory=dict, description="by method's name, what is different for it")
    data: dict[str, DataPlan]
    methods: dict[str, MethodPlan]
    elsewhere: Elsewhere | None = None
    rows: list[str] = Field(default_factory=list, description="only these rows; empty: all")
    on: list[str] = Field(default_factory=list, description="only these data sets; empty: all")

    @model_validator(mode="after")
    def _known(self) -> "TablePlan":
        for named, known, what in ((self.rows, self.methods, "rows"), (self.on, self.data, "data sets")):
            if strangers := [name for name in named if name not in known]:
                raise ValueError(f"unknown {what} {', '.join(strangers)}; there are: {', '.join(known)}")
        return self

    @property
    def first_data(self) -> str:
        """The data set that has all rows, also those that no other one can have."""
        return next(iter(self.data))

    @property
    def asked_rows(self) -> list[str]:
        """The rows to fill, in the order of the plan."""
        return [row for row in self.methods if not self.rows or row in self.rows]

    @property
    def asked_data(self) -> list[str]:
        """The data sets to train on, in the order of the plan."""
        return [data for data in self.data if not self.on or data in self.on]

    def cell(self, data: str, row: str, seed: int, chosen: Mapping[str, Any]) -> Cell:
        """The cell of a row of a data set, under chosen settings."""
        row = self.methods[row].same_as or row
        method, images = self.methods[row], self.data[data]
        config = deepcopy(self.config)
        name = method.method or row
        scored = [self.scored] if method.scored else []
        for tree in [*scored, images.config, self.set_to.get(name, {}), method.config]:
            merge(config, tree)
        config["method"] = name
        for key, value in chosen.items():
            set_value(config, key, value)
        scores = images.scores.model_copy(update=method.scores) if method.scored else None
        return Cell(data, row, seed, config, scores)

    def candidates(self, row: str) -> list[dict[str, Any]]:
        """All combinations of the settings that a row chooses from; one empty one where there is nothing to choose."""
        options = self.methods[row].choose
        return [dict(zip(options, values, strict=True)) for values in product(*options.values())]

    def choosing_cells(self, row: str) -> Iterator[tuple[dict[str, Any], Cell]]:
        """The candidates of a row with the cells that decide among them; none where nothing is to be chosen."""
        candidates = self.candidates(row)
        if self.choosing is None or len(candidates) < 2:
            return
        for number, chosen in enumerate(candidates):
            cell = self.cell(self.choosing.data, row, self.choosing.seed, chosen)
            yield chosen, Cell(cell.data, f"{row}-{number}", cell.seed, cell.config, cell.scores)

    def supervision(self, cell: Cell) -> str:
        """What the method of this cell is told beside the images."""
        num_scored = cell.resolved(self.folder).oracle.num_scored
        return self.methods[cell.row].supervision.format(num_scored=f"{num_scored:,}")


def merge(tree: Tree, other: Mapping[str, Any]) -> None:
    """Put the keys of `other` into `tree`, section by section."""
    for key, value in other.items():
        if isinstance(value, Mapping) and isinstance(tree.get(key), dict):
            merge(tree[key], value)
        else:
            tree[key] = deepcopy(value)


def best_rows(figures: Mapping[str, Mapping[str, Any]], among: Sequence[str], num: int) -> list[str]:
    """The rows that did best by DCI-D + MIG, means over seeds, the best first."""
    return sorted(among, key=lambda row: -worth({name: figures[row][name]["mean"] for name in ("dci_d", "mig")}))[:num]


def worth(figures: Mapping[str, float]) -> float:
    """By what settings and rows are chosen."""
    return figures["dci_d"] + figures["mig"]
