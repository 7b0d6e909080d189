"""Small values that the tests of the training room share."""

import numpy as np
import pytest

from graphdrl.oracle import Scores
from graphdrl.relations import Edges, NodeMap, RelationsVersion

ATTRIBUTES = ("bald", "beard", "age")


def make_scores(num: int, seed: int = 0, prefix: str = "image") -> Scores:
    generator = np.random.default_rng(seed)
    expected = generator.uniform(0, 5, (num, len(ATTRIBUTES))).astype(np.float32)
    return Scores(
        image_ids=tuple(f"{prefix}-{row}" for row in range(num)),
        attributes=ATTRIBUTES,
        expected=expected,
        argmax=np.rint(expected).astype(np.int8),
        entropy=generator.uniform(0, 1, expected.shape).astype(np.float32),
        inclusion_probability=np.full(num, 0.5, np.float32),
        flagged=np.arange(num) % 7 == 0,
        source="data",
        model="fake",
        prompt_version="p1",
    )


@pytest.fixture
def scores() -> Scores:
    return make_scores(40)


@pytest.fixture
def version(scores: Scores) -> RelationsVersion:
    generator = np.random.default_rng(1)
    matrices = {
        name: generator.uniform(-1, 1, (3, 3)).astype(np.float32)
        for name in ("weights", "low", "high", "strength", "partial")
    }
    edges = Edges(ATTRIBUTES, **matrices, resolved=np.eye(3, k=1, dtype=bool), estimator="somers_d", num_scored=40)
    return RelationsVersion(
        version=2,
        key="k",
        edges=edges,
        scores=scores,
        sample_weights=np.full(len(scores), 1 / len(scores), np.float32),
        node_map=NodeMap((0, -1, 2), (1, 1, -1)),
        effective_sample_size=40.0,
        notes=("Sigma was shrunk",),
    )
