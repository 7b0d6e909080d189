"""What is written down of a trial beside its run: its values, its figures at every checkpoint, how it ended."""

import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from graphdrl.training import append_line, write_atomically


@dataclass
class TrialRecord:
    """`trial.json` and `rungs.jsonl` of a trial's folder.

    status: running, finished, stopped or failed. seconds: spent on it so far, over all restarts.
    """

    folder: Path
    values: dict[str, Any] = field(default_factory=dict)
    status: str = "running"
    error: str = ""
    seconds: float = 0.0
    _since: float = field(default_factory=time.monotonic, repr=False)

    @classmethod
    def read(cls, folder: Path) -> "TrialRecord | None":
        path = folder / "trial.json"
        return cls(folder, **json.loads(path.read_text())) if path.exists() else None

    def keep(self, **changes: Any) -> None:
        """Write it down, changed."""
        for name, value in changes.items():
            setattr(self, name, value)
        now = time.monotonic()
        self.seconds, self._since = round(self.seconds + now - self._since, 3), now
        self.write()

    def write(self) -> None:
        names = ("values", "status", "error", "seconds")
        write_atomically(self.folder / "trial.json", json.dumps({name: getattr(self, name) for name in names}))

    def add_rung(self, figures: dict[str, float]) -> None:
        append_line(self.folder / "rungs.jsonl", figures)

    def rungs(self) -> list[dict[str, float]]:
        """Figures by step; those of steps that were done again count as they were the last time."""
        path, rows = self.folder / "rungs.jsonl", list[dict[str, float]]()
        for line in path.read_text().splitlines() if path.exists() else ():
            figures = json.loads(line)
            rows = [*(row for row in rows if row["step"] < figures["step"]), figures]
        return rows
