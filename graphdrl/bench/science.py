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
    return table_of(load_tree(PLAN, overrides, TablePlan), say, RESULTS / "science")


def table_of(plan: TablePlan, say: Say, results: Path) -> dict[str, Any]:
    """All cells of a plan, the first data set before the others; the table is written into `results`."""
    chosen = _choose(plan, say)
    cells: dict[str, dict[str, list[Cell]]] = {}
    figures: dict[str, Any] = {}
    table: dict[str, Any] = {}
    for data in plan.asked_data:
        rows = plan.asked_rows if data == plan.first_data else _elsewhere(plan, table.get(plan.first_data, {}))
        cells[data] = {row: [plan.cell(data, row, seed, chosen[row]) for seed in plan.seeds] for row in rows}
        figures |= _in_two_waves(plan, cells[data], say)
        table[data] = {
            row: spread([figures[cell.name] for cell in own])
            | {
                "images": plan.data[data].images,
                "supervision": plan.supervision(own[0]),
                "chosen": chosen[row],
                "dci_backend": figures[own[0].name]["dci_backend"],
                "seeds": len(own),
            }
            for row, own in cells[data].items()
        }
    write_table(cells, figures, table, results)
    say(f"the table lies in {results}")
    return table


def _choose(plan: TablePlan, say: Say) -> dict[str, dict[str, Any]]:
    """By row, the candidate with the best DCI-D + MIG."""
    options = {row: list(plan.choosing_cells(row)) for row in plan.asked_rows}
    cells = [cell for candidates in options.values() for _, cell in candidates]
    figures = _carried_out(plan, cells, say)
    return {
        row: max(candidates, key=lambda one: worth(figures[one[1].name]))[0] if candidates else plan.candidates(row)[0]
        for row, candidates in options.items()
    }


def _in_two_waves(plan: TablePlan, rows: dict[str, list[Cell]], say: Say) -> dict[str, Any]:
    """Figures of all cells; those whose images another row's model chooses come last."""
    cells = [cell for own in rows.values() for cell in own]
    waiting = [cell for cell in cells if cell.scores and cell.scores.chosen_by]
    first = [cell for cell in cells if cell not in waiting]
    return _carried_out(plan, first, say) | _carried_out(plan, waiting, say)


def _carried_out(plan: TablePlan, cells: list[Cell], say: Say) -> dict[str, Any]:
    return carry_out(cells, plan.folder, plan.runner, plan.at_once, say)


def _elsewhere(plan: TablePlan, rows: dict[str, Any]) -> list[str]:
    """The rows of a data set that is not the first; `rows`: those of the first."""
    everywhere = [row for row in plan.asked_rows if plan.methods[row].everywhere]
    if plan.elsewhere is None:
        return everywhere
    named = [row for row in plan.elsewhere.methods if row in everywhere]
    others = [row for row in everywhere if row not in named and row in rows]
    return [*named, *best_rows(rows, others, plan.elsewhere.best)]
