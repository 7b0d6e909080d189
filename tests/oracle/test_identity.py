"""A model's key changes with its weights, and a wrong path is named before anything starts."""

import pytest

from graphdrl.oracle import identity
from graphdrl.oracle.identity import model_folder, model_key


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(bytes(100))
    return tmp_path


def test_other_weights_are_another_model(folder):
    before = model_key(str(folder))
    assert before.startswith(f"{folder.name}-")
    assert model_key(str(folder)) == before
    (folder / "notes.txt").write_text("not part of the model")
    assert model_key(str(folder)) == before
    (folder / "model.safetensors").write_bytes(bytes(99) + b"1")
    assert model_key(str(folder)) != before


def test_large_weights_are_told_apart_by_size_and_ends(folder, monkeypatch):
    monkeypatch.setattr(identity, "_HASHED_WHOLE", 50)
    monkeypatch.setattr(identity, "_PART", 10)
    before = model_key(str(folder))
    for changed in (bytes(101), b"1" + bytes(99), bytes(99) + b"1"):
        (folder / "model.safetensors").write_bytes(changed)
        assert model_key(str(folder)) != before


def test_a_hub_name_is_its_own_key():
    assert model_key("Somebody/Some-Model") == "Somebody/Some-Model"
    assert model_key("Somebody/Some-Model", "abc") == "Somebody/Some-Model@abc"


def test_a_path_without_a_model_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"holds no config\.json"):
        model_folder(str(tmp_path))
    for missing in (str(tmp_path / "missing"), "./missing", "a/b/c"):
        with pytest.raises(ValueError, match="there is no folder"):
            model_folder(missing)
