"""The configuration: closed, typed, and every mistake one sentence that names the way out."""

import subprocess
import sys
from pathlib import Path

import pytest

from graphdrl.config import ConfigError, dump_config, load_config

CONFIGS = Path(__file__).parents[2] / "configs"


RUNS = sorted(path for path in CONFIGS.rglob("*.yaml") if path.parent.name not in ("tune", "science"))


@pytest.mark.parametrize("path", RUNS, ids=lambda path: path.stem)
def test_every_shipped_config_parses(path: Path) -> None:
    load_config(path)


def test_what_is_dumped_is_loaded_again(tmp_path) -> None:
    config = load_config(None, ["training.steps=7", "attributes=[bald, beard]", "data.source=avatars"])
    path = tmp_path / "config.yaml"
    path.write_text(dump_config(config))
    assert load_config(path) == config


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("training.step=5", r"training\.step is not a key; did you mean training\.steps\?"),
        ("metod=gem", r"metod is not a key; did you mean method\?"),
        ("training.steps=0", r"training\.steps=0 will not do: .*greater than or equal to 1"),
        ("training.steps=many", r"training\.steps='many' will not do"),
        ("method=gen", r"unknown method 'gen'; did you mean 'gem'\?"),
        ("parameters={bta: 4}", "bta"),
        ("data.image_size=60", "image_size must be a power of two, not 60"),
        ("data.source=folder", r"data\.path=DIR"),
        ("training.steps", "is not an override; write key=value"),
        ("name.x=1", "name"),
        ("training.backend=local", r"oracle\.engine: transformers"),
    ],
)
def test_a_mistake_is_one_sentence_with_the_way_out(override: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence) as caught:
        load_config(None, [override])
    assert "\n" not in str(caught.value)


def test_a_path_alone_means_a_folder_of_images(tmp_path) -> None:
    config = load_config(None, [f"data.path={tmp_path}"])
    assert (config.data.source, config.data.num_test, config.data.num_images) == ("folder", 0, None)


def test_a_missing_file_is_named() -> None:
    with pytest.raises(ConfigError, match=r"there is no config file nowhere\.yaml"):
        load_config("nowhere.yaml")


def test_the_tree_alone_does_not_load_torch() -> None:
    script = "import graphdrl.config, sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True)
