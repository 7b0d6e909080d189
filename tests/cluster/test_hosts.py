"""The file for `ray up` is one that Ray's own launcher takes, and what it names is there."""

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from graphdrl.distributed.placement import ORACLE_POOL, TRAINER_POOL

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def config() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "cluster" / "hosts" / "cluster.yaml").read_text())


def test_rays_launcher_takes_it(config: dict[str, Any]) -> None:
    prepared = prepare_config(config)
    validate_config(prepared)
    (node_type,) = prepared["available_node_types"].values()
    assert node_type["min_workers"] == node_type["max_workers"] == len(config["provider"]["worker_ips"])


def test_a_slip_of_the_pen_is_noticed(config: dict[str, Any]) -> None:
    with pytest.raises(Exception, match="head_start_ray_command"):
        validate_config(prepare_config(config | {"head_start_ray_command": []}))


def test_what_it_copies_is_there_and_is_all_that_an_installation_needs(config: dict[str, Any]) -> None:
    copied = {Path(local) for remote, local in config["file_mounts"].items() if remote.startswith("~/graphdrl/")}
    assert all((ROOT / local).exists() for local in copied)
    packages = {path.parent.relative_to(ROOT) for path in ROOT.glob("*/__init__.py")}
    assert packages | {Path("pyproject.toml"), Path("Makefile"), Path("README.md"), Path("configs")} <= copied
    assert all(Path(remote).name == Path(local).name for remote, local in config["file_mounts"].items())


def test_it_starts_closed(config: dict[str, Any]) -> None:
    assert config["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    (head,) = [line for line in config["head_start_ray_commands"] if "ray start" in line]
    (worker,) = [line for line in config["worker_start_ray_commands"] if "ray start" in line]
    assert "RAY_AUTH_MODE=token" in head
    assert "RAY_AUTH_MODE=token" in worker
    assert "--dashboard-host=127.0.0.1" in head


def test_a_split_training_finds_its_pools(config: dict[str, Any]) -> None:
    for pool, commands in ((ORACLE_POOL, "head_start_ray_commands"), (TRAINER_POOL, "worker_start_ray_commands")):
        words = shlex.split(config[commands][-1])
        (resources,) = [word.removeprefix("--resources=") for word in words if word.startswith("--resources=")]
        assert json.loads(resources) == {pool: 1}
