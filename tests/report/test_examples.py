"""Which images stand for a relation."""

from dataclasses import replace

import numpy as np
import pytest

from graphdrl.oracle.questions import Scores
from graphdrl.relations.edges import Edges
from graphdrl.report import choose_examples, images_needed
from graphdrl.report.examples import strong_pairs


def _scores(grades: list[tuple[float, float]], inclusion: list[float] | None = None) -> Scores:
    expected = np.array(grades, np.float32)
    return Scores(
        image_ids=tuple(f"image-{i}" for i in range(len(grades))),
        attributes=("bald", "age"),
        expected=expected,
        argmax=np.rint(expected).astype(np.int8),
        entropy=np.zeros_like(expected),
        inclusion_probability=np.array(inclusion or [1.0] * len(grades), np.float32),
        flagged=np.zeros(len(grades), bool),
        source="data",
        model="m",
        prompt_version="p",
    )


@pytest.fixture
def edges() -> Edges:
    """age -> bald is the stronger direction of the one pair."""
    weights = np.array([[0, 0.3], [0.5, 0]], np.float32)
    return Edges(("bald", "age"), weights, weights - 0.1, weights + 0.1, weights > 0, weights, weights, "somers_d", 5)


def test_corners_hold_the_clearest_images_first(edges):
    scores = _scores([(5, 3), (4, 4), (5, 5), (1, 4), (0, 1)])
    (pair,) = choose_examples(edges, scores, per_corner=2)
    assert (pair.first, pair.second) == (1, 0)
    high_high, high_low, low_high, low_low = pair.corners
    assert high_high.image_ids == ("image-2", "image-1")
    assert high_high.num_images == 3
    assert high_low.image_ids == ("image-3",)
    assert low_high.image_ids == ()
    assert low_low.image_ids == ("image-4",)
    assert images_needed([pair]) == ("image-2", "image-1", "image-3", "image-4")


def test_shares_add_up_and_are_held_against_independence(edges):
    scores = _scores([(5, 5), (5, 5), (0, 5), (0, 0)])
    (pair,) = choose_examples(edges, scores)
    assert [corner.share for corner in pair.corners] == pytest.approx([0.5, 0.25, 0.0, 0.25])
    # age is high in 3 of 4 images, bald in 2 of 4.
    assert [corner.share_unrelated for corner in pair.corners] == pytest.approx([0.375, 0.375, 0.125, 0.125])


def test_shares_count_an_image_for_all_that_it_was_chosen_from(edges):
    scores = _scores([(5, 5), (0, 0)], inclusion=[1.0, 0.25])
    (pair,) = choose_examples(edges, scores)
    assert [corner.share for corner in pair.corners] == pytest.approx([0.2, 0.0, 0.0, 0.8])


def test_the_very_middle_counts_as_low(edges):
    (pair,) = choose_examples(edges, _scores([(2.5, 2.5)]))
    assert [corner.num_images for corner in pair.corners] == [0, 0, 0, 1]


def test_the_order_in_which_scores_came_does_not_matter(edges):
    scores = _scores([(5, 5), (5, 5), (5, 5), (0, 0), (0, 0)])
    backwards = scores.rows([4, 3, 2, 1, 0])
    assert choose_examples(edges, scores, per_corner=2) == choose_examples(edges, backwards, per_corner=2)


def test_only_resolved_and_strong_pairs_have_examples(edges):
    assert strong_pairs(edges) == [(1, 0)]
    assert strong_pairs(edges, weakest=0.6) == []
    assert strong_pairs(replace(edges, resolved=np.zeros((2, 2), bool))) == []
    # One direction is enough, and it is the one that leads.
    assert strong_pairs(replace(edges, resolved=np.array([[False, True], [False, False]]))) == [(0, 1)]


def test_scores_of_other_attributes_are_refused(edges):
    with pytest.raises(ValueError, match="give those of one question"):
        choose_examples(replace(edges, attributes=("hat", "age")), _scores([(1, 1)]))
