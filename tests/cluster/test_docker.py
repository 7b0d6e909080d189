"""The Dockerfile, read: it copies what an installation needs and nothing else, and ends as nobody in particular."""

import fnmatch
import re
import tomllib
from pathlib import Path

from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "cluster" / "docker" / "Dockerfile"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def instructions() -> list[tuple[str, str]]:
    """Each instruction of the file and what it is given, continued lines joined."""
    lines = [line for line in DOCKERFILE.read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ").splitlines()
    return [(words[0], words[1]) for line in joined if len(words := line.split(maxsplit=1)) == 2]


def given(name: str) -> list[str]:
    return [words for instruction, words in instructions() if instruction == name]


def copied() -> set[str]:
    return {source for words in given("COPY") for source in words.split()[:-1]}


def test_it_stands_on_an_official_image_with_a_python_that_will_do() -> None:
    (image,) = given("FROM")
    found = re.fullmatch(r"python:(\d+\.\d+)-slim-\w+", image)
    assert found, "no registry, no owner"
    assert SpecifierSet(PROJECT["requires-python"]).contains(found[1])


def test_both_kinds_are_extras_of_the_project() -> None:
    assert "EXTRA=cpu" in given("ARG")
    (install,) = [words for words in given("RUN") if "pip install" in words]
    (kinds,) = re.findall(r"case \"\$EXTRA\" in (.+?)\)", install)
    (extras,) = re.findall(r"\"\.\[\$EXTRA,([\w,-]+)\]\"", install)
    assert {kind.strip() for kind in kinds.split("|")} == {"cpu", "cuda"}
    assert {"cpu", "cuda", *extras.split(",")} <= set(PROJECT["optional-dependencies"])


def test_it_copies_what_there_is_and_all_that_is_installed() -> None:
    assert all((ROOT / source).exists() for source in copied())
    assert {path.parent.name for path in ROOT.glob("*/__init__.py")} | {"pyproject.toml", "configs"} <= copied()
    assert PROJECT["readme"] in copied()


def test_nothing_else_is_sent_to_the_builder() -> None:
    ignore = DOCKERFILE.with_name("Dockerfile.dockerignore").read_text().splitlines()
    rules = [line for line in ignore if line and not line.startswith("#")]
    assert rules[0] == "*"
    assert {rule[1:] for rule in rules if rule.startswith("!")} == copied()
    assert any(fnmatch.fnmatch("**/__pycache__", rule) for rule in rules)


def test_it_ends_as_the_user_that_the_pods_run_as() -> None:
    assert given("USER")[-1] == "graphdrl"
    (create,) = re.findall(r"useradd --uid (\d+) --create-home graphdrl", " ".join(given("RUN")))
    cluster = (ROOT / "cluster" / "kuberay" / "base" / "cluster.yaml").read_text()
    assert f"runAsUser: {create}" in cluster


def test_ray_asks_for_a_token_in_it() -> None:
    assert "RAY_AUTH_MODE=token" in " ".join(given("ENV"))
