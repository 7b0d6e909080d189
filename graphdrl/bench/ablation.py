"""What each part of GEM is worth on correlated faces: one change a row, and the scores spoilt on purpose."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from graphdrl.bench._science_plan import TablePlan
from graphdrl.bench.registry import RESULTS, Say
from graphdrl.bench.science import table_of
from graphdrl.config import load_tree

PLAN = Path("configs/science/ablation.yaml")


def run(say: Say, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Figures by variant, as in the science table; cells that are done already are not run again."""
    (rows,) = table_of(load_tree(PLAN, overrides, TablePlan), say, RESULTS / "ablation").values()
    return rows
