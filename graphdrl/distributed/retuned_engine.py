"""An engine that goes on from another run's checkpoint with a learning rate of its own."""

from pathlib import Path

from torch.optim import Optimizer

from graphdrl.distributed.deepspeed_engine import DeepSpeedEngine

_SHARES = {"initial_lr": 1 / 25, "max_lr": 1.0, "min_lr": 1 / 25 / 1e4}
"""Of the peak: where torch's one-cycle schedule starts, peaks and ends."""


class RetunedEngine(DeepSpeedEngine):
    """A checkpoint brings its learning rate along; here the settings' own counts from the next step on."""

    def load(self, folder: Path) -> None:
        super().load(folder)
        set_peak(self._engine.optimizer, self._settings.learning_rate)


def set_peak(optimizer: Optimizer, learning_rate: float) -> None:
    """Give an optimiser under a one-cycle schedule another peak; where it stands in the cycle stays."""
    for group in optimizer.param_groups:
        group |= {name: learning_rate * share for name, share in _SHARES.items()}
