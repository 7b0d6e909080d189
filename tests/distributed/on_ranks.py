"""Small trainings behind DeepSpeed on gloo ranks of their own, on relations that are replayed."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch

from graphdrl.config import Config, load_config
from graphdrl.oracle import Scores
from graphdrl.relations import RelationsVersion
from graphdrl.training import LocalContext, LocalEngine, RecordedRelations, Run
from graphdrl.training.runs import append_line
from jobs.assemble import assemble, identity_of, make_updater, training_images

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
