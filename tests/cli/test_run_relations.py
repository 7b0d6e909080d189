"""`graphdrl relations RUN`: the table of what a run's model knows, and its nodes moved on demand."""

import sys
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager

import numpy as np
import pytest
import torch

from graphdrl.cli import main
from graphdrl.config import dump_config, load_config
from graphdrl.images.ids import image_ids
from graphdrl.models import GEM, GEMConfig
from graphdrl.oracle import Answer, Question
from graphdrl.relations import DO_MEANING, Edges, NodeMap
from graphdrl.training import Run

NAMES = ("bald", "age", "hat")


class Grades:
    """Any function of the pixels will do; remembers how many images it saw."""

    num_images = 0

    def submit(self, question: Question) -> "Future[Answer]":
        mean = question.images.mean(axis=(1, 2)) / 255
        expected = np.clip(5 * mean[:, : len(question.attributes)], 0, 5).astype(np.float32)
        self.num_images += len(expected)
        nothing = np.zeros(expected.shape, bool)
        grades = (expected, np.rint(expected).astype(np.int8), 0 * expected, nothing, nothing[:, 0])
        future: Future[Answer] = Future()
        future.set_result(Answer(image_ids(question.images), question.attributes, *grades, "m", "p", expected.size))
        return future


@pytest.fixture
def oracle(monkeypatch: pytest.MonkeyPatch) -> Grades:
    grades = Grades()

    @contextmanager
    def opened(*_: object) -> Iterator[Grades]:
        yield grades

    monkeypatch.setattr("jobs.open_oracle", opened)
    return grades


@pytest.fixture
def run(tmp_path) -> Run:
    """A run of three attributes as a training would have left it, as far as relations go."""
    small = ("data.image_size=32", "data.num_images=64", "model.num_latents=6", f"attributes=[{', '.join(NAMES)}]")
    config = load_config(None, [f"runs={tmp_path}", "name=small", *small])
    run = Run(config.folder)
    run.create()
    run.config.write_text(dump_config(config))
    torch.manual_seed(0)
    model = GEM(GEMConfig(image_size=32, num_latents=6, attributes=NAMES, base_channels=4))
    weights = np.array([[0, 0.5, 0.25], [0.25, 0, 0], [0.125, 0, 0]], np.float32)
    edges = Edges(NAMES, weights, weights - 0.125, weights + 0.125, weights > 0.2, weights, weights, "somers_d", 1234)
    model.set_relations(edges, NodeMap.ranked(3))
    model.save_pretrained(run.model)
    return run


def graphdrl(monkeypatch: pytest.MonkeyPatch, *words: object, ends: int = 0) -> None:
    monkeypatch.setattr(sys, "argv", ["graphdrl", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert (ended.value.code or 0) == ends


def test_the_table_shows_both_directions_and_quotes_no_sign_of_what_is_unresolved(
    run: Run, oracle: Grades, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    graphdrl(monkeypatch, "relations", run.folder)
    said = capsys.readouterr().out
    [bald_age] = [line for line in said.splitlines() if "bald - age" in line]
    assert "+0.50 [+0.38, +0.62]" in bald_age
    assert "+0.25 [+0.12, +0.38]" in bald_age
    [bald_hat] = [line for line in said.splitlines() if "bald - hat" in line]
    assert "unresolved [+0.00, +0.25]" in bald_hat
    assert "1,234 images scored" in said
    assert "partial" in said
    assert "do:" not in said
    assert oracle.num_images == 0


def test_nodes_are_moved_once_and_their_effects_stay_with_the_run(
    run: Run, oracle: Grades, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    graphdrl(monkeypatch, "relations", run.folder, "--do")
    moved = capsys.readouterr().out
    assert oracle.num_images == 2 * 2 * 48 * 3
    assert DO_MEANING in moved
    assert moved.count("do: propagated") == moved.count("do: alone") == 3

    graphdrl(monkeypatch, "relations", run.folder)
    assert capsys.readouterr().out == moved
    assert oracle.num_images == 2 * 2 * 48 * 3
    kept = GEM.from_pretrained(run.model).relations.do
    assert [one.propagate for one in kept] == [False, True]


def test_what_cannot_be_shown_is_said_in_one_sentence(
    run: Run, tmp_path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    graphdrl(monkeypatch, "relations", run.folder, "--beliefs", ends=1)
    assert "has no commonsense to be asked for" in capsys.readouterr().err
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    graphdrl(monkeypatch, "relations", pictures, "--attributes", "a,b", "--do", ends=1)
    assert f"{pictures} is no run" in capsys.readouterr().err.replace("\n", "")
    graphdrl(monkeypatch, "relations", pictures, ends=1)
    assert "0 attributes were given and 2 or more are needed" in capsys.readouterr().err
    (run.model / "relations.json").unlink()
    graphdrl(monkeypatch, "relations", run.folder, ends=1)
    assert "knows no relations" in capsys.readouterr().err
