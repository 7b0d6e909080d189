"""A search before it starts, and what is read from its trials' folders: no Ray needed."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from graphdrl.config import Config, SearchConfig, load_config
from jobs.search import at_once, check_search, datasets
from jobs.search_end import best_of, trial_rows
from jobs.trial_plan import TrialPlan
from jobs.trial_record import TrialRecord

SMALL = ("training.steps=40", "training.checkpoint_every=10", "data.num_images=400", "oracle.num_scored=100")


def search(space: dict[str, Any], **changes: Any) -> SearchConfig:
    return SearchConfig.model_validate({"space": space} | changes)


def base(runs: Path, *overrides: str) -> Config:
    return load_config(None, [f"runs={runs}", f"oracle.score_store={runs}/store", *SMALL, *overrides])


@pytest.mark.parametrize(
    ("space", "changes", "sentence"),
    [
        ({"training.learnin_rate": {"uniform": [0.1, 0.2]}}, {}, "did you mean training.learning_rate?"),
        ({"parameters.beta": {"uniform": [-1, 2]}}, {}, "beta"),
        ({"method": {"choice": ["gem", "gen"]}}, {}, "did you mean 'gem'?"),
        ({"relations.estimator": {"choice": ["nobody"]}}, {}, "nobody"),
        ({"name": {"choice": ["a"]}}, {}, "every trial gets its own"),
        ({"oracle.model": {"choice": ["builtin"]}}, {}, "all trials share one oracle"),
        ({"data.num_images": {"int": [100, 200]}}, {}, "list its values as choice"),
        ({"training.steps": {"choice": [40, 60]}}, {}, "take scheduler: none"),
        ({"training.checkpoint_every": {"choice": [10, 50]}}, {}, "there is none before the end"),
        ({"model.num_latents": {"int": [12, 24]}}, {"scheduler": "pbt", "algorithm": "random"}, "cannot change there"),
        (
            {"parameters.critic_weight": {"uniform": [0, 1]}},
            {"scheduler": "pbt", "algorithm": "random"},
            "start above 0",
        ),
    ],
)
def test_what_cannot_be_carried_through_is_said_first(
    tmp_path: Path, space: dict[str, Any], changes: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)):
        check_search(search(space, **changes), base(tmp_path))


def test_an_objective_with_labels_needs_images_with_labels(tmp_path: Path) -> None:
    from PIL import Image

    folder = tmp_path / "images"
    folder.mkdir()
    Image.new("RGB", (32, 32)).save(folder / "one.png")
    own = base(tmp_path, f"data.path={folder}", "attributes=[bald, beard]", "nodes=ranked")
    with pytest.raises(ValueError, match="take elbo, udr or oracle_disentanglement"):
        check_search(search({"parameters.beta": {"choice": [1, 2]}}), own)
    check_search(search({"parameters.beta": {"choice": [1, 2]}}, objective="elbo"), own)


def test_loss_weights_and_learning_rate_may_change_in_a_running_model(tmp_path: Path) -> None:
    space = {"training.learning_rate": {"loguniform": [1e-4, 1e-2]}, "parameters.rank_weight": {"choice": [10, 50]}}
    check_search(search(space, scheduler="pbt", algorithm="random"), base(tmp_path))


def test_trials_share_their_data_unless_the_search_changes_it(tmp_path: Path) -> None:
    same = search({"parameters.beta": {"choice": [1, 2]}, "oracle.num_scored": {"int": [40, 80]}})
    ((_, config),) = datasets(same, base(tmp_path)).items()
    assert config.oracle.num_scored == 80, "as many as the trial that wants most, not as many as without a search"
    two = search({"seed": {"choice": [0, 1]}, "data.num_images": {"choice": [300, 400]}})
    assert {(one.seed, one.data.num_images) for one in datasets(two, base(tmp_path)).values()} == {
        (seed, num) for seed in (0, 1) for num in (300, 400)
    }


ROOM: dict[str, Any] = {
    "worker_cpus": 0.5,
    "workers": 2,
    "worker_gpus": 0.0,
    "oracle_cpus": 0.0,
    "wanted": None,
    "trials": 8,
}


@pytest.mark.parametrize(
    ("node_cpus", "gpus", "changes", "fit"),
    [
        ([2.0], 0, {}, 2),
        ([2.0], 0, {"oracle_cpus": 0.5}, 1),
        ([2.0], 0, {"wanted": 1}, 1),
        ([64.0], 0, {}, 8),
        ([1.0, 1.0], 0, {"worker_cpus": 0.6}, 1),
        ([64.0], 4, {"worker_gpus": 1.0}, 2),
    ],
)
def test_as_many_trials_at_once_as_fit(node_cpus: list[float], gpus: float, changes: dict[str, Any], fit: int) -> None:
    assert at_once(node_cpus, gpus, **(ROOM | changes)) == fit


def test_what_does_not_fit_is_said_with_both_numbers() -> None:
    with pytest.raises(
        ValueError, match=re.escape("a trial takes 4 CPUs, the oracle 0.5 beside them, and there are 2 CPUs")
    ):
        at_once([2.0], 0, **(ROOM | {"worker_cpus": 2.0, "oracle_cpus": 0.5}))
    with pytest.raises(ValueError, match="3 at once as many times that"):
        at_once([2.0], 0, **(ROOM | {"wanted": 3}))


def test_values_that_were_changed_on_the_way_stay_between_their_ends(tmp_path: Path) -> None:
    plan = TrialPlan(
        folder=tmp_path,
        base=base(tmp_path).model_dump(mode="json"),
        objective="dci_d",
        listed={"parameters.beta": (1, 4)},
        ends={"training.learning_rate": (1e-4, 1e-2)},
        edges=None,
        asks=False,
        passes_models=True,
        nodes=(),
    )
    values = plan.values({"parameters.beta": 1, "training.learning_rate": 0.012})
    assert values == {"parameters.beta": 4, "training.learning_rate": 1e-2}
    config = plan.config("one", values)
    assert config.folder == tmp_path / "trials" / "one"
    assert (config.parameters["beta"], config.training.learning_rate) == (4, 1e-2)
    assert config.training.keep_checkpoints > 1_000, "another trial may go on from any of them"


def record(folder: Path, name: str, status: str, curve: list[tuple[int, float]], **values: Any) -> None:
    (folder / "trials" / name).mkdir(parents=True)
    made = TrialRecord(folder / "trials" / name)
    for step, value in curve:
        made.add_rung({"step": float(step), "mig": value, "elbo": -value})
    made.keep(values=values, status=status, error="it broke" if status == "failed" else "")


def test_rows_are_read_from_the_trials_folders(tmp_path: Path) -> None:
    record(tmp_path, "a", "finished", [(10, 0.1), (20, 0.3), (20, 0.2)], beta=1)
    record(tmp_path, "b", "stopped", [(10, 0.9)], beta=2)
    record(tmp_path, "c", "failed", [], beta=3)
    a, b, c = trial_rows(search({"parameters.beta": {"choice": [1]}}, objective="mig"), tmp_path)
    assert (a.objective, a.step, a.curve, a.metrics) == (0.2, 20, ((10, 0.1), (20, 0.2)), {"elbo": -0.2})
    assert (b.status, c.status, c.error, c.objective) == ("stopped", "failed", "it broke", None)
    best = best_of((a, b, c))
    assert best is not None
    assert best.name == "a", "one that was stopped had fewer steps"
    assert best_of((b, c)) is None


def test_steps_that_are_done_again_count_once(tmp_path: Path) -> None:
    record(tmp_path, "a", "running", [(10, 0.1), (20, 0.2), (30, 0.3), (20, 0.4)])
    (row,) = trial_rows(search({"parameters.beta": {"choice": [1]}}, objective="mig"), tmp_path)
    assert row.curve == ((10, 0.1), (20, 0.4))


def test_models_that_agree_are_ranked_before_the_one_that_does_not(tmp_path: Path) -> None:
    codes = np.random.default_rng(0).normal(size=(3, 300, 4))
    for number, name in enumerate("abc"):
        record(tmp_path, name, "finished", [(10, 0.0)])
        mine = codes[number] if name == "c" else codes[0][:, ::-1] if name == "b" else codes[0]
        np.savez(tmp_path / "trials" / name / "codes.npz", codes=mine, kl=np.ones(4))
    rows = trial_rows(
        search({"seed": {"choice": [1]}}, objective="udr", scheduler="none", algorithm="random"), tmp_path
    )
    scores = {row.name: row.objective for row in rows}
    assert min(scores["a"], scores["b"]) > scores["c"] + 0.2


def test_a_model_that_diverged_takes_no_part_in_the_ranking(tmp_path: Path) -> None:
    codes = np.random.default_rng(0).normal(size=(300, 4))
    for name in "abc":
        record(tmp_path, name, "finished", [(10, 0.0)])
        mine = np.full_like(codes, np.nan) if name == "b" else codes
        np.savez(tmp_path / "trials" / name / "codes.npz", codes=mine, kl=np.ones(4))
    rows = trial_rows(
        search({"seed": {"choice": [1]}}, objective="udr", scheduler="none", algorithm="random"), tmp_path
    )
    assert [row.objective == pytest.approx(1.0, abs=0.4) for row in rows] == [True, False, True]


def test_a_records_seconds_add_up_over_restarts(tmp_path: Path) -> None:
    (tmp_path / "trial.json").write_text(json.dumps({"values": {}, "status": "running", "error": "", "seconds": 100.0}))
    again = TrialRecord.read(tmp_path)
    assert again is not None
    again.keep(status="finished")
    assert 100.0 <= again.seconds < 110.0
