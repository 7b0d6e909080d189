"""What a training loop sees of the cluster: five methods, and none of Ray."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import torch


class TrainContext(Protocol):
    """One rank among `world_size`; every method but `report` is collective: all ranks call it at the same step."""

    rank: int
    local_rank: int
    """Among the ranks of one machine, which share its disk; 0 is the first."""
    world_size: int
    device: torch.device
    resume_from: Path | None

    def begin_min(self, value: int) -> Callable[[], int]:
        """Begin to agree on the smallest value of any rank; what is returned gives it, and waits if it must."""
        ...

    def agree_any(self, flag: bool) -> bool:
        """True when it is true on any rank: all stop if one must. Also a barrier."""
        ...

    def mean(self, values: torch.Tensor) -> torch.Tensor:
        """Elementwise mean over the ranks, for the logs."""
        ...

    def report(self, metrics: dict[str, float], checkpoint: Path | None) -> None:
        """Tell whoever watches; `checkpoint` is a complete folder to resume from."""
        ...


class LocalContext:
    """A single process without a cluster: a laptop, a debugger, a bare GPU machine."""

    rank = 0
    local_rank = 0
    world_size = 1

    def __init__(self, device: torch.device | None = None, resume_from: Path | None = None) -> None:
        self.device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.resume_from = resume_from

    def begin_min(self, value: int) -> Callable[[], int]:
        return lambda: value

    def agree_any(self, flag: bool) -> bool:
        return flag

    def mean(self, values: torch.Tensor) -> torch.Tensor:
        return values

    def report(self, metrics: dict[str, float], checkpoint: Path | None) -> None:
        """Nobody watches a local run; its files say the same."""
