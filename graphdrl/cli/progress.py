"""A progress bar that reads the run's own files: it shows the same for every backend, and can be killed at will."""

import logging
import threading
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.logging import RichHandler
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from graphdrl.storage import Place
from graphdrl.training import Run

_EVERY_S = 1.0


class Watch:
    """Context manager around a training run."""

    def __init__(self, folder: Place, steps: int) -> None:
        self._run = Run(folder)
        self._console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[detail]}"),
            console=self._console,
        )
        self._task = self._progress.add_task("starting", total=steps, detail="")
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def __enter__(self) -> "Watch":
        logging.basicConfig(
            level=logging.WARNING, format="%(message)s", handlers=[RichHandler(console=self._console, show_path=False)]
        )
        self._progress.start()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        self._thread.join()
        self._progress.stop()

    def say(self, text: str) -> None:
        """What the job is doing now."""
        self._progress.update(self._task, description=text)
        if not self._console.is_terminal:
            self._console.print(text)

    def show(self, summary: dict[str, Any], report: Path) -> None:
        """The run's numbers, when it has ended."""
        table = Table(show_header=False, box=None, pad_edge=False)
        for name, value in _flat(summary).items():
            table.add_row(name, f"{value:.4g}" if isinstance(value, float) else str(value))
        self._console.print(table)
        self._console.print(f"report: {report}", soft_wrap=True)

    def _follow(self) -> None:
        shown = -1
        while not self._stopped.wait(_EVERY_S):
            rows = self._run.read_metrics()
            if not rows or rows[-1]["step"] == shown:
                continue
            shown, last = rows[-1]["step"], rows[-1]
            detail = (
                f"{last['images_per_s']:.0f} images/s, {last['images_scored']:.0f} scored, "
                f"{last['oracle_queue']:.0f} waiting, relations v{last['relations_version']}"
            )
            self._progress.update(self._task, completed=shown, description="training", detail=detail)
            if not self._console.is_terminal:
                self._console.print(f"step {shown}: {detail}")


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    rows: dict[str, Any] = {}
    for name, value in tree.items():
        rows |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return rows
