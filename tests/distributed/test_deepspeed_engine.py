"""Two ranks behind DeepSpeed, on gloo: the losses of one plain process, at every ZeRO stage, also after a resume."""

from typing import Any

import numpy as np
import pytest
import torch
from on_ranks import (
    STEPS,
    back_to_the_checkpoint,
    config_of,
    losses,
    record_relations,
    train_in_one_process,
    train_on_ranks,
)

import graphdrl
from graphdrl.distributed import deepspeed_config
from graphdrl.training import Run

STAGES = (0, 1, 2, 3)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """Runs by name: "one" process, and "zero0" to "zero3" on two ranks."""
    runs = tmp_path_factory.mktemp("runs")
    replay = record_relations(config_of(runs, "recorded"))
    one = train_in_one_process(config_of(runs, "one"), replay)
    configs = [config_of(runs, f"zero{stage}", f"training.zero_stage={stage}") for stage in STAGES]
    train_on_ranks(2, configs, replay)
    return {"one": one} | {config.name: Run(config.folder) for config in configs}


@pytest.mark.parametrize("stage", STAGES)
def test_two_ranks_have_the_losses_of_one_process(trained: dict[str, Run], stage: int) -> None:
    expected = losses(trained["one"])
    assert len(expected) == STEPS
    found = losses(trained[f"zero{stage}"])
    for step in expected:
        assert found[step] == pytest.approx(expected[step], rel=1e-5, abs=1e-5), f"step {step}"


@pytest.mark.parametrize("stage", STAGES)
def test_the_saved_model_is_the_one_that_a_single_process_saves(trained: dict[str, Run], stage: int) -> None:
    one, many = (graphdrl.GEM.from_pretrained(trained[name].model) for name in ("one", f"zero{stage}"))
    assert one.nodes == many.nodes
    assert one.relations is not None
    np.testing.assert_array_equal(one.relations.weights, many.relations.weights)
    images = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(many.reconstruct(images), one.reconstruct(images), rtol=1e-3, atol=1e-3)


def resume(trained: dict[str, Run], stages: tuple[int, ...], world_size: int) -> dict[int, Run]:
    """The runs of these stages, gone on from their first checkpoint on so many ranks."""
    runs = trained["one"].folder.parent
    folders = [back_to_the_checkpoint(trained[f"zero{stage}"], f"zero{stage}-on-{world_size}") for stage in stages]
    overrides = [(f"training.zero_stage={stage}", f"training.num_workers={world_size}") for stage in stages]
    configs = [config_of(runs, folder.name, *more) for folder, more in zip(folders, overrides, strict=True)]
    train_on_ranks(world_size, configs, runs / "recorded")
    return {stage: Run(folder) for stage, folder in zip(stages, folders, strict=True)}


def test_as_many_ranks_resume_as_if_nothing_had_happened(trained: dict[str, Run]) -> None:
    for stage, run in resume(trained, STAGES, 2).items():
        before, after = losses(trained[f"zero{stage}"]), losses(run)
        for step in before:
            assert after[step] == pytest.approx(before[step], rel=1e-6, abs=1e-6), f"stage {stage}, step {step}"


def test_the_configuration_is_a_function_of_ours() -> None:
    ours: dict[str, Any] = {"zero_stage": 2, "batch_size": 16, "clip_norm": 0.5, "num_weights": 1000}
    made = deepspeed_config(**ours)
    assert made == deepspeed_config(**ours)
    assert made["zero_optimization"] == {"stage": 2, "reduce_bucket_size": 1000}
    large = deepspeed_config(**ours | {"num_weights": 10**10})["zero_optimization"]["reduce_bucket_size"]
    assert large == 500_000_000, "DeepSpeed's default"
    assert (made["train_micro_batch_size_per_gpu"], made["gradient_clipping"]) == (16, 0.5)
    assert not made["checkpoint"]["load_universal"]
    assert deepspeed_config(**ours, universal=True)["checkpoint"]["load_universal"]
