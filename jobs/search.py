"""What a search is before anything starts: its trials' configurations, its data, how many trials fit, what is wrong."""

import hashlib
import itertools
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from graphdrl.config import Config, ConfigError, Dimension, SearchConfig, with_values
from graphdrl.config.search import LABELLED, LISTED
from graphdrl.images import load_source
from graphdrl.methods import method_classes
from jobs.assemble import attributes_of, source_parameters
from jobs.checks import check_job

_MOST_COMBINATIONS = 256
"""Of listed values that are all checked before the start."""

_ONE_FOR_ALL = {
    "name": "every trial gets its own",
    "runs": "all trials lie in the search's folder",
    "placement": "all trials are placed alike",
    "training.backend": "every trial is a run of Ray Train",
    "training.max_failures": "it changes no model",
}
_ROUNDING = 1e-6
_LEARNING_RATE, _NUM_SCORED = "training.learning_rate", "oracle.num_scored"


def in_words(values: dict[str, Any]) -> str:
    """Searched values as a person writes them."""
    return ", ".join(f"{key}={one:.4g}" if isinstance(one, float) else f"{key}={one}" for key, one in values.items())


# Data ---------------------------------------------------------------------------------------------------------------


def data_keys(search: SearchConfig) -> tuple[str, ...]:
    """Searched keys that change the images or what is asked about them."""
    return tuple(key for key in search.space if key.split(".")[0] in ("data", "seed", "attributes"))


def data_name(config: Config) -> str:
    """Name of a trial's images and attributes: another when either differs."""
    parts = [config.data.model_dump(mode="json"), config.seed, attributes_of(config)]
    return hashlib.blake2b(json.dumps(parts, sort_keys=True).encode(), digest_size=6).hexdigest()


def datasets(search: SearchConfig, base: Config) -> dict[str, Config]:
    """By name, one configuration of each set of images; it scores as many as any trial wants."""
    keys = data_keys(search)
    numbers = search.space.get(_NUM_SCORED)
    most = max(numbers.values) if numbers else base.oracle.num_scored
    found = {}
    for values in itertools.product(*(search.space[key].values for key in keys)):
        config = with_values(base, dict(zip(keys, values, strict=True)) | {_NUM_SCORED: most})
        found[data_name(config)] = config
    return found


def scored(config: Config) -> int:
    """Images whose scores a trial trains on."""
    return config.oracle.num_scored if config.oracle.engine != "none" else 0


# Values -------------------------------------------------------------------------------------------------------------


def corners(search: SearchConfig, base: Config) -> Iterator[Config]:
    """A configuration for each listed value and each end, the other keys as they are without a search."""
    for key, dimension in search.space.items():
        for value in dimension.values:
            yield with_values(base, {key: value})


def combinations(search: SearchConfig, base: Config) -> Iterator[Config]:
    """Of all listed values and ends with each other, as many as are worth a check."""
    ways = itertools.product(*(dimension.values for dimension in search.space.values()))
    for values in itertools.islice(ways, _MOST_COMBINATIONS):
        yield with_values(base, dict(zip(search.space, values, strict=True)))


# Checks -------------------------------------------------------------------------------------------------------------


def check_search(search: SearchConfig, base: Config) -> None:
    """Raises ValueError for a search that could not be carried through."""
    if not isinstance(base.runs, Path):
        raise ValueError(
            f"a search keeps its trials in a folder that all nodes see, not at {base.runs}: set runs=FOLDER"
        )
    if base.training.backend != "ray":
        raise ValueError("a search runs on Ray: leave out training.backend")
    for key, dimension in search.space.items():
        _check_key(key, dimension, search)
    check_job(base)
    for config in corners(search, base):
        check_job(config)
        _check_trial(search, config)
    if search.algorithm == "grid":
        for config in combinations(search, base):
            check_job(config)
    if search.scheduler == "pbt":
        for key, dimension in search.space.items():
            _check_mutable(key, dimension, base)


def _check_key(key: str, dimension: Dimension, search: SearchConfig) -> None:
    if key in _ONE_FOR_ALL:
        raise ConfigError(f"{key} cannot be searched: {_ONE_FOR_ALL[key]}")
    if key.startswith("oracle.") and key != _NUM_SCORED:
        raise ConfigError(f"{key} cannot be searched: all trials share one oracle (oracle.num_scored can be)")
    if key in data_keys(search) and dimension.kind not in LISTED:
        raise ConfigError(
            f"{key} changes the images, which are scored before the first trial: list its values as choice"
        )
    if key == "training.steps" and search.scheduler != "none":
        raise ConfigError(
            f"scheduler: {search.scheduler} compares trials at equal steps: take scheduler: none to search {key}"
        )


def _check_trial(search: SearchConfig, config: Config) -> None:
    training = config.training
    if search.scheduler != "none" and training.checkpoint_every >= training.steps:
        raise ConfigError(
            f"scheduler: {search.scheduler} compares trials at their checkpoints, and with training.checkpoint_every="
            f"{training.checkpoint_every} of {training.steps} steps there is none before the end: checkpoint more "
            "often, or take scheduler: none"
        )
    if search.objective in LABELLED and not load_source(config.data.source, **source_parameters(config)).factor_names:
        raise ConfigError(
            f"objective: {search.objective} needs images whose factors are known, and those of data.source="
            f"{config.data.source} have none: take elbo, udr or oracle_disentanglement"
        )
    if search.objective == "oracle_disentanglement" and config.oracle.engine == "none":
        raise ConfigError("objective: oracle_disentanglement asks the oracle, and oracle.engine is none")


def _check_mutable(key: str, dimension: Dimension, base: Config) -> None:
    """Population-based training gives a running model other values: those that only weigh or pace its training."""
    fields = method_classes()[base.method].Parameters.model_fields
    weights = [f"parameters.{name}" for name, field in fields.items() if field.annotation is float]
    if key != _LEARNING_RATE and key not in weights:
        raise ConfigError(
            f"scheduler: pbt changes values of a running model, and {key} cannot change there; these can: "
            f"{', '.join([_LEARNING_RATE, *weights])}"
        )
    if key == "parameters.critic_weight" and 0 in dimension.values:
        raise ConfigError("scheduler: pbt: a model whose parameters.critic_weight is 0 has no critic; start above 0")


# Room ---------------------------------------------------------------------------------------------------------------


def most_of(search: SearchConfig, base: Config, name: str) -> float:
    """The highest value of a setting of `training` in any trial."""
    searched = search.space.get(f"training.{name}")
    return max(searched.values) if searched else getattr(base.training, name)


def at_once(
    node_cpus: Sequence[float],
    gpus: float,
    *,
    worker_cpus: float,
    workers: int,
    worker_gpus: float,
    oracle_cpus: float,
    wanted: int | None,
    trials: int,
) -> int:
    """How many trials of so many workers run at once on nodes with so many CPUs, and GPUs, beside an oracle.

    Raises ValueError when one does not fit, or fewer than are wanted: they would wait for each other.
    """
    trial_cpus, cpus = workers * worker_cpus, sum(node_cpus)
    seats = sum(math.floor(node / worker_cpus + _ROUNDING) for node in node_cpus)
    fit = min(seats // workers, math.floor((cpus - oracle_cpus) / trial_cpus + _ROUNDING))
    if worker_gpus:
        fit = min(fit, math.floor(gpus / (workers * worker_gpus) + _ROUNDING))
    if fit >= max(1, wanted or 1):
        return min(wanted or fit, trials)
    takes = f"a trial takes {trial_cpus:g} CPUs" + (f" and {workers * worker_gpus:g} GPUs" if worker_gpus else "")
    takes += f", {wanted} at once as many times that" if wanted and wanted > 1 else ""
    beside = f", the oracle {oracle_cpus:g} beside them" if oracle_cpus else ""
    there = f"{cpus:g} CPUs" + (f" on {len(node_cpus)} nodes" if len(node_cpus) > 1 else "")
    there += f" and {gpus:g} GPUs" if worker_gpus else ""
    raise ValueError(
        f"{takes}{beside}, and there are {there}: lower training.num_workers, training.cpus_per_worker or concurrency, "
        "or give Ray more"
    )
