"""The plan of a table: every cell is a run that could begin, and what a method is given is what it says."""

import json
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from graphdrl.bench import save_figures, science
from graphdrl.bench._cell_scores import ScoresSettings, by_rarity, derangement, spoilt
from graphdrl.bench._science_plan import TablePlan, best_rows
from graphdrl.bench._science_table import spread, write_table
from graphdrl.config import load_tree
from graphdrl.images.faces import NETWORK, NUISANCES
from graphdrl.methods import method_classes
from graphdrl.models import GEM, GEMConfig
from graphdrl.oracle import Scores
from graphdrl.relations import Edges, NodeMap

CONFIGS = Path(__file__).parents[2] / "configs" / "science"


def plan(name: str = "methods") -> TablePlan:
    return load_tree(CONFIGS / f"{name}.yaml", (), TablePlan)


def scores(num: int, num_attributes: int = 4) -> Scores:
    grades = np.random.default_rng(0).uniform(0, 5, (num, num_attributes)).astype(np.float32)
    ones = np.ones(num, np.float32)
    names = tuple("abcdefgh"[:num_attributes])
    ids = tuple(map(str, range(num)))
    return Scores(ids, names, grades, np.rint(grades).astype(np.int8), grades, ones, ones < 0, "data", "m", "1")


@pytest.mark.parametrize("name", sorted(path.stem for path in CONFIGS.glob("*.yaml")))
def test_every_cell_of_every_plan_is_a_run_that_could_begin(name: str) -> None:
    table = plan(name)
    for data in table.data:
        for row in [row for row, method in table.methods.items() if data == "faces" or method.everywhere]:
            for chosen in table.candidates(row):
                cell = table.cell(data, row, 0, chosen)
                config = cell.resolved(table.folder)
                assert config.name == f"{data}.{table.methods[row].same_as or row}.0"
                assert (config.oracle.num_scored > 0) == (cell.scores is not None)


def test_all_methods_are_in_the_table_and_no_seed_is_chosen_on() -> None:
    table = plan()
    assert set(table.methods) == set(method_classes())
    assert table.choosing.seed not in table.seeds


def test_every_method_sees_as_many_images_at_a_step_and_decorrelating_weights_are_gems_alone() -> None:
    table = plan()
    for row in table.methods:
        config = table.cell("faces", row, 0, table.candidates(row)[0]).resolved(table.folder)
        scored = config.training.pair_groups * config.training.group_size if table.methods[row].scored else 0
        assert config.training.batch_size + scored == 80, row
        assert row == "gem" or not table.methods[row].scored or not config.relations.decorrelate, row


def test_the_graph_that_dear_is_given_is_the_one_that_drew_the_faces() -> None:
    given = plan().methods["dear"].config["parameters"]["causes"]
    true = [[cause, effect] for cause, effect, _ in NETWORK.edges if not {cause, effect} & set(NUISANCES)]
    assert given == true


def test_a_cell_that_is_set_otherwise_is_another() -> None:
    table = plan()
    one, other = (table.cell("faces", "beta_vae", 0, {"parameters.beta": beta}) for beta in (2, 4))
    assert one.fingerprint() != other.fingerprint()
    assert one.fingerprint() == table.cell("faces", "beta_vae", 0, {"parameters.beta": 2}).fingerprint()


def test_what_the_images_are_chosen_by_comes_before_them() -> None:
    ablation = plan("ablation")
    cell = ablation.cell("faces", "chosen_by_graph", 1, {})
    assert cell.chooser(Path("runs")) == Path("runs/faces.scored_1000.1/model")
    assert ablation.cell("faces", "flipped_0", 1, {}) == ablation.cell("faces", "full", 1, {})


def test_rare_images_are_chosen_with_the_probability_that_is_said() -> None:
    weights = np.array([[0, 0.6], [0.6, 0]], np.float32)
    zeros, resolved = np.zeros((2, 2), np.float32), ~np.eye(2, dtype=bool)
    model = GEM(GEMConfig(image_size=32, num_latents=4, base_channels=4, attributes=("a", "b")))
    edges = Edges(("a", "b"), weights, zeros, zeros, resolved, weights, weights, "somers_d", 100)
    model.set_relations(edges, NodeMap.ranked(2))
    images = np.random.default_rng(0).integers(0, 256, (400, 32, 32, 3), np.uint8)
    at_random = np.arange(100)
    rows, probability = by_rarity(model, images, at_random, 50, seed=0)
    assert len(set(rows.tolist())) == 150
    assert (rows[:100] == at_random).all()
    assert probability.min() >= 0.25
    assert 100 < probability.sum() < 150
    assert probability[rows[100:]].mean() > probability.mean()


def test_flipped_grades_are_others_and_as_many_as_asked_for() -> None:
    before = scores(5_000)
    after = spoilt(before, ScoresSettings(flipped=0.2), seed=0)
    flipped = after.expected != before.expected
    assert flipped.mean() == pytest.approx(0.2, abs=0.01)
    assert (np.rint(after.expected)[flipped] != np.rint(before.expected)[flipped]).all()
    assert after.expected.min() >= 0
    assert after.expected.max() <= 5
    whole = spoilt(before, ScoresSettings(expected=False), seed=0)
    np.testing.assert_array_equal(whole.expected, before.argmax)


@pytest.mark.parametrize("seed", range(5))
def test_a_shuffled_graph_has_no_attribute_at_its_place(seed: int) -> None:
    order = derangement(10, seed)
    assert sorted(order) == list(range(10))
    assert (order != np.arange(10)).all()


def test_the_spread_over_seeds_worked_by_hand(tmp_path: Path) -> None:
    figures = [{"dci_d": 0.2, "name": "x"}, {"dci_d": 0.4, "name": "y"}, {"dci_d": 0.6, "name": "z"}]
    assert spread(figures) == {"dci_d": {"mean": pytest.approx(0.4), "std": pytest.approx(0.2)}}
    assert spread(figures[:1]) == {"dci_d": {"mean": 0.2, "std": 0.0}}


def test_the_best_rows_are_those_of_dci_and_mig_together() -> None:
    rows = {
        name: {"dci_d": {"mean": dci}, "mig": {"mean": mig}}
        for name, dci, mig in (("a", 0.5, 0.0), ("b", 0.3, 0.3), ("c", 0.1, 0.1))
    }
    assert best_rows(rows, ["a", "b", "c"], 2) == ["b", "a"]


def test_a_table_is_written_for_people_and_programs(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    table = plan()
    cells = [table.cell("faces", "vae", seed, {}) for seed in (0, 1)]
    costs = dict.fromkeys(
        ("parameters", "critic_parameters", "flops_per_image", "peak_memory_mib", "train_seconds", "images_trained"), 7
    )
    figures = {cell.name: {"dci_d": 0.1 * (n + 1), "mig": 0.1} | costs for n, cell in enumerate(cells)}
    told = {"images": "drawn faces", "supervision": "none", "chosen": {"parameters": {"beta": 2}, "training.steps": 9}}
    rows = {"faces": {"vae": spread(list(figures.values())) | told}}
    write_table({"faces": {"vae": cells}}, figures, rows, tmp_path)
    assert pq.read_table(tmp_path / "cells.parquet").column("dci_d").to_pylist() == [0.1, 0.2]
    table_text = (tmp_path / "table.md").read_text()
    assert "## faces\n\ndrawn faces\n" in table_text
    assert "| vae | none | 0.150 ± 0.071 | 0.100 ± 0.000 |" in table_text
    assert "| vae | beta 2, steps 9 | 7 |" in table_text
    assert (tmp_path / "table.svg").stat().st_size > 1_000


def test_an_unknown_key_of_a_plan_is_named() -> None:
    with pytest.raises(ValueError, match=r"sedes is not a key; did you mean seeds\?"):
        load_tree(CONFIGS / "methods.yaml", ["sedes=[0]"], TablePlan)
    with pytest.raises(ValidationError):
        ScoresSettings(flipped=1.5)


def test_a_part_of_a_table_can_be_asked_for() -> None:
    part = load_tree(CONFIGS / "methods.yaml", ["rows=[gem, vae]", "on=[faces]"], TablePlan)
    assert part.asked_rows == ["vae", "gem"]
    assert part.asked_data == ["faces"]
    assert plan().asked_data == ["faces", "avatars", "sprites", "solids"]
    with pytest.raises(ValueError, match="unknown rows gemm; there are: vae, "):
        load_tree(CONFIGS / "methods.yaml", ["rows=[gemm]"], TablePlan)
    with pytest.raises(ValueError, match="unknown data sets moons; there are: faces, "):
        load_tree(CONFIGS / "methods.yaml", ["on=[moons]"], TablePlan)


def test_settings_are_chosen_and_the_best_rows_go_elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def carried_out(cells, *_: object) -> dict[str, dict[str, float | str]]:
        good = {"hfs", "dip_vae_i", "ada_gvae"}
        worth = {
            cell.name: float(cell.row in good) + cell.config.get("parameters", {}).get("beta", 0) for cell in cells
        }
        return {name: {"dci_d": value, "mig": 0.1, "dci_backend": "fast"} for name, value in worth.items()}

    written: list[Path] = []
    monkeypatch.setattr(science, "carry_out", carried_out)
    monkeypatch.setattr(science, "write_table", lambda *given: written.append(given[-1]))
    table = science.table_of(plan(), lambda _: None, tmp_path)
    assert written == [tmp_path]
    assert set(table) == set(plan().data)
    assert set(table["faces"]) == set(method_classes())
    assert table["faces"]["beta_vae"]["chosen"] == {"parameters.beta": 8}
    assert table["faces"]["beta_vae"]["seeds"] == 3
    # beta_tc_vae's largest beta is 12; ada_gvae is as good as others but needs pairs, which only the faces have.
    assert list(table["sprites"])[:4] == ["gem", "gem_paper", "semi_beta_vae", "beta_vae"]
    assert list(table["sprites"])[4] == "beta_tc_vae"
    assert len(table["sprites"]) == 6
    assert "ada_gvae" not in table["sprites"]


def test_the_command_that_is_kept_has_what_was_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pyproject.toml").touch()
    path = save_figures("ablation", {"full": 1}, ["rows=[full, no_rank]"])
    assert json.loads(path.read_text())["command"] == "graphdrl bench ablation 'rows=[full, no_rank]' --save"
