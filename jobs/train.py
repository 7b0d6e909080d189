"""The main job: the oracle beside the trainer, the relations between them, and what the run leaves."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from graphdrl.config import Config, check, dump_config, load_config
from graphdrl.images import ImageSet
from graphdrl.oracle import load_prompt
from graphdrl.oracle.scores import ScoreStore
from graphdrl.storage import Place, place
from graphdrl.training import LocalContext, LocalEngine, LocalRelations, Run
from jobs.assemble import assemble, carry_out, identity_of, make_updater, prepare_process, training_images
from jobs.checks import check_job, check_storage
from jobs.finish import Finished, finish
from jobs.oracle import APPLICATION, Starting, start_application
from jobs.placing import placement_of

Say = Callable[[str], None]
"""Tells a person what the job is doing now."""


@dataclass(frozen=True)
class Start:
    """What to train: on from the run's last checkpoint, if it has one; `replay`: on another run's schedule."""

    config: Config
    replay: Place | None = None


def begin(config: Config, replay: Place | None = None) -> Start:
    """A new run; its folder gets a number when its name is taken, so that nothing is overwritten.

    Raises ValueError, and leaves no folder, when it could not be carried through.
    """
    check_job(config)
    name, number = config.name, 1
    while Run(config.folder).exists():
        number += 1
        config = config.model_copy(update={"name": f"{name}-{number}"})
    if replay is not None:
        recorded = Run(replay)
        recorded.fetch()
        if not recorded.schedule.exists():
            raise ValueError(f"{replay} has no schedule.jsonl to replay; give the folder of a finished run")
    run = Run(config.folder)
    run.create()
    run.config.write_text(dump_config(config))
    if replay is not None:
        run.replayed.write_text(f"{replay.resolve()}\n")
    run.upload()
    return Start(config, replay=replay)


def resume(folder: Place | str) -> Start:
    """Go on from the last checkpoint of the run in `folder`; without one, from its beginning."""
    run = Run(folder)
    run.fetch()
    if not run.config.exists():
        raise ValueError(f"{folder} is not a run (it has no config.yaml); give a folder such as runs/quickstart")
    config = load_config(run.config)
    replay = place(run.replayed.read_text().strip()) if run.replayed.exists() else None
    # The folder may have been moved or renamed since.
    moved = run.place.resolve()
    config = config.model_copy(update={"name": moved.name, "runs": moved.parent})
    check_storage(config)
    run.upload_unkept()
    return Start(config, replay)


def train(start: Start, started: float, say: Say) -> Finished:
    """Run the job to its end; `started`: `time.time()` at the command."""
    train_there = _train_here if start.config.training.backend == "local" else _train_on_ray
    images = train_there(start, say)
    say("measuring and writing the report")
    return finish(start.config, started, images)


# In this process ----------------------------------------------------------------------------------------------------


def _train_here(start: Start, say: Say) -> ImageSet:
    config = start.config
    prepare_process(config)
    say("drawing images")
    images = training_images(config)
    run = Run(config.folder)
    context = LocalContext(resume_from=run.fetch_checkpoint())
    updater = make_updater(config, images, identity_of(config))
    versions = [run.read_version(number) for number in run.versions()]
    if versions:
        updater.restore(versions[-1])
    oracle = None
    if _asks(start):
        from graphdrl.oracle.tiny.local import TransformersOracle  # the one way to an oracle without Ray and vLLM

        prompt = load_prompt("score", config.oracle.prompts)
        oracle = TransformersOracle(config.oracle.model, prompt, store=ScoreStore(config.oracle.score_store))
    relations = LocalRelations(updater, versions)
    training = assemble(
        config,
        context,
        images,
        lambda module, settings, _: LocalEngine(module, settings),
        relations,
        oracle,
        replay=start.replay,
    )
    say("training")
    carry_out(training, oracle)
    if updater.scores is not None:
        run.write_scores(updater.scores)
    return images


# On Ray -------------------------------------------------------------------------------------------------------------


def _train_on_ray(start: Start, say: Say) -> ImageSet:
    from cluster import joined

    say("starting Ray")
    with joined():
        return _train_beside_oracle(start, say)


def _train_beside_oracle(start: Start, say: Say) -> ImageSet:
    from cluster import nodes
    from graphdrl import distributed

    config, folder = start.config, start.config.folder.resolve()
    training = config.training
    num_engines = config.oracle.num_replicas if _asks(start) else 0
    placement = placement_of(config, nodes(), num_engines)
    starting = None
    if _asks(start):
        start_application(config, placement.oracle_gpus)
        starting = Starting()
    say("drawing images, while the oracle starts" if _asks(start) else "drawing images")
    images = training_images(config)
    store = distributed.open_edge_store(make_updater(config, images, identity_of(config)), folder)
    say("starting the workers")
    arguments = {
        "config": config.model_dump(mode="json") | {"runs": str(config.runs.resolve())},
        "application": APPLICATION if _asks(start) else None,
        "replay": str(start.replay.resolve()) if start.replay else None,
        "store": store,
    }
    try:
        distributed.fit(
            _worker,
            arguments,
            folder=folder,
            placement=placement,
            cpus_per_worker=training.cpus_per_worker,
            min_workers=training.min_workers,
            max_failures=training.max_failures,
        )
    except RuntimeError:
        if starting and starting.error:
            raise starting.error from None  # the workers only saw its consequence
        raise
    distributed.close_edge_store(store, folder)
    return images


def _asks(start: Start) -> bool:
    return start.config.oracle.engine != "none" and start.replay is None


def _worker(arguments: dict[str, Any]) -> None:
    """One rank, on whichever machine Ray put it."""
    from graphdrl import distributed

    config = check(arguments["config"])
    prepare_process(config)
    run = Run(config.folder)
    # A new run has no checkpoint yet; one that is resumed, or whose workers were restarted after a failure, has.
    run.fetch()
    context = distributed.RayContext(run.fetch_checkpoint())
    oracle = None
    if arguments["application"]:
        from graphdrl.oracle.clients import HandleOracle

        oracle = HandleOracle(arguments["application"])
    replay = arguments["replay"]
    training = assemble(
        config,
        context,
        training_images(config),
        lambda module, settings, batch_size: distributed.DeepSpeedEngine(
            module, settings, zero_stage=config.training.zero_stage, batch_size=batch_size
        ),
        distributed.RayRelations(arguments["store"], config.folder),
        oracle,
        replay=place(replay) if replay else None,
    )
    carry_out(training, oracle)
