"""A search over a run's configuration: which keys, which values, by which objective."""

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import yaml
from pydantic import Field, model_serializer, model_validator

from graphdrl.config.load import ConfigError, check, read_tree, set_value, validated
from graphdrl.config.schema import Config, Section

Kind = Literal["choice", "grid", "uniform", "loguniform", "int", "logint"]
Objective = Literal["dci_d", "mig", "elbo", "udr", "oracle_disentanglement"]

LISTED = ("choice", "grid")
LABELLED = ("dci_d", "mig")
"""Objectives that need images whose factors are known."""


class Dimension(Section):
    """The values of one key: listed (`choice`, `grid`), or between two ends that both belong to it.

    In YAML it is its kind and its values: `{loguniform: [1.0e-4, 1.0e-2]}`.
    """

    kind: Kind = Field(description="how values are drawn")
    values: tuple[Any, ...] = Field(description="all values, or the lowest and the highest")

    @model_validator(mode="before")
    @classmethod
    def _as_written(cls, given: Any) -> Any:
        if not isinstance(given, dict) or len(given) != 1 or next(iter(given)) not in get_args(Kind):
            kinds = ", ".join(get_args(Kind))
            raise ValueError(f"{given!r} is no dimension; write one of {kinds}, as in {{choice: [1, 2]}}")
        ((kind, values),) = given.items()
        if not isinstance(values, list | tuple):
            raise ValueError(f"{kind} takes a list of values, not {values!r}")
        return {"kind": kind, "values": tuple(map(_number, values)) if kind in LISTED else _ends(kind, values)}

    @model_validator(mode="after")
    def _check(self) -> "Dimension":
        if self.kind in LISTED and not self.values:
            raise ValueError(f"{self.kind} has no value; list one at least")
        return self

    @model_serializer
    def _as_yaml(self) -> dict[str, list[Any]]:
        return {self.kind: list(self.values)}


def _number(value: Any) -> Any:
    """YAML reads 1e-3, without a point, as text."""
    return float(value) if isinstance(value, str) and re.fullmatch(r"[+-]?\d+[eE][+-]?\d+", value) else value


def _ends(kind: str, values: Sequence[Any]) -> tuple[float, ...]:
    number = int if kind in ("int", "logint") else float
    try:
        ends = tuple(number(_number(value)) for value in values)
    except (TypeError, ValueError):
        raise ValueError(f"{kind} lies between two numbers, not {list(values)}") from None
    if len(ends) != 2 or not ends[0] < ends[1] or not all(map(math.isfinite, ends)):
        raise ValueError(f"{kind} lies between two numbers, the lower one first, not {list(values)}")
    if kind.startswith("log") and ends[0] <= 0:
        raise ValueError(f"{kind} starts above 0, not at {ends[0]}; take {kind.removeprefix('log') or 'uniform'}")
    return ends


class SearchConfig(Section):
    """One search, complete."""

    name: str = Field("search", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="the search's folder below runs")
    config: Path | None = Field(None, description="configuration of the run that is searched around; null: defaults")
    overrides: dict[str, Any] = Field(default_factory=dict, description="keys of that configuration, and their values")
    space: dict[str, Dimension] = Field(min_length=1, description="keys that are searched, and their values")
    objective: Objective = Field("dci_d", description="what the best trial has most of; dci_d and mig need labels")
    num_trials: int | None = Field(None, ge=1, description="configurations to try; null: 8, or the whole grid")
    algorithm: Literal["optuna", "random", "grid"] = Field("optuna", description="optuna: tree-structured Parzen (TPE)")
    scheduler: Literal["asha", "pbt", "none"] = Field("asha", description="what ends, or changes, trials on their way")
    reduction_factor: int = Field(3, ge=2, le=16, description="asha: one trial of so many goes on beyond a rung")
    num_validation: int = Field(2_000, ge=60, le=2_000, description="images to measure the objective on")
    concurrency: int | None = Field(None, ge=1, description="trials at once; null: as many as fit")
    seed: int = Field(0, ge=0, le=2**31 - 1, description="of the values that are drawn")

    @model_validator(mode="after")
    def _check(self) -> "SearchConfig":
        listed = {key: dimension.kind for key, dimension in self.space.items()}
        if self.algorithm == "grid":
            drawn = [key for key, kind in listed.items() if kind not in LISTED]
            if drawn:
                raise ValueError(
                    f"algorithm: grid tries every value, and {drawn[0]} has no end of them ({listed[drawn[0]]}): list "
                    "its values as grid or choice, or take algorithm: random"
                )
            size = math.prod(len(dimension.values) for dimension in self.space.values())
            if self.num_trials not in (None, size):
                raise ValueError(
                    f"num_trials={self.num_trials} is not the {size} combinations of the grid: leave num_trials out, "
                    "or take algorithm: random"
                )
        elif "grid" in listed.values():
            key = next(key for key, kind in listed.items() if kind == "grid")
            raise ValueError(f"{key}: grid needs algorithm: grid; with {self.algorithm} write choice")
        if self.scheduler == "pbt" and self.algorithm != "random":
            raise ValueError("scheduler: pbt changes values itself: it needs algorithm: random")
        if self.objective == "udr" and (self.scheduler != "none" or self.algorithm == "optuna"):
            raise ValueError(
                "objective: udr compares the trials with each other when all have ended: take scheduler: none and "
                "algorithm: random or grid"
            )
        return self

    @property
    def most_trials(self) -> int:
        """How many trials there will be."""
        if self.algorithm == "grid":
            return math.prod(len(dimension.values) for dimension in self.space.values())
        return self.num_trials or 8


def load_search(path: Path | str | None, overrides: Sequence[str] = ()) -> SearchConfig:
    """A search from YAML. An override is of the search's own key, else of the run's: `num_trials=4 training.steps=200`.

    Raises ConfigError.
    """
    tree = read_tree(Path(path)) if path else {}
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key:
            raise ConfigError(f"{override!r} is not an override; write key=value, such as num_trials=4")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError:
            raise ConfigError(f"the value of {override!r} is not valid YAML; quote it") from None
        if key in SearchConfig.model_fields:
            tree[key] = value
        else:
            tree["overrides"] = dict(tree.get("overrides") or {}) | {key: value}
    if not tree.get("space"):
        raise ConfigError("the search has no space; name a key at least: space: {parameters.beta: {choice: [1, 4]}}")
    return validated(tree, SearchConfig)


def dump_search(search: SearchConfig) -> str:
    """The search as YAML that `load_search` reads again."""
    return yaml.safe_dump(search.model_dump(mode="json"), sort_keys=False)


def with_values(config: Config, values: dict[str, Any]) -> Config:
    """The configuration with other values of dotted keys; raises ConfigError for a key or a value that is wrong."""
    tree = config.model_dump(mode="json")
    for key, value in values.items():
        set_value(tree, key, value)
    return check(tree)
