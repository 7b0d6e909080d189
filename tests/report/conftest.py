"""Contents of a report without a run: grades drawn from a few known dependencies, edges estimated from them."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.stats import rankdata

from graphdrl.images.ids import image_ids
from graphdrl.oracle.questions import HIGHEST_GRADE, Scores
from graphdrl.relations.edges import Edges, NodeMap, RelationsVersion
from graphdrl.report import RelationsContent, ReportContent, Traversal

NAMES = ("bald", "beard", "blond", "bangs", "glasses", "smile", "age", "make-up", "hat", "skin")


def drawn_images(num: int, size: int, seed: int) -> np.ndarray:
    """Smooth coloured discs, uint8 [num, size, size, 3], all different."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[0 : 1 : size * 1j, 0 : 1 : size * 1j]
    centre, radius = random.uniform(0.3, 0.7, (2, num, 1, 1)), random.uniform(0.1, 0.4, (num, 1, 1))
    inside = ((x - centre[0]) ** 2 + (y - centre[1]) ** 2 < radius**2)[..., None]
    inner, outer = random.uniform(0, 255, (2, num, 1, 1, 3))
    return np.where(inside, inner, outer).astype(np.uint8)


def drawn_scores(attributes: tuple[str, ...], num: int, seed: int, ids: tuple[str, ...]) -> Scores:
    """Grades of `num` images in which every attribute leans on the one before it, every other time against it."""
    random = np.random.default_rng(seed)
    hidden = random.standard_normal((num, len(attributes)))
    for column in range(1, len(attributes)):
        if column % 3:
            hidden[:, column] += hidden[:, column - 1] * (-1) ** column
    expected = (HIGHEST_GRADE * rankdata(hidden, axis=0) / (num + 1)).astype(np.float32)
    return Scores(
        image_ids=ids,
        attributes=attributes,
        expected=expected,
        argmax=np.rint(expected).astype(np.int8),
        entropy=np.zeros_like(expected),
        inclusion_probability=np.full(num, 0.5, np.float32),
        flagged=np.zeros(num, bool),
        source="data",
        model="tiny-3f2a",
        prompt_version="score-1",
    )


def estimated_edges(scores: Scores) -> Edges:
    """Correlations with the intervals of Fisher's transformation; one direction of each pair is made weaker."""
    num, attributes = len(scores), scores.attributes
    correlation = np.atleast_2d(np.corrcoef(scores.expected.T))
    np.fill_diagonal(correlation, 0)
    weights = correlation * np.where(np.triu(np.ones_like(correlation)), 1, 0.7)
    half = 1.96 / np.sqrt(num - 3)
    low, high = np.tanh(np.arctanh(weights) - half), np.tanh(np.arctanh(weights) + half)
    resolved = (low * high > 0) & ~np.eye(len(attributes), dtype=bool)
    as_float = [matrix.astype(np.float32) for matrix in (weights, low, high, correlation, weights)]
    weights, low, high, strength, partial = as_float
    return Edges(attributes, weights, low, high, resolved, strength, partial, "somers_d", num)


def relations_version(number: int, scores: Scores) -> RelationsVersion:
    num = len(scores)
    notes = ("Sigma was shrunk to 0.1",) if number == 1 else ()
    weights, nodes = np.full(num, 1 / num), NodeMap.ranked(len(scores.attributes))
    return RelationsVersion(number, "key", estimated_edges(scores), scores, weights, nodes, 0.6 * num, notes)


def report_content(num_attributes: int = 10, num_latents: int = 24, size: int = 8, **changes: Any) -> ReportContent:
    """A whole training report: losses, three versions, traversals and all the numbers."""
    attributes = tuple(NAMES[i] if i < len(NAMES) else f"attribute {i}" for i in range(num_attributes))
    scores = drawn_scores(attributes, 2000, 0, tuple(f"{i:032x}" for i in range(2000)))
    versions = tuple(relations_version(i + 1, scores.rows(range(num))) for i, num in enumerate((250, 1000, 2000)))
    truth = estimated_edges(drawn_scores(attributes, 20_000, 1, tuple(map(str, range(20_000))))).weights
    steps, random = np.arange(1200), np.random.default_rng(2)
    names = ("total", "rank", "images_per_s")
    curves = {name: (steps, np.exp(-steps / 200) * 50 + random.gamma(4, 0.3, 1200)) for name in names}
    nodes = attributes + tuple(f"factor_{i}" for i in range(num_attributes, num_latents))
    values = tuple(float(value) for value in np.linspace(-3, 3, 9))
    strips = drawn_images(len(nodes) * 9, size, 3).reshape(len(nodes), 9, size, size, 3)
    originals = drawn_images(12, size, 4)
    content = {
        "title": "gem on faces",
        "summary": {
            "images_trained": 76_800,
            "images_scored": 2000,
            "edge_versions": 3,
            "images_per_s": 245.3,
            "seconds": 391.2,
            "num_workers": 2,
            "zero_stage": 1,
            "oracle_engine": "vllm",
            "questions_asked": 20_000,
            "oracle_wait_fraction": 0.0021,
            "relations": {"spearman": 0.912, "sign_accuracy": 1.0, "resolved_edges": 21, "true_edges": 26},
            "metrics": {"dci_d": 0.731, "mig": 0.398, "dci_backend": "extra_trees", "reconstruction_mse": 0.00712},
        },
        "config": {"method": {"name": "gem", "beta": 1.0}, "data": {"source": "faces", "size": 64}},
        "curves": curves,
        "schedule": ((140, 1), (420, 2), (800, 3)),
        "originals": originals,
        "reconstructions": 255 - originals,
        "traversal": Traversal(nodes, values, strips),
        "versions": versions,
        "truth": truth,
        "oracle": {"answers_from_store": 120},
        "notes": ("The built-in oracle is a stand-in: it was trained on drawings like these.",),
    }
    return ReportContent(**(content | changes))


def relations_content(num_attributes: int = 10, size: int = 8, **changes: Any) -> RelationsContent:
    """A whole relations page of 300 images."""
    attributes = tuple(NAMES[i] if i < len(NAMES) else f"attribute {i}" for i in range(num_attributes))
    images = drawn_images(300, size, 5)
    scores = drawn_scores(attributes, 300, 6, image_ids(images))
    content = {
        "title": "Relations in holiday/",
        "edges": estimated_edges(scores),
        "scores": scores,
        "images": dict(zip(scores.image_ids, images, strict=True)),
        "facts": {"folder": "holiday", "images_found": 302, "seconds": 41.0},
        "skipped": (("broken.png", "not an image"), ("empty.jpg", "0 bytes")),
    }
    return RelationsContent(**(content | changes))


@pytest.fixture(scope="session")
def make_report() -> Callable[..., ReportContent]:
    return report_content


@pytest.fixture(scope="session")
def make_relations() -> Callable[..., RelationsContent]:
    return relations_content
