"""A checkpoint taken over by another number of workers: the same losses on the same batches, at every ZeRO stage."""

from pathlib import Path

import pytest
from on_ranks import (
    CHECKPOINT,
    STEPS,
    back_to_the_checkpoint,
    config_of,
    losses,
    record_relations,
    train_on_ranks,
)

from graphdrl.training import Run

STAGES = (0, 1, 2, 3)
SIZES = (1, 2)
Trained = dict[tuple[int, int], Run]
"""(stage, workers) -> run."""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def replay(runs: Path) -> Path:
    return record_relations(config_of(runs, "recorded"))


def overrides(stage: int, size: int) -> tuple[str, str]:
    return f"training.zero_stage={stage}", f"training.num_workers={size}"


@pytest.fixture(scope="module")
def trained(runs: Path, replay: Path) -> Trained:
    """Trained to their ends by as many workers from the first step to the last."""
    made: Trained = {}
    for size in SIZES:
        configs = {stage: config_of(runs, f"zero{stage}-{size}", *overrides(stage, size)) for stage in STAGES}
        train_on_ranks(size, list(configs.values()), replay)
        made |= {(stage, size): Run(config.folder) for stage, config in configs.items()}
    return made


def go_on(trained: Trained, moves: list[tuple[int, int]], size: int, replay: Path) -> list[Run]:
    """Runs of the other number of workers, gone on from their first checkpoint on `size`; moves: stage -> stage."""
    names = [f"zero{old}-{3 - size}-as-zero{new}-on-{size}" for old, new in moves]
    folders = [
        back_to_the_checkpoint(trained[old, 3 - size], name) for (old, _), name in zip(moves, names, strict=True)
    ]
    configs = [
        config_of(replay.parent, name, *overrides(new, size)) for (_, new), name in zip(moves, names, strict=True)
    ]
    train_on_ranks(size, configs, replay)
    return [Run(folder) for folder in folders]


@pytest.mark.parametrize("size", SIZES)
def test_another_number_of_workers_goes_on_with_the_same_losses(trained: Trained, replay: Path, size: int) -> None:
    moves = [*((stage, stage) for stage in STAGES), (1, 2), (2, 1)]
    for (old, new), run in zip(moves, go_on(trained, moves, size, replay), strict=True):
        expected, found = losses(trained[old, 3 - size]), losses(run)
        assert len(found) == STEPS
        # The batch after the checkpoint is the first that the restored weights see; later ones also stand on the
        # restored state of the optimiser and of the schedule.
        for step in range(CHECKPOINT + 1, STEPS + 1):
            close = 1e-5 if step == CHECKPOINT + 1 else 1e-4
            assert found[step] == pytest.approx(expected[step], rel=close, abs=close), f"{old} to {new}, step {step}"


@pytest.mark.parametrize(("old", "new", "written"), [(0, 1, "0"), (2, 0, "1 or 2"), (2, 3, "1 or 2"), (3, 1, "3")])
def test_another_stage_is_refused_in_a_sentence(
    trained: Trained, replay: Path, old: int, new: int, written: str
) -> None:
    with pytest.raises(AssertionError) as failed:
        go_on(trained, [(old, new)], 1, replay)
    assert f"was written at ZeRO stage {written}, which stage {new} cannot read: go on with" in str(failed.value)
