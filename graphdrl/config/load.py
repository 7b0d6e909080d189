"""YAML and `key=value` overrides to a checked `Config`; every mistake is one sentence that names the way out."""

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from graphdrl.config.schema import Config

Tree = TypeVar("Tree", bound=BaseModel)


class ConfigError(ValueError):
    """The configuration is wrong; the message says where and how to mend it."""


def load_config(path: Path | str | None, overrides: Sequence[str] = ()) -> Config:
    """The configuration of a YAML file (None: defaults) under `key=value` overrides such as `training.steps=200`."""
    return load_tree(path, overrides, Config)


def load_tree(path: Path | str | None, overrides: Sequence[str], root: type[Tree]) -> Tree:
    """What a YAML file and `key=value` overrides say, as a typed and closed tree; raises ConfigError."""
    tree = read_tree(Path(path)) if path else {}
    for override in overrides:
        _override(tree, override)
    return validated(tree, root)


def check(tree: dict[str, Any]) -> Config:
    """A nested dict as a `Config`; raises ConfigError."""
    return validated(tree, Config)


def validated(tree: dict[str, Any], root: type[Tree]) -> Tree:
    """A nested dict as a typed and closed tree; raises ConfigError."""
    try:
        return root.model_validate(tree)
    except ValidationError as error:
        raise ConfigError("; ".join(_sentence(item, root) for item in error.errors())) from None


def dump_config(config: Config) -> str:
    """The resolved configuration as YAML that `load_config` reads again."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)


def read_tree(path: Path) -> dict[str, Any]:
    """The keys and values of a YAML file, unchecked; raises ConfigError."""
    try:
        tree = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise ConfigError(f"there is no config file {path}; see configs/ for those that are shipped") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise ConfigError(f"{path} must hold keys and values, not a {type(tree).__name__}")
    return tree


def _override(tree: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"{override!r} is not an override; write key=value, such as training.steps=200")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise ConfigError(f"the value of {override!r} is not valid YAML; quote it") from None
    set_value(tree, key, value, said=repr(override))


def set_value(tree: dict[str, Any], key: str, value: Any, said: str = "") -> None:
    """Put a value at a dotted key of a nested dict; raises ConfigError, about `said`, where a value is in the way."""
    *parents, leaf = key.split(".")
    for parent in parents:
        tree = tree.setdefault(parent, {})
        if not isinstance(tree, dict):
            raise ConfigError(f"{said or key}: {parent} is a value, it has no keys below it")
    tree[leaf] = value


def _sentence(error: Any, root: type[BaseModel]) -> str:
    """One pydantic error as one sentence with the key, the value and what is allowed."""
    location = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        section, keys = _section(error["loc"][:-1], root)
        near = get_close_matches(str(error["loc"][-1]), keys, n=1)
        hint = f"; did you mean {'.'.join([*section, near[0]])}?" if near else ""
        where = ".".join(section) or "the configuration"
        return f"{location} is not a key{hint} ({where} has: {', '.join(keys)})"
    if error["type"] == "value_error":
        cause = str(error["ctx"]["error"])
        return f"{location}: {cause}" if location else cause
    return f"{location}={error['input']!r} will not do: {error['msg'][0].lower()}{error['msg'][1:]}"


def _section(location: Sequence[str | int], model: type[BaseModel]) -> tuple[list[str], list[str]]:
    """Names of the valid keys at `location`."""
    path: list[str] = []
    for part in location:
        field = model.model_fields.get(str(part))
        if field is None or not isinstance(field.annotation, type) or not issubclass(field.annotation, BaseModel):
            break
        model = field.annotation
        path.append(str(part))
    return path, list(model.model_fields)
