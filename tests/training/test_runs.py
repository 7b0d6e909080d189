"""The layout of a run on disk: what is written is read back, and what a kill cut short does not count."""

import pickle
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest

from graphdrl.oracle import Scores
from graphdrl.relations import RelationsVersion
from graphdrl.training import Run
from graphdrl.training.runs import append_line

WITH_INTERVALS = ("partial_low", "partial_high", "partial_resolved")


def assert_same_version(first: RelationsVersion, second: RelationsVersion) -> None:
    for name in ("weights", "low", "high", "resolved", "strength", "partial", *WITH_INTERVALS):
        np.testing.assert_array_equal(getattr(first.edges, name), getattr(second.edges, name))
    for name in ("expected", "argmax", "entropy", "inclusion_probability", "flagged"):
        np.testing.assert_array_equal(getattr(first.scores, name), getattr(second.scores, name))
    np.testing.assert_array_equal(first.sample_weights, second.sample_weights)
    plain = ("version", "key", "node_map", "effective_sample_size", "notes")
    assert [getattr(first, name) for name in plain] == [getattr(second, name) for name in plain]
    assert first.edges.attributes == second.edges.attributes
    assert (first.scores.image_ids, first.scores.model) == (second.scores.image_ids, second.scores.model)


def test_a_version_comes_back_from_disk_as_it_went(tmp_path, version) -> None:
    run = Run(tmp_path)
    run.write_version(version)
    assert run.versions() == [2]
    assert_same_version(run.read_version(2), version)


def test_intervals_of_partial_weights_come_back_too(tmp_path, version) -> None:
    bounds = {name: version.edges.weights > 0 if "res" in name else version.edges.weights for name in WITH_INTERVALS}
    measured = replace(version, edges=replace(version.edges, **bounds))
    run = Run(tmp_path)
    run.write_version(measured)
    kept = run.read_version(2)
    assert_same_version(kept, measured)
    assert kept.edges.partial_resolved.dtype == bool


def test_a_version_comes_back_from_another_process_as_it_went(version) -> None:
    assert_same_version(pickle.loads(pickle.dumps(version)), version)


def test_the_relations_table_names_both_ends_of_every_edge(tmp_path, version) -> None:
    run = Run(tmp_path)
    run.write_version(version)
    rows = pq.read_table(run.version_folder(2) / "relations.parquet").to_pylist()
    row = next(row for row in rows if (row["source"], row["target"]) == ("bald", "beard"))
    assert row["weight" if "weight" in row else "weights"] == pytest.approx(float(version.edges.weights[0, 1]))


def test_an_absent_version_is_named(tmp_path, version) -> None:
    run = Run(tmp_path)
    run.write_version(version)
    with pytest.raises(ValueError, match=r"no relations version 7; it has \[2\]"):
        run.read_version(7)


def test_only_a_complete_checkpoint_counts(tmp_path) -> None:
    run = Run(tmp_path)
    for step in (10, 20):
        run.checkpoint(step).mkdir(parents=True)
    (run.checkpoint(10) / "state.json").write_text("{}")
    assert run.last_checkpoint() == run.checkpoint(10)


def test_the_newest_checkpoints_are_kept(tmp_path) -> None:
    run = Run(tmp_path)
    for step in (10, 20, 30):
        run.checkpoint(step).mkdir(parents=True)
        (run.checkpoint(step) / "state.json").write_text("{}")
    run.keep_checkpoints(2)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["step_00000020", "step_00000030"]


def test_an_older_checkpoint_that_a_kill_left_half_written_goes(tmp_path) -> None:
    run = Run(tmp_path)
    for step in (10, 20, 30):
        run.checkpoint(step).mkdir(parents=True)
    (run.checkpoint(20) / "state.json").write_text("{}")
    run.keep_checkpoints(2)
    left = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert left == ["step_00000020", "step_00000030"], "the newest may still be being written"


def test_of_a_step_that_was_done_again_the_later_row_counts(tmp_path) -> None:
    run = Run(tmp_path)
    for step, loss in ((1, 1.0), (2, 2.0), (2, 3.0)):
        append_line(run.metrics, {"step": step, "loss": loss})
    with run.metrics.open("a") as file:
        file.write('{"step": 3, "lo')  # killed while writing
    assert [(row["step"], row["loss"]) for row in run.read_metrics()] == [(1, 1.0), (2, 3.0)]


def test_what_lies_beyond_the_step_that_a_run_resumes_from_is_forgotten(tmp_path) -> None:
    run = Run(tmp_path)
    for step in (5, 10, 15):
        append_line(run.metrics, {"step": step, "loss": float(step)})
    for step, version in ((4, 1), (10, 2)):
        append_line(run.schedule, {"step": step, "version": version})
    run.forget_after(10)
    assert [row["step"] for row in run.read_metrics()] == [5, 10]
    assert run.read_schedule() == [(4, 1)], "the version of step 10 was taken after the checkpoint of 10 steps"
    run.forget_after(0)
    assert run.read_metrics() == run.read_schedule() == []


def test_scores_are_one_row_an_image(tmp_path, scores: Scores) -> None:
    run = Run(tmp_path)
    run.write_scores(scores)
    table = pq.read_table(run.scores / "scores.parquet")
    assert table.num_rows == len(scores)
    np.testing.assert_array_equal(table["expected:beard"].to_numpy(), scores.expected[:, 1])
