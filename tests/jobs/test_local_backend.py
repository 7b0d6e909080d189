"""The whole job in one process, without Ray, DeepSpeed and vLLM: repeatable, resumable, on anybody's images."""

import shutil
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_jobs import Finished, ReadyOracle, brightness, colours, losses, put_oracle, run_job, tiny

import graphdrl
from graphdrl.images.sources.avatars import write_folder
from graphdrl.oracle import Ask, NameAnswer, NameQuestion
from graphdrl.training import Run
from jobs import begin, resume


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def trained(runs: Path) -> Finished:
    with put_oracle(colours):
        return run_job(begin(tiny(runs)))


def cut_short(run: Run, name: str, step: int) -> Run:
    """A copy of a finished run as a kill would have left it, some time after its checkpoint at `step`."""
    copy = Run(shutil.copytree(run.folder, run.folder.with_name(name)))
    for folder in copy.folder.glob("checkpoints/step_*"):
        if int(folder.name.removeprefix("step_")) > step:
            shutil.rmtree(folder)
    shutil.rmtree(copy.model)
    copy.summary.unlink()
    copy.report.unlink()
    return copy


def test_a_run_leaves_all_that_is_promised(trained: Finished) -> None:
    run, summary = trained.run, trained.summary
    assert summary == run.read_summary()
    assert (summary["steps"], summary["images_scored"], summary["backend"]) == (24, 96, "local")
    assert summary["edge_versions"] == len(run.versions()) == len(run.read_schedule())
    assert run.read_version(run.versions()[-1]).edges.num_scored == 96
    assert graphdrl.GEM.from_pretrained(run.model).relations is not None
    assert run.report.stat().st_size > 10_000


def test_two_runs_with_the_same_seed_have_equal_losses(runs: Path, trained: Finished) -> None:
    with put_oracle(colours):
        again, other = run_job(begin(tiny(runs))), run_job(begin(tiny(runs, "seed=1")))
    assert again.run.name == "run-2"
    assert losses(again.run) == losses(trained.run)
    assert losses(other.run) != losses(trained.run)


def test_a_resumed_run_ends_as_if_it_had_never_been_cut(trained: Finished) -> None:
    copy = cut_short(trained.run, "resumed", 12)
    with put_oracle(colours):
        finished = run_job(resume(copy.folder))
    assert [row["step"] for row in losses(copy)] == [row["step"] for row in losses(trained.run)]
    for again, before in zip(losses(copy), losses(trained.run), strict=True):
        assert again == pytest.approx(before, abs=1e-6)
    assert copy.read_schedule() == trained.run.read_schedule()
    assert finished.summary["images_scored"] == 96
    assert finished.summary["images_trained"] == trained.summary["images_trained"]


def test_a_run_that_was_cut_before_its_first_checkpoint_begins_anew(trained: Finished) -> None:
    copy = cut_short(trained.run, "begun", 0)
    shutil.rmtree(copy.folder / "edges")
    with put_oracle(colours):
        run_job(resume(copy.folder))
    assert losses(copy) == losses(trained.run)


def test_a_replayed_schedule_repeats_the_losses_and_asks_nobody(runs: Path, trained: Finished) -> None:
    with put_oracle(colours) as opened:
        replayed = run_job(begin(tiny(runs, "name=replayed"), replay=trained.run.folder))
        assert losses(replayed.run) == losses(trained.run)
        copy = cut_short(replayed.run, "replayed-resumed", 12)
        run_job(resume(copy.folder))
    assert losses(copy) == losses(trained.run)
    assert replayed.run.read_schedule() == trained.run.read_schedule()
    assert not opened


def test_beta_vae_trains_beside_the_oracle_without_a_graph(runs: Path) -> None:
    with put_oracle(colours):
        finished = run_job(begin(tiny(runs, "name=beta", "method=beta_vae", "parameters={beta: 4}")))
    rows = finished.run.read_metrics()
    assert {"total", "reconstruction", "kl"} <= rows[-1].keys()
    assert "rank" not in rows[-1]
    assert finished.summary["edge_versions"] >= 1


def test_without_an_oracle_there_are_no_relations_and_the_model_trains(runs: Path) -> None:
    finished = run_job(begin(tiny(runs, "name=alone", "oracle.engine=none", "data.num_test=120")))
    assert finished.summary["edge_versions"] == finished.summary["questions_asked"] == 0
    assert finished.summary["metrics"].keys() >= {"dci_d", "mig", "reconstruction_mse"}
    assert finished.run.report.exists()


def test_discovered_dimensions_are_named_after_what_moves(runs: Path) -> None:
    overrides = (
        "name=discovered",
        "nodes=discovered",
        "attributes=[skin, hat]",
        "training.steps=200",
        "naming.at=[0.75]",
    )
    with put_oracle(brightness):
        run = run_job(begin(tiny(runs, *overrides, "parameters={critic_weight: 0}"))).run
    named = {node["name"]: node for node in run.read_nodes()}
    model = graphdrl.GEM.from_pretrained(run.model)
    assert "skin" in named
    assert "hat" not in named
    assert model.nodes[named["skin"]["dimension"]] == "skin"
    darker, lighter = model.traverse(np.full((1, 32, 32, 3), 128, np.uint8), "skin", (-2.0, 2.0))[0]
    assert lighter.mean() > darker.mean() + 0.05


class WordyOracle(ReadyOracle):
    """Has one word for whatever it is shown."""

    def submit(self, question: Ask) -> Future:
        if not isinstance(question, NameQuestion):
            return super().submit(question)
        num = len(question.strips)
        future: Future = Future()
        future.set_result(NameAnswer(("mood",) * num, np.full(num, -1, np.int8), "wordy", "p1", num))
        return future


def test_dimensions_in_the_models_own_words_are_in_the_summary_and_on_the_page(runs: Path) -> None:
    config = tiny(runs, "name=in-words", "nodes=discovered", "attributes=[skin, hat]", "naming.at=[0.5]")
    # The local oracle has no words, so no configuration asks it for them; this one, in its place, has.
    config = config.model_copy(update={"naming": config.naming.model_copy(update={"words": True})})
    with put_oracle(brightness, WordyOracle):
        finished = run_job(begin(config))
    nodes = finished.run.read_nodes()
    unnamed = [node["name"] for node in nodes if node["name"].startswith("factor_")]
    assert len(unnamed) >= 10
    called = finished.summary["named_in_words"]
    assert list(called) == unnamed
    assert set(called.values()) == {"mood", *(f"mood_{number}" for number in range(2, len(unnamed) + 1))}
    assert "in the model&#39;s words: mood_3 fades, on 100% of the images" in finished.run.report.read_text()
    assert graphdrl.GEM.from_pretrained(finished.run.model).nodes == tuple(node["name"] for node in nodes)


def test_the_local_oracle_is_not_asked_for_words(runs: Path) -> None:
    with pytest.raises(ValueError, match=r"naming.words: true needs oracle.engine: vllm"):
        tiny(runs, "nodes=discovered", "naming.words=true")


def test_a_folder_of_own_images_trains_and_counts_and_lists_what_was_skipped(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "portraits"
    paths = write_folder(folder, 150, 48, seed=5)
    (folder / "torn.png").write_bytes(paths[0].read_bytes()[:200])
    (folder / "notes.txt").write_text("not an image")
    shutil.copy(paths[1], folder / "twice.png")
    with put_oracle(colours) as opened:
        finished = run_job(begin(tiny(tmp_path / "runs", f"data.path={folder}", "attributes=[beard, glasses]")))
    assert (finished.summary["images"], finished.summary["images_skipped"]) == (150, 2)
    listed = sorted(line for line in caplog.messages if line.startswith("skipped"))
    assert listed[0].startswith("skipped torn.png: ")
    assert listed[1].startswith("skipped twice.png: shows the same as")
    assert opened[0].num_images == finished.summary["images_scored"] == 96
    assert finished.summary["relations"]["resolved"] >= 0
    assert "metrics" not in finished.summary
    model = graphdrl.GEM.from_pretrained(finished.run.model)
    assert model.nodes[:2] == ("beard", "glasses")
    own = np.asarray(Image.open(paths[3]).convert("RGB").resize((32, 32)))
    assert model.edit(own[None], {"beard": 2.0}).shape == (1, 3, 32, 32)
