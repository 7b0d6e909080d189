"""`graphdrl train`: the main job."""

import time
from typing import Annotated

import typer

from graphdrl.cli.configs import Words, split_words


def train(
    words: Words = None,
    resume: Annotated[str | None, typer.Option(help="Go on with the run in this folder, or at this address.")] = None,
    backend: Annotated[str | None, typer.Option(help="ray, or local: one process without Ray.")] = None,
    replay_schedule: Annotated[
        str | None, typer.Option(help="Take the relations versions at the steps at which this run took them.")
    ] = None,
) -> None:
    """Train a model on images while the oracle scores them; leaves runs/NAME with a model and a report."""
    import psutil

    from graphdrl.cli.progress import Watch
    from graphdrl.config import load_config
    from graphdrl.storage import place
    from jobs import begin, train
    from jobs import resume as resume_run

    started = psutil.Process().create_time() if psutil.Process().create_time() < time.time() else time.time()
    path, overrides = split_words(words)
    if backend == "local":
        overrides = ["training.backend=local", "oracle.engine=transformers", *overrides]
    elif backend:
        overrides = [f"training.backend={backend}", *overrides]
    if resume is not None:
        if path or overrides:
            raise ValueError("--resume goes on with the run's own config.yaml; leave out the config and its overrides")
        start = resume_run(resume)
    else:
        start = begin(load_config(path, overrides), place(replay_schedule) if replay_schedule else None)
    with Watch(start.config.folder, start.config.training.steps) as watch:
        finished = train(start, started, watch.say)
    watch.show(finished.summary, finished.run.report)
