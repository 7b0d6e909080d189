"""Every method at the same images, encoder, decoder and steps, on data whose factors are correlated."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from graphdrl.bench._cells import Cell, carry_out
from graphdrl.bench._science_plan import TablePlan, best_rows, worth
from graphdrl.bench._science_table import spread, write_table
from graphdrl.bench.registry import RESULTS, Say
from graphdrl.config import load_tree

PLAN = Path("configs/science/methods.yaml")


def run(say: Say, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Figures by data set and row: mean and standard deviation over seeds, and what each row was told and set to.

    Cells that are done already are not run again: a table that was broken off goes on. overrides: of the plan's keys,
    such as `seeds=[0]`.
    """
    plan = load_tree(PLAN, overrides, TablePlan)
    table = table_of(plan, say)
    say(f"the table lies in {RESULTS / 'science'}")
    return table


def table_of(plan: TablePlan, say: Say, results: Path = RESULTS / "science") -> dict[str, Any]:
    """All cells of a plan, the first data set before the others; the table is written into `results`."""
    chosen = _choose(plan, say)
    first, *others = plan.data
    cells = [plan.cell(first, row, seed, chosen[row]) for row in plan.methods for seed in plan.seeds]
    figures = carry_out(cells, plan.folder, plan.at_once, say)
    rows = {first: _rows(plan, cells, figures, chosen)}
    for data in others:
        here = [plan.cell(data, row, seed, chosen[row]) for row in _elsewhere(plan, rows[first]) for seed in plan.seeds]
        figures |= carry_out(here, plan.folder, plan.at_once, say)
        rows[data] = _rows(plan, here, figures, chosen)
        cells += here
    write_table(cells, figures, rows, results)
    return rows


def _choose(plan: TablePlan, say: Say) -> dict[str, dict[str, Any]]:
    """By row, the candidate with the best DCI-D + MIG."""
    options = {row: list(plan.choosing_cells(row)) for row in plan.methods}
    cells = [cell for candidates in options.values() for _, cell in candidates]
    figures = carry_out(cells, plan.folder, plan.at_once, say)
    return {
        row: max(candidates, key=lambda one: worth(figures[one[1].name]))[0] if candidates else plan.candidates(row)[0]
        for row, candidates in options.items()
    }


def _elsewhere(plan: TablePlan, rows: dict[str, Any]) -> list[str]:
    if plan.elsewhere is None:
        return [row for row, method in plan.methods.items() if method.everywhere]
    named = plan.elsewhere.methods
    others = [row for row in rows if row not in named and plan.methods[row].everywhere]
    return [*named, *best_rows(rows, others, plan.elsewhere.best)]


def _rows(
    plan: TablePlan, cells: list[Cell], figures: dict[str, Any], chosen: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    rows = {}
    for row in dict.fromkeys(cell.row for cell in cells):
        own = [cell for cell in cells if cell.row == row]
        rows[row] = spread([figures[cell.name] for cell in own]) | {
            "supervision": plan.supervision(own[0]),
            "chosen": chosen[row],
            "dci_backend": figures[own[0].name]["dci_backend"],
            "seeds": len(own),
        }
    return rows
