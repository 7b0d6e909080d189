"""Example images for a relation: the clearest cases of each of its four corners, and how common each corner is."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from graphdrl.oracle.questions import HIGHEST_GRADE, Scores
from graphdrl.relations.edges import Edges

MIDDLE_GRADE = HIGHEST_GRADE / 2
"""An attribute is high in an image whose expected grade lies above it, low below."""


@dataclass(frozen=True)
class Corner:
    """Images in which both attributes are on one side each.

    share: estimated share of all images (weighted by inverse inclusion probabilities), 0..1.
    share_unrelated: what the share would be if the two attributes were independent.
    image_ids: the clearest cases first.
    """

    first_high: bool
    second_high: bool
    share: float
    share_unrelated: float
    num_images: int
    image_ids: tuple[str, ...]


@dataclass(frozen=True)
class PairExamples:
    """Attributes `first` and `second` (indices) and their corners: high-high, high-low, low-high, low-low."""

    first: int
    second: int
    corners: tuple[Corner, Corner, Corner, Corner]


def strong_pairs(edges: Edges, weakest: float = 0.1) -> list[tuple[int, int]]:
    """Pairs (i, j) with a resolved edge of at least `weakest` in size, the strongest first.

    i is the source of the stronger of the two directions.
    """
    size = np.abs(np.nan_to_num(edges.adjacency()))
    np.fill_diagonal(size, 0)
    upper = [(i, j) for i in range(len(size)) for j in range(i + 1, len(size))]
    pairs = [(i, j) if size[i, j] >= size[j, i] else (j, i) for i, j in upper if max(size[i, j], size[j, i]) >= weakest]
    return sorted(pairs, key=lambda pair: -size[pair])


def choose_examples(
    edges: Edges, scores: Scores, per_corner: int = 4, max_pairs: int = 24, weakest: float = 0.1
) -> tuple[PairExamples, ...]:
    """Examples of the strongest resolved pairs, chosen by their scores alone: the same scores, the same examples."""
    if scores.attributes != edges.attributes:
        raise ValueError(f"scores are of {scores.attributes}, edges of {edges.attributes}: give those of one question")
    weight = 1 / np.maximum(scores.inclusion_probability.astype(np.float64), 1e-6)
    weight /= max(weight.sum(), 1e-12)
    pairs = strong_pairs(edges, weakest)[:max_pairs]
    return tuple(_examples_of_pair(scores, weight, i, j, per_corner) for i, j in pairs)


def _examples_of_pair(scores: Scores, weight: np.ndarray, first: int, second: int, per_corner: int) -> PairExamples:
    margins = scores.expected[:, [first, second]].astype(np.float64) - MIDDLE_GRADE
    ids = np.array(scores.image_ids)

    def corner(first_high: bool, second_high: bool) -> Corner:
        sides = margins * np.where([first_high, second_high], 1, -1)
        # A grade in the very middle counts as low, so that the four shares add up.
        inside = np.where([first_high, second_high], sides > 0, sides >= 0)
        both = np.flatnonzero(inside.all(axis=1))
        # Clear in the less clear of the two attributes first; ids break ties, not the order of arrival.
        clearest = both[np.lexsort((ids[both], -sides[both].sum(axis=1), -sides[both].min(axis=1)))]
        alone = weight @ inside
        return Corner(
            first_high=first_high,
            second_high=second_high,
            share=float(weight[both].sum()),
            share_unrelated=float(alone[0] * alone[1]),
            num_images=len(both),
            image_ids=tuple(str(ids[row]) for row in clearest[:per_corner]),
        )

    return PairExamples(
        first, second, (corner(True, True), corner(True, False), corner(False, True), corner(False, False))
    )


def images_needed(examples: Sequence[PairExamples]) -> tuple[str, ...]:
    """Ids of all images in the examples, each once: what has to be loaded before the page is written."""
    return tuple(dict.fromkeys(image for pair in examples for corner in pair.corners for image in corner.image_ids))
