"""All the Ray Tune wiring: search algorithms and schedulers by name, new or restored."""

import logging
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from graphdrl.config import Config, Dimension, SearchConfig
from jobs.search import in_words
from jobs.trial import trainable
from jobs.trial_plan import TrialPlan
from jobs.trial_record import TrialRecord

Say = Callable[[str], None]

_BOOKS = "ray"
"""Tune's own folder below a search's."""

_LOOK_EVERY_S = 1.0
_HEAD = "node:__internal_head__"


def run_tuner(search: SearchConfig, base: Config, plan: TrialPlan, num_at_once: int, say: Say) -> None:
    """Run all trials to their ends, or those that are left of a search that was killed."""
    # Our own progress is shown, and figures lie in the trials' folders.
    os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
    os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "5")
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    from ray import tune

    for name in ("ray.tune", "ray.train"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # a trial that fails is said in a sentence

    share = 0.9 / num_at_once if search.scheduler == "pbt" else 0.001
    trial = tune.with_resources(trainable(plan), {"CPU": 0, _HEAD: round(share, 4)})
    space = {key: _domain(dimension) for key, dimension in search.space.items()}
    books = plan.folder / _BOOKS
    if list(books.glob("experiment_state-*.json")):
        # Tune's books are pickles of Python: nobody but who wrote this folder is to be trusted with them.
        tuner = tune.Tuner.restore(str(books), trial, param_space=space)
    else:
        shutil.rmtree(books, ignore_errors=True)
        tuner = tune.Tuner(
            trial,
            param_space=space,
            tune_config=_tune_config(search, base, num_at_once),
            run_config=tune.RunConfig(
                name=_BOOKS, storage_path=str(plan.folder), verbose=0, callbacks=[_ends(plan.folder)]
            ),
        )
    with _Watch(plan.folder / "trials", search, say):
        tuner.fit()


def _tune_config(search: SearchConfig, base: Config, num_at_once: int) -> Any:
    from ray import tune

    def name_of(trial: Any) -> str:
        return f"{search.name}-{int(trial.experiment_tag.split('_')[0]):03d}"

    return tune.TuneConfig(
        metric=None if search.objective == "udr" else search.objective,
        mode=None if search.objective == "udr" else "max",
        search_alg=_algorithm(search, num_at_once),
        scheduler=_scheduler(search, base),
        num_samples=1 if search.algorithm == "grid" else search.most_trials,
        max_concurrent_trials=num_at_once if search.algorithm == "optuna" else None,
        trial_name_creator=name_of,
        trial_dirname_creator=name_of,
    )


def _domain(dimension: Dimension) -> Any:
    """Listed values by their places: a value may be of any kind, and algorithms know numbers."""
    from ray import tune

    values = dimension.values
    if dimension.kind == "grid":
        return tune.grid_search(list(range(len(values))))
    if dimension.kind == "choice":
        return tune.choice(list(range(len(values))))
    if dimension.kind in ("int", "logint"):  # Tune leaves the upper end out
        return (tune.randint if dimension.kind == "int" else tune.lograndint)(values[0], values[1] + 1)
    return (tune.uniform if dimension.kind == "uniform" else tune.loguniform)(*values)


def _algorithm(search: SearchConfig, num_at_once: int) -> Any:
    if search.algorithm == "optuna":
        from ray.tune.search.optuna import OptunaSearch

        logging.getLogger("optuna").setLevel(logging.ERROR)
        return OptunaSearch(seed=search.seed)
    from ray.tune.search.basic_variant import BasicVariantGenerator

    # A population must exist as a whole: its members are paused in turn, which their share of the head sees to.
    # Tune does not hold this algorithm to its own max_concurrent_trials.
    most = 0 if search.scheduler == "pbt" else num_at_once
    return BasicVariantGenerator(random_state=search.seed, max_concurrent=most)


def _scheduler(search: SearchConfig, base: Config) -> Any:
    training = base.training
    if search.scheduler == "asha":
        from ray.tune.schedulers import ASHAScheduler

        return ASHAScheduler(
            time_attr="step",
            grace_period=training.checkpoint_every,
            reduction_factor=search.reduction_factor,
            max_t=training.steps + 1,  # the last step is told when all is done: nothing is to be stopped there
        )
    if search.scheduler == "pbt":
        from ray.tune.schedulers import PopulationBasedTraining

        return PopulationBasedTraining(
            time_attr="step",
            perturbation_interval=training.checkpoint_every,
            hyperparam_mutations={
                key: list(range(len(one.values))) if one.kind == "choice" else _domain(one)
                for key, one in search.space.items()
            },
        )
    return None


def _ends(folder: Path) -> Any:
    """What writes down how a trial ended that could not do it itself."""
    from ray import tune

    class Ends(tune.Callback):
        def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            _end(folder / "trials" / str(trial), "stopped", "")

        def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            _end(folder / "trials" / str(trial), "failed", "the trial's process was lost")

    return Ends()


def _end(folder: Path, status: str, error: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    record = TrialRecord.read(folder) or TrialRecord(folder)
    if record.status == "running":
        record.status, record.error = status, error
        record.write()


class _Watch:
    """Says one line for every trial that ends, from the trials' own files."""

    def __init__(self, folder: Path, search: SearchConfig, say: Say) -> None:
        self._folder, self._search, self._say = folder, search, say
        self._told = {record.folder for record in self._ended()}
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def __enter__(self) -> "_Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def _follow(self) -> None:
        while not self._stopped.wait(_LOOK_EVERY_S):
            self._tell()
        self._tell()

    def _tell(self) -> None:
        for record in self._ended():
            if record.folder in self._told:
                continue
            self._told.add(record.folder)
            rungs = record.rungs()
            value = rungs[-1].get(self._search.objective) if rungs else None
            figure = f"{self._search.objective} {value:.4f} " if value is not None else ""
            step = f"at step {rungs[-1]['step']:.0f}" if rungs else "before its first checkpoint"
            why = f": {record.error}" if record.error else ""
            self._say(
                f"{record.folder.name} {record.status} {step}: {figure}({in_words(record.values)}){why} "
                f"[{len(self._told)} of {self._search.most_trials}]"
            )

    def _ended(self) -> list[TrialRecord]:
        records = [TrialRecord.read(path) for path in sorted(self._folder.glob("*/"))]
        return [record for record in records if record is not None and record.status != "running"]
