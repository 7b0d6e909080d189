"""Scores with known relations, for the tests of this room."""

from collections.abc import Callable

import numpy as np
import pytest

from graphdrl.oracle.questions import Scores

MakeScores = Callable[..., Scores]


def scores_of(values: np.ndarray, **changes: object) -> Scores:
    values = np.asarray(values, np.float32)
    fields = {
        "image_ids": tuple(f"{row:08x}" for row in range(len(values))),
        "attributes": tuple(f"a{column}" for column in range(values.shape[1])),
        "expected": values,
        "argmax": np.round(values).astype(np.int8),
        "entropy": np.zeros_like(values),
        "inclusion_probability": np.ones(len(values), np.float32),
        "flagged": np.zeros(len(values), bool),
        "source": "data",
        "model": "model",
        "prompt_version": "1",
    }
    return Scores(**(fields | changes))


@pytest.fixture
def make_scores() -> MakeScores:
    """From values 0..5 [N, K] to scores; keywords replace fields."""
    return scores_of


def related_values(num_images: int, seed: int) -> np.ndarray:
    """Values 0..5 [N, 4]: a0 drives a1 up and a2 down, a3 stands alone; a1 is often absent (0)."""
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal((num_images, 4))
    noise[:, 1] += noise[:, 0] - 0.7
    noise[:, 2] -= 0.5 * noise[:, 0]
    return np.clip(2.5 * (noise > -9) + 1.3 * noise - 2.5 * (np.arange(4) == 1), 0, 5)


@pytest.fixture
def related() -> Callable[[int, int], np.ndarray]:
    return related_values
