"""What a search is: typed, closed, and every mistake said in a sentence."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from graphdrl.config import ConfigError, dump_search, load_config, load_search, with_values

SHIPPED = sorted((Path(__file__).parents[2] / "configs" / "tune").glob("*.yaml"))


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def write(**changes: Any) -> Path:
        tree = {"space": {"parameters.beta": {"choice": [1, 4]}}} | changes
        path = tmp_path / "search.yaml"
        path.write_text(yaml.safe_dump({key: value for key, value in tree.items() if value is not None}))
        return path

    return write


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_every_shipped_search_is_read(path: Path) -> None:
    search = load_search(path)
    assert search.space
    assert search.config is not None
    assert (path.parents[2] / search.config).exists()


def test_a_search_is_written_and_read_again(write: Any, tmp_path: Path) -> None:
    search = load_search(
        write(space={"training.learning_rate": {"loguniform": ["1e-4", 1e-2]}, "seed": {"choice": [0]}})
    )
    (tmp_path / "again.yaml").write_text(dump_search(search))
    assert load_search(tmp_path / "again.yaml") == search
    assert search.space["training.learning_rate"].values == (1e-4, 1e-2), "YAML reads 1e-4 as text"


def test_overrides_are_of_the_search_or_else_of_the_run(write: Any) -> None:
    search = load_search(
        write(overrides={"training.steps": 10}), ["num_trials=3", "training.steps=20", "runs=elsewhere"]
    )
    assert search.num_trials == 3
    assert search.overrides == {"training.steps": 20, "runs": "elsewhere"}


def test_a_grid_has_as_many_trials_as_combinations(write: Any) -> None:
    space = {"parameters.beta": {"grid": [1, 2]}, "seed": {"choice": [0, 1, 2]}}
    assert load_search(write(space=space, algorithm="grid")).most_trials == 6


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"space": {}}, "the search has no space"),
        ({"num_trials": 0}, "num_trials=0 will not do"),
        ({"objektive": "mig"}, "did you mean objective?"),
        ({"space": {"parameters.beta": {"unifrom": [1, 2]}}}, "is no dimension; write one of choice, grid"),
        ({"space": {"parameters.beta": {"uniform": [2, 1]}}}, "the lower one first"),
        ({"space": {"parameters.beta": {"uniform": ["a", "b"]}}}, "between two numbers"),
        ({"space": {"parameters.beta": {"loguniform": [0, 1]}}}, "starts above 0"),
        ({"space": {"parameters.beta": {"choice": []}}}, "list one at least"),
        ({"space": {"parameters.beta": {"uniform": [1, 2]}}, "algorithm": "grid"}, "tries every value"),
        ({"space": {"parameters.beta": {"grid": [1, 2]}}}, "grid needs algorithm: grid"),
        ({"algorithm": "grid", "num_trials": 5}, "not the 2 combinations"),
        ({"scheduler": "pbt"}, "needs algorithm: random"),
        ({"objective": "udr"}, "take scheduler: none"),
    ],
)
def test_a_mistake_is_one_sentence(write: Any, changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        load_search(write(**changes))


def test_values_of_dotted_keys_make_a_checked_configuration() -> None:
    config = with_values(load_config(None), {"training.learning_rate": 0.01, "parameters.beta": 4, "seed": 3})
    assert (config.training.learning_rate, config.parameters, config.seed) == (0.01, {"beta": 4}, 3)
    with pytest.raises(ConfigError, match=re.escape("did you mean training.learning_rate?")):
        with_values(config, {"training.learnin_rate": 0.01})
    with pytest.raises(ConfigError, match="seed is a value"):
        with_values(config, {"seed.of": 1})
