"""A search: one oracle and one score store for all trials, relations frozen before the first, Ray Tune over them."""

import fcntl
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from graphdrl.config import Config, SearchConfig, dump_config, dump_search, load_config, load_search, with_values
from graphdrl.images import ImageSet, load_source, write_shards
from graphdrl.images.shards import MANIFEST
from graphdrl.training import choose_for_scoring, write_scores
from jobs.assemble import attributes_of, source_parameters, training_images
from jobs.oracle import APPLICATION, start_application, wait_for_application
from jobs.placing import placement_of
from jobs.score import score_images, scores_of
from jobs.search import at_once, check_search, datasets, most_of, scored
from jobs.search_end import Searched, SearchState, end_search
from jobs.trial_plan import TrialPlan
from jobs.tuner import run_tuner

Say = Callable[[str], None]

_VALIDATION_SEED = 2_000_003
"""Added to a run's seed: what trials are compared on is never trained on, and is not what models are tested on."""


@dataclass(frozen=True)
class SearchStart:
    """A search, and the configuration that is searched around; `folder` is absolute."""

    search: SearchConfig
    base: Config
    folder: Path


def begin_search(search: SearchConfig) -> SearchStart:
    """A new search; its folder gets a number when its name is taken.

    Raises ValueError, and leaves no folder, when it could not be carried through.
    """
    base = with_values(load_config(search.config), _flat(search.overrides))
    check_search(search, base)
    base = _absolute(base)
    name, number = search.name, 1
    while (folder := Path(str(base.runs)) / search.name).exists():
        number += 1
        search = search.model_copy(update={"name": f"{name}-{number}"})
    folder.mkdir(parents=True)
    (folder / "search.yaml").write_text(dump_search(search))
    (folder / "config.yaml").write_text(dump_config(base))
    return SearchStart(search, base, folder)


def resume_search(folder: Path) -> SearchStart:
    """Go on with the search in `folder`: finished trials stay, those that had begun go on from their checkpoints."""
    if not (folder / "search.yaml").exists():
        raise ValueError(f"{folder} is not a search (it has no search.yaml); give a folder such as runs/search")
    folder = folder.resolve()
    search, base = load_search(folder / "search.yaml"), load_config(folder / "config.yaml")
    # The folder may have been moved or renamed since.
    search = search.model_copy(update={"name": folder.name})
    return SearchStart(search, base.model_copy(update={"runs": folder.parent}), folder)


def tune(start: SearchStart, started: float, say: Say) -> Searched:
    """Carry the search out to its end; `started`: `time.time()` at the command.

    Raises ValueError when its trials do not fit on the cluster.
    """
    from cluster import joined

    with _alone(start.folder):
        say("starting Ray")
        with joined(dashboard=True):
            return _search(start, started, say)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Raises ValueError while another process of this machine carries out the search in `folder`."""
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"the search in {folder} is running already: wait for it, or stop it first") from None
        yield


def _search(start: SearchStart, started: float, say: Say) -> Searched:
    from cluster import nodes
    from graphdrl import distributed

    search, base, folder = start.search, start.base, start.folder
    discovers = "discovered" in (base.nodes, *getattr(search.space.get("nodes"), "values", ()))
    asks = base.oracle.engine != "none" and (search.objective == "oracle_disentanglement" or discovers)
    num_trials = _check_room(start, asks)
    state = SearchState.read(folder)
    _prepare(start, asks, state, say)
    plan = TrialPlan(
        folder=folder,
        base=base.model_dump(mode="json"),
        objective=search.objective,
        listed={key: one.values for key, one in search.space.items() if one.kind in ("choice", "grid")},
        ends={key: one.values for key, one in search.space.items() if one.kind not in ("choice", "grid")},
        edges=distributed.open_frozen_edges(folder / "relations"),
        asks=asks,
        passes_models=search.scheduler == "pbt",
        nodes=tuple(nodes()),
    )
    say(f"searching: {search.most_trials} trials, {num_trials} at a time")
    run_tuner(search, base, plan, num_trials, say)
    if asks:
        state.questions_asked += _asked(rf"{re.escape(search.name)}-\d{{3,}}")
    return end_search(search, base, folder, state, started, say)


def _check_room(start: SearchStart, asks: bool) -> int:
    """Trials at once; raises ValueError when they do not fit."""
    from cluster import nodes
    from graphdrl import distributed

    search, base = start.search, start.base
    placement = placement_of(base, nodes())
    # On a cluster of its own the search ends the oracle when all is scored, unless trials go on asking.
    stays = base.oracle.engine != "none" and (asks or not _is_private()) and base.placement == "shared"
    engines = base.oracle.max_replicas or base.oracle.num_replicas
    room = [node for node in nodes() if base.placement == "shared" or node.get(distributed.TRAINER_POOL, 0) > 0]
    return at_once(
        [node.get("CPU", 0.0) for node in room],
        sum(node.get("GPU", 0.0) for node in room),
        worker_cpus=most_of(search, base, "cpus_per_worker"),
        workers=int(most_of(search, base, "num_workers")),
        worker_gpus=placement.gpus_per_worker,
        oracle_cpus=engines * base.oracle.num_cpus if stays else 0.0,
        wanted=search.concurrency,
        trials=search.most_trials,
    )


# Before the first trial -----------------------------------------------------------------------------------------------


def _prepare(start: SearchStart, asks: bool, state: SearchState, say: Say) -> None:
    """Draw every set of images, and have the oracle score each once."""
    from cluster import nodes
    from graphdrl.oracle.clients import HandleOracle

    search, base, folder = start.search, start.base, start.folder
    sets = datasets(search, base)
    unscored = {name for name, config in sets.items() if scored(config) and not _scores(folder, name).exists()}
    if unscored or asks:
        start_application(base, placement_of(base, nodes(), base.oracle.num_replicas).oracle_gpus)
    say("drawing images, while the oracle starts" if unscored else "drawing images")
    images = {name: training_images(config) for name, config in sets.items()}
    for name, config in sets.items():
        _draw_validation(search, config, images[name], folder / "validation" / name)
    if not (unscored or asks):
        return
    wait_for_application()
    before = _asked(re.escape(search.name))
    oracle = HandleOracle(APPLICATION)
    try:
        for name in sorted(unscored):
            _score(oracle, search, sets[name], images[name], _scores(folder, name), say)
    finally:
        oracle.close()
    state.questions_asked += _asked(re.escape(search.name)) - before
    state.write()
    if not asks and _is_private():
        from serve import stop_oracle

        stop_oracle(APPLICATION)


def _score(oracle: Any, search: SearchConfig, config: Config, images: ImageSet, path: Path, say: Say) -> None:
    rows = choose_for_scoring(len(images), scored(config), config.seed)
    asked_for = config.model_copy(update={"name": search.name})
    told = _Seldom(say)
    answers = score_images(oracle, images.images[rows], attributes_of(config), asked_for, told)
    write_scores(scores_of(answers, len(rows), len(images)), path)
    say(f"{len(rows):,} images scored once, for all trials")


class _Seldom:
    """Passes on what is said every few seconds."""

    def __init__(self, say: Say, every_s: float = 10.0) -> None:
        self._say, self._every_s, self._last = say, every_s, time.monotonic()

    def __call__(self, text: str) -> None:
        if time.monotonic() - self._last >= self._every_s:
            self._last = time.monotonic()
            self._say(text)


def _draw_validation(search: SearchConfig, config: Config, images: ImageSet, folder: Path) -> None:
    """Images to compare trials on: drawn for it, or a sample of own images, of which there are no others."""
    if (folder / MANIFEST).exists():
        return
    source = load_source(config.data.source, **source_parameters(config))
    if source.factor_names:
        drawn = source.draw(search.num_validation, config.data.image_size, config.seed + _VALIDATION_SEED, True)
    else:
        rows = np.sort(np.random.default_rng((config.seed, 3)).permutation(len(images))[: search.num_validation])
        drawn = ImageSet(np.asarray(images.images)[rows], tuple(images.ids[row] for row in rows))
    write_shards(drawn, folder)


def _scores(folder: Path, name: str) -> Path:
    return folder / "scores" / f"{name}.parquet"


def _asked(clients: str) -> int:
    """Grades that the multimodal model computed so far for clients whose names match."""
    from ray import serve as ray_serve

    counts = ray_serve.get_app_handle(APPLICATION).snapshot.remote().result(timeout_s=60).clients
    return sum(one.asked for name, one in counts.items() if re.fullmatch(clients, name))


def _is_private() -> bool:
    return os.environ.get("RAY_ADDRESS", "") in ("", "local")


def _absolute(base: Config) -> Config:
    """The same configuration for processes that run in other folders."""
    found = {"runs": base.runs, "oracle.score_store": base.oracle.score_store, "data.path": base.data.path}
    found |= {"oracle.prompts": base.oracle.prompts, "oracle.calibration": base.oracle.calibration}
    return with_values(base, {key: str(value.resolve()) for key, value in found.items() if value is not None})


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested sections as dotted keys; a method's or a source's parameters stay as they are."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        is_section = isinstance(value, dict) and key in Config.model_fields and key != "parameters"
        flat |= _flat(value, f"{name}.") if is_section else {name: value}
    return flat
