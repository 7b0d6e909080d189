"""Where metrics over time go: a plain file and TensorBoard, one small class each."""

from pathlib import Path
from typing import Protocol

from graphdrl.training.runs import append_line


class Logger(Protocol):
    def log(self, step: int, values: dict[str, float]) -> None: ...

    def close(self) -> None: ...


class JsonLines:
    """One JSON object a line: `{"step": 100, "rank": 0.31, ...}`."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def log(self, step: int, values: dict[str, float]) -> None:
        append_line(self._path, {"step": step, **values})

    def close(self) -> None:
        """Every line is on disk already."""


class TensorBoard:
    """Scalars for `tensorboard --logdir runs`."""

    def __init__(self, folder: Path) -> None:
        # TensorBoard takes seconds to import, and only rank 0 writes.
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder))

    def log(self, step: int, values: dict[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()
