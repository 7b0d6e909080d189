"""Small jobs in this process, and an oracle that answers at once."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from graphdrl.config import Config, load_config
from graphdrl.images.ids import image_ids
from graphdrl.oracle import Answer, Question, load_prompt, model_key
from graphdrl.training import Run
from jobs import Finished, Start, train

Grades = Callable[[np.ndarray, tuple[str, ...]], np.ndarray]
"""(images uint8 [B, S, S, 3], attributes) -> expected grades [B, K] in 0..5."""

TINY = (
    "training.backend=local",
    "oracle.engine=transformers",
    "data.image_size=32",
    "data.num_images=192",
    "data.num_test=0",
    "oracle.num_scored=96",
    "relations.update_at=[48]",
    "relations.num_bootstrap=20",
    "model.num_latents=12",
    "training.steps=24",
    "training.batch_size=16",
    "training.pair_groups=2",
    "training.group_size=6",
    "training.log_every=4",
    "training.checkpoint_every=12",
)


class ReadyOracle:
    """Complete and without a model: every question is answered before `submit` returns."""

    def __init__(self, grades: Grades) -> None:
        self._grades = grades
        self.num_images = 0
        self.is_closed = False

    def submit(self, question: Question) -> "Future[Answer]":
        future: Future[Answer] = Future()
        expected = self._grades(question.images, question.attributes).astype(np.float32)
        self.num_images += len(expected)
        future.set_result(
            Answer(
                image_ids(question.images),
                question.attributes,
                expected,
                np.rint(expected).astype(np.int8),
                np.zeros_like(expected),
                np.zeros(expected.shape, bool),
                np.zeros(len(expected), bool),
                model_key("builtin"),
                load_prompt("score").version,
                expected.size,
            )
        )
        return future

    def close(self) -> None:
        self.is_closed = True


def colours(images: np.ndarray, attributes: tuple[str, ...]) -> np.ndarray:
    """Any function of the pixels will do where only the way through the house is tested."""
    mean = images.reshape(len(images), -1, 3).mean(axis=1) / 255
    mixes = np.random.default_rng(0).normal(size=(3, len(attributes)))
    return np.clip(2.5 + 6 * (mean - 0.5) @ mixes, 0, 5)


def brightness(images: np.ndarray, attributes: tuple[str, ...]) -> np.ndarray:
    """The first attribute is how light an image is; nothing shows the others."""
    light = images.reshape(len(images), -1).mean(axis=1) / 255
    grades = np.full((len(images), len(attributes)), 2.5)
    grades[:, 0] = np.clip(2.5 + 10 * (light - 0.5), 0, 5)
    return grades


@contextmanager
def put_oracle(grades: Grades, make: Callable[[Grades], ReadyOracle] = ReadyOracle) -> Iterator[list[ReadyOracle]]:
    """An oracle that answers by `grades` in the place of transformers; the list fills with those that are opened."""
    opened: list[ReadyOracle] = []

    def open_one(*_: Any, **__: Any) -> ReadyOracle:
        opened.append(make(grades))
        return opened[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("graphdrl.oracle.tiny.local.TransformersOracle", open_one)
        yield opened
    assert all(oracle.is_closed for oracle in opened)


def tiny(runs: Path, *overrides: str) -> Config:
    return load_config(None, [f"runs={runs}", f"oracle.score_store={runs}/score_store", *TINY, *overrides])


def run_job(start: Start) -> Finished:
    return train(start, time.time(), lambda text: None)


def losses(run: Run) -> list[dict[str, float]]:
    """What is logged at each step but clocks, speeds and counts of answers."""
    clocks = ("seconds", "images_per_s", "oracle_wait_fraction", "images_scored", "questions_asked", "oracle_queue")
    return [{name: value for name, value in row.items() if name not in clocks} for row in run.read_metrics()]
