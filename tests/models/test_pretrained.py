"""A model survives its files, and damaged files are named in one sentence."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import graphdrl
from graphdrl.models import GEM, GEMConfig
from graphdrl.oracle.questions import RelateAnswer
from graphdrl.relations.edges import DoEdges, Edges, NodeMap


def build() -> GEM:
    torch.manual_seed(0)
    return GEM(GEMConfig(image_size=32, num_latents=5, attributes=("bald", "beard"), base_channels=4))


@pytest.fixture
def edges() -> Edges:
    weights = np.array([[0, 0.3], [-0.1, 0]], np.float32)
    low, high = weights - np.float32(0.05), weights + np.float32(0.05)
    measured = (("bald", "beard"), weights, low, high, weights > 0.2, weights, weights, "somers_d", 700)
    return Edges(*measured, partial_low=low, partial_high=high, partial_resolved=weights > 0.2)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    build().save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_what_is_loaded_is_what_was_saved(tmp_path: Path, edges: Edges) -> None:
    model, images = build(), torch.rand(3, 3, 32, 32)
    torch.nn.init.normal_(model.disgraph.learner.out.weight)
    model.set_relations(edges, NodeMap((3, 0), (-1, 1)))
    model.calibrate(images)
    model.save_pretrained(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"model.safetensors", "config.json", "relations.json"}

    loaded = graphdrl.GEM.from_pretrained(tmp_path)
    assert loaded.nodes == model.nodes == ("beard", "factor_1", "factor_2", "bald", "factor_4")
    assert not loaded.training
    assert torch.equal(loaded.reconstruct(images), model.reconstruct(images))
    assert torch.equal(
        loaded.edit(images, {"bald": 1}, propagate=True), model.edit(images, {"bald": 1}, propagate=True)
    )
    assert torch.equal(loaded.sample(2), model.sample(2))
    for name, value in vars(edges).items():
        np.testing.assert_array_equal(getattr(loaded.relations, name), value)


def test_do_edges_and_beliefs_are_stored_with_the_relations(tmp_path: Path, edges: Edges) -> None:
    effects = np.array([[0.9, 0.25], [np.nan, np.nan]], np.float32)
    moved = DoEdges(edges.attributes, effects, effects - 1, effects + 1, effects > 0.5, True, 2.0, 32, "a-grader")
    beliefs = RelateAnswer(edges.attributes, *(np.full((2, 2), x, np.float32) for x in (4, 1, 0.5)), "m", "p1", 4)
    model = build()
    model.set_relations(replace(edges, do=(moved,), beliefs=beliefs), NodeMap.ranked(2))
    model.save_pretrained(tmp_path)

    json.loads((tmp_path / "relations.json").read_text(), parse_constant=pytest.fail)  # NaN is no JSON
    loaded = GEM.from_pretrained(tmp_path).relations
    assert loaded.table() == model.relations.table()
    for stored, kept in ((moved, loaded.do[0]), (beliefs, loaded.beliefs)):
        for name, value in vars(stored).items():
            np.testing.assert_array_equal(getattr(kept, name), value)


@pytest.mark.parametrize("damage", [{"effects": [[1.0]]}, {"low": "none"}, {"deviations": None}])
def test_damaged_do_edges(tmp_path: Path, edges: Edges, damage: dict) -> None:
    effects = np.zeros((2, 2), np.float32)
    moved = DoEdges(edges.attributes, effects, effects, effects, effects > 0, True, 2.0, 32)
    model = build()
    model.set_relations(replace(edges, do=(moved,)), NodeMap.ranked(2))
    model.save_pretrained(tmp_path)
    record = json.loads((tmp_path / "relations.json").read_text())
    record["do"][0] |= damage
    (tmp_path / "relations.json").write_text(json.dumps(record))
    with pytest.raises(ValueError, match=r"relations\.json does not hold relations"):
        GEM.from_pretrained(tmp_path)


def test_relations_that_were_kept_without_intervals_of_partial_weights(tmp_path: Path, edges: Edges) -> None:
    model = build()
    model.set_relations(edges, NodeMap.ranked(2))
    model.save_pretrained(tmp_path)
    record = json.loads((tmp_path / "relations.json").read_text())
    earlier = {
        name: value for name, value in record.items() if "partial_" not in name and name not in ("do", "beliefs")
    }
    (tmp_path / "relations.json").write_text(json.dumps(earlier))
    loaded = GEM.from_pretrained(tmp_path).relations
    assert (loaded.partial_low, loaded.do, loaded.beliefs) == (None, (), None)
    np.testing.assert_array_equal(loaded.weights, edges.weights)


def test_saving_without_relations_leaves_none_of_an_earlier_model(tmp_path: Path, edges: Edges) -> None:
    model = build()
    model.set_relations(edges, NodeMap.ranked(2))
    model.save_pretrained(tmp_path)
    build().save_pretrained(tmp_path)
    assert GEM.from_pretrained(tmp_path).relations is None


def test_a_folder_without_a_model(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds no model: config\.json is missing"):
        GEM.from_pretrained(tmp_path)


def test_damaged_weights(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"model\.safetensors is damaged"):
        GEM.from_pretrained(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_latents": 6}, "where the config says"),
        ({"num_latents": 10**9}, "num_latents: Input should be less than"),
        ({"latents": 5}, "latents: Extra inputs"),
        ({"format": 99}, "not a model of format 1"),
    ],
)
def test_a_config_that_does_not_belong_to_the_weights(folder: Path, change: dict, message: str) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ValueError, match=message):
        GEM.from_pretrained(folder)


@pytest.mark.parametrize("text", ["{", "[1]", "[" * 100_000])
def test_a_config_that_is_no_json_object(folder: Path, text: str) -> None:
    (folder / "config.json").write_text(text)
    with pytest.raises(ValueError, match=r"config\.json"):
        GEM.from_pretrained(folder)


def test_weights_of_another_model(folder: Path) -> None:
    save_file({"strange": torch.zeros(1)}, folder / "model.safetensors")
    with pytest.raises(ValueError, match="it does not belong to the config"):
        GEM.from_pretrained(folder)


@pytest.mark.parametrize("record", [{}, {"attributes": ["bald", "beard"], "weights": [[0]]}])
def test_relations_that_are_none(folder: Path, record: dict) -> None:
    (folder / "relations.json").write_text(json.dumps(record))
    with pytest.raises(ValueError, match=r"relations\.json does not hold relations"):
        GEM.from_pretrained(folder)
