"""Two ranks behind DeepSpeed, on gloo: the losses of one plain process, at every ZeRO stage, also after a resume."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import graphdrl
from graphdrl.config import Config, load_config
from graphdrl.distributed import deepspeed_config
from graphdrl.oracle import Scores
from graphdrl.relations import RelationsVersion
from graphdrl.training import LocalContext, LocalEngine, RecordedRelations, Run
from graphdrl.training.runs import append_line
from jobs.assemble import assemble, identity_of, make_updater, training_images

STAGES = (0, 1, 2, 3)
STEPS, CHECKPOINT = 6, 3
_PATIENCE_S = 400

TINY = (
    "data.image_size=32",
    "data.num_images=64",
    "data.num_test=0",
    "oracle.num_scored=48",
    "relations.num_bootstrap=20",
    "model.num_latents=12",
    "parameters={critic_every: 2}",
    "training.precision=fp32",
    f"training.steps={STEPS}",
    "training.batch_size=8",
    "training.pair_groups=2",
    "training.group_size=6",
    "training.log_every=1",
    f"training.checkpoint_every={CHECKPOINT}",
)


def config_of(runs: Path, name: str, *overrides: str) -> Config:
    return load_config(None, [f"runs={runs}", f"name={name}", *TINY, *overrides])


def record_relations(config: Config) -> Path:
    """A run with one version of relations, taken at its second step: every training of this file replays it."""
    images, identity = training_images(config), identity_of(config)
    grades = 5 * np.asarray(images.grades)[:48]
    scores = Scores(
        image_ids=images.ids[:48],
        attributes=images.attributes,
        expected=grades,
        argmax=np.rint(grades).astype(np.int8),
        entropy=np.zeros_like(grades),
        inclusion_probability=np.full(48, 0.75, np.float32),
        flagged=np.zeros(48, bool),
        source="data",
        model=identity.model,
        prompt_version=identity.prompt_version,
    )
    version = make_updater(config, images, identity).add(scores)
    assert isinstance(version, RelationsVersion)
    run = Run(config.runs / "recorded")
    run.write_version(version)
    append_line(run.schedule, {"step": 1, "version": 1})
    return run.folder


def train_in_one_process(config: Config, replay: Path) -> Run:
    run = Run(config.folder)
    run.folder.mkdir()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    training = assemble(
        config,
        LocalContext(device=torch.device("cpu")),
        training_images(config),
        lambda module, settings, _: LocalEngine(module, settings),
        RecordedRelations(Run(replay)),
        None,
        replay=replay,
    )
    training.run()
    training.save_model()
    torch.set_num_threads(threads)
    return run


def train_on_ranks(world_size: int, configs: list[Config], replay: Path) -> None:
    """Run the trainings on so many processes; the first that fails shows why."""
    job = replay.parent / f"{configs[0].name}-on-{world_size}.json"
    trees = [config.model_dump(mode="json") for config in configs]
    job.write_text(json.dumps({"world_size": world_size, "configs": trees, "replay": str(replay)}))
    script = Path(__file__).with_name("gloo_rank.py")
    environment = os.environ | {"DS_ACCELERATOR": "cpu", "CUDA_VISIBLE_DEVICES": "", "LOCAL_RANK": "0"}
    ranks = [
        subprocess.Popen(
            [sys.executable, str(script), str(job), str(rank)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
        )
        for rank in range(world_size)
    ]
    try:
        said = [rank.communicate(timeout=_PATIENCE_S)[0] for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    for rank, text in zip(ranks, said, strict=True):
        assert rank.returncode == 0, text[-3000:]


def losses(run: Run) -> dict[int, dict[str, float]]:
    names = ("total", "reconstruction", "kl", "rank", "divergence", "critic/total", "critic/accuracy")
    return {row["step"]: {name: row[name] for name in names if name in row} for row in run.read_metrics()}


def back_to_the_checkpoint(run: Run, name: str) -> Path:
    """A copy of a run as a kill soon after its first checkpoint would have left it."""
    copy = Run(shutil.copytree(run.folder, run.folder.with_name(name)))
    shutil.rmtree(copy.checkpoint(STEPS))
    shutil.rmtree(copy.model)
    return copy.folder


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


def test_one_rank_resumes_what_two_have_saved(trained: dict[str, Run]) -> None:
    for stage, run in resume(trained, (0, 1, 3), 1).items():
        before, after = losses(trained[f"zero{stage}"]), losses(run)
        for step in before:
            assert after[step] == pytest.approx(before[step], rel=1e-5, abs=1e-5), f"stage {stage}, step {step}"


def test_the_configuration_is_a_function_of_ours() -> None:
    made = deepspeed_config(zero_stage=2, batch_size=16, clip_norm=0.5)
    assert made == deepspeed_config(zero_stage=2, batch_size=16, clip_norm=0.5)
    assert made["zero_optimization"] == {"stage": 2}
    assert (made["train_micro_batch_size_per_gpu"], made["gradient_clipping"]) == (16, 0.5)
    assert not made["checkpoint"]["load_universal"]
    assert deepspeed_config(zero_stage=2, batch_size=16, clip_norm=0.5, universal=True)["checkpoint"]["load_universal"]
