"""Who computes where, decided from numbers alone."""

import pytest

from graphdrl.distributed.placement import Placement, place


@pytest.mark.parametrize(
    ("num_workers", "num_gpus", "use_gpu", "engines", "expected"),
    [
        (2, 0, None, 1, Placement(2, 0.0, 0.0)),
        (2, 8, False, 1, Placement(2, 0.0, 0.0)),
        (2, 3, None, 1, Placement(2, 1.0, 1.0)),
        (2, 1, None, 1, Placement(1, 0.6, 0.4)),
        (2, 2, True, 1, Placement(2, 0.6, 0.4)),
        (4, 1, None, 2, Placement(1, 0.6, 0.2)),
    ],
)
def test_placement(num_workers, num_gpus, use_gpu, engines, expected) -> None:
    assert place(num_workers, num_gpus, use_gpu, engines) == expected


def test_gpus_that_are_asked_for_and_absent_are_an_error() -> None:
    with pytest.raises(ValueError, match="Ray sees no GPU"):
        place(1, 0, True, 1)
