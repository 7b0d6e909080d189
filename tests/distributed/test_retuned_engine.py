"""Another peak in the middle of a cycle: from there on it is as if the cycle had always had it."""

import pytest
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from graphdrl.distributed.retuned_engine import set_peak
from graphdrl.training import OptimizerSettings

STEPS = 20


def begun(peak: float) -> tuple[Optimizer, LRScheduler]:
    settings = OptimizerSettings(peak, STEPS)
    optimizer = settings.optimizer(nn.Linear(2, 2))
    return optimizer, settings.scheduler(optimizer)


@pytest.mark.parametrize("changed_at", [0, 1, 10])
def test_the_rest_of_the_cycle_has_the_new_peak(changed_at: int) -> None:
    (optimizer, schedule), (other, other_schedule) = begun(1e-3), begun(4e-3)
    for step in range(STEPS):
        if step == changed_at:
            set_peak(optimizer, 4e-3)
        optimizer.step()
        schedule.step()
        other.step()
        other_schedule.step()
        mine, theirs = (each.param_groups[0]["lr"] for each in (optimizer, other))
        assert mine == pytest.approx(theirs if step >= changed_at else theirs / 4, rel=1e-6)
