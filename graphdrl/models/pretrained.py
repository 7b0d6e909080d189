"""A model as three plain files: weights in safetensors, config and relations in JSON; nothing is unpickled."""

import json
import os
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
from pydantic import BaseModel, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from graphdrl.oracle.questions import RelateAnswer
from graphdrl.relations.edges import DoEdges, Edges

WEIGHTS, CONFIG, RELATIONS = "model.safetensors", "config.json", "relations.json"
FORMAT = 1
_PARTIAL = ("partial_low", "partial_high", "partial_resolved")
LARGEST_JSON_BYTES = 64 << 20
LARGEST_WEIGHTS_BYTES = 4 << 30

Config = TypeVar("Config", bound=BaseModel)


@dataclass(frozen=True)
class Stored(Generic[Config]):
    """What a folder held."""

    config: Config
    weights: dict[str, Tensor]
    relations: Edges | None


def save(folder: Path, config: dict[str, Any], weights: dict[str, Tensor], relations: Edges | None) -> None:
    """Write a model; each file replaces its predecessor only once it is whole, the weights last."""
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / CONFIG, _encode({"format": FORMAT} | config))
    if relations is None:
        (folder / RELATIONS).unlink(missing_ok=True)
    else:
        _write(folder / RELATIONS, _encode(edges_to_json(relations)))
    _write(folder / WEIGHTS, save_tensors({name: tensor.cpu().contiguous() for name, tensor in weights.items()}))


def load(folder: Path, config_class: type[Config]) -> Stored[Config]:
    """Read a model's files; raises ValueError, in one sentence, when one is missing, too large or damaged."""
    record = _read_json(folder / CONFIG)
    if record.pop("format", None) != FORMAT:
        raise ValueError(f"{folder / CONFIG} is not a model of format {FORMAT}; save it again with this version")
    try:
        config = config_class(**record)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"]) or "config"
        raise ValueError(f"{folder / CONFIG}: {where}: {problem['msg']}") from None
    try:
        weights = load_tensors(_read(folder / WEIGHTS, LARGEST_WEIGHTS_BYTES))
    except SafetensorError as error:
        raise ValueError(f"{folder / WEIGHTS} is damaged or no safetensors file: {error}") from None
    relations = folder / RELATIONS
    return Stored(config, weights, edges_from_json(_read_json(relations)) if relations.exists() else None)


def fill(module: nn.Module, weights: dict[str, Tensor], folder: Path) -> None:
    """Put stored weights into a module; raises ValueError naming the first that does not fit."""
    expected = module.state_dict()
    for name in sorted(expected.keys() | weights.keys()):
        if name not in weights or name not in expected:
            problem = "lacks" if name not in weights else "holds an unknown tensor,"
            raise ValueError(f"{folder / WEIGHTS} {problem} {name!r}: it does not belong to the {CONFIG} beside it")
        if expected[name].shape != weights[name].shape:
            shapes = f"{list(weights[name].shape)} where the config says {list(expected[name].shape)}"
            raise ValueError(f"{folder / WEIGHTS}: {name!r} is {shapes}")
    module.load_state_dict(weights)


def edges_to_json(edges: Edges) -> dict[str, Any]:
    """Edges, and what was asked about them, as lists and plain values; what is not finite becomes None."""
    record: dict[str, Any] = _plain(edges)
    return record


def edges_from_json(record: dict[str, Any]) -> Edges:
    """The edges of `edges_to_json`; raises ValueError on anything else."""
    try:
        attributes = tuple(str(name) for name in record["attributes"])
        beliefs = record.get("beliefs")
        return Edges(
            attributes,
            **_matrices(record, attributes, "weights", "low", "high", "resolved", "strength", "partial"),
            **_matrices(record, attributes, *(name for name in _PARTIAL if record.get(name) is not None)),
            estimator=str(record["estimator"]),
            num_scored=int(record["num_scored"]),
            do=tuple(_do_from_json(one, attributes) for one in record.get("do", ())),
            beliefs=None if beliefs is None else _beliefs_from_json(beliefs, attributes),
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{RELATIONS} does not hold relations: {error}") from None


def _do_from_json(record: dict[str, Any], attributes: tuple[str, ...]) -> DoEdges:
    return DoEdges(
        attributes,
        **_matrices(record, attributes, "effects", "low", "high", "resolved"),
        propagate=bool(record["propagate"]),
        deviations=float(record["deviations"]),
        num_images=int(record["num_images"]),
        oracle=str(record["oracle"]),
    )


def _beliefs_from_json(record: dict[str, Any], attributes: tuple[str, ...]) -> RelateAnswer:
    return RelateAnswer(
        attributes,
        **_matrices(record, attributes, "strength", "sign", "entropy"),
        model=str(record["model"]),
        prompt_version=str(record["prompt_version"]),
        num_asked=int(record["num_asked"]),
    )


def _matrices(record: dict[str, Any], attributes: tuple[str, ...], *names: str) -> dict[str, Any]:
    """Matrices [K, K] by name; None becomes NaN. Raises ValueError for one of another shape."""
    matrices = {name: np.array(record[name], bool if name.endswith("resolved") else np.float32) for name in names}
    for name, matrix in matrices.items():
        if matrix.shape != (len(attributes),) * 2:
            raise ValueError(f"{name} is {list(matrix.shape)} for {len(attributes)} attributes")
    return matrices


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, np.ndarray):
        plain = value.astype(object)
        plain[~np.isfinite(value)] = None
        return plain.tolist()
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def _encode(record: dict[str, Any]) -> bytes:
    return (json.dumps(record, indent=1) + "\n").encode()


def _write(path: Path, content: bytes) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(content)
    os.replace(partial, path)


def _read(path: Path, largest_bytes: int) -> bytes:
    if not path.is_file():
        raise ValueError(f"{path.parent} holds no model: {path.name} is missing")
    if path.stat().st_size > largest_bytes:
        raise ValueError(f"{path} is larger than {largest_bytes >> 20} MiB, which no model of ours is")
    return path.read_bytes()


def _read_json(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(_read(path, LARGEST_JSON_BYTES))
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON: {error}") from None
    if not isinstance(record, dict):
        raise ValueError(f"{path} does not hold a JSON object")
    return record
