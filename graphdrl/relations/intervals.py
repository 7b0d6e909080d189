"""How sure an edge is: bootstrap intervals, and the control of false discoveries over all edges at once."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import stdtr, stdtrit
from threadpoolctl import threadpool_limits

from graphdrl.oracle.questions import NUM_GRADES, Scores
from graphdrl.relations.correction import Correction
from graphdrl.relations.edges import Edges
from graphdrl.relations.estimators import load_estimator
from graphdrl.relations.tables import joint_tables, to_grades, weighted_tables

FALSE_DISCOVERY_RATE = 0.05
CONFIDENCE = 0.95
FEWEST_IMAGES = 30
"""Below this a bootstrap says nothing."""
FEWEST_UNTIED = 10
"""With fewer images off its most frequent grade an attribute resolves no edge: a bootstrap cannot draw what is not
there.
"""
FEWEST_TOGETHER = 5
"""A pair is untestable when chance puts fewer images than this off both most frequent grades (Cochran's rule)."""

_ALMOST_ONE = 1.0 - 1e-6


def estimate(
    scores: Scores,
    estimator: str = "somers_d",
    seed: int = 0,
    num_bootstrap: int = 200,
    levels: int = NUM_GRADES,
    correction: Correction | None = None,
) -> Edges:
    """Relations among the attributes of scored images, by one estimator; see `estimate_many`."""
    return estimate_many(scores, (estimator,), seed, num_bootstrap, levels, correction)[estimator]


def estimate_many(
    scores: Scores,
    estimators: Sequence[str] = ("somers_d", "tau_b", "partial"),
    seed: int = 0,
    num_bootstrap: int = 200,
    levels: int = NUM_GRADES,
    correction: Correction | None = None,
) -> dict[str, Edges]:
    """Relations by several estimators, all from the same bootstrap draws.

    Images count with the inverse of the probability with which they were chosen for scoring. A bootstrap draw takes N
    images with replacement and keeps those weights. With a correction the relations are those of the true grades, as
    far as the gold set tells, and a draw takes its gold images anew as well. Raises ValueError for scores that cannot
    be related (see `check_scores`) and for a correction of other attributes or levels.
    """
    check_scores(scores)
    if correction is not None:
        correction.check(scores.attributes, levels)
    gold_rng = np.random.default_rng((seed, 1))
    functions = {name: load_estimator(name) for name in {*estimators, "tau_b", "partial"}}
    grades = to_grades(scores.expected, levels)
    image_weights = 1.0 / scores.inclusion_probability.astype(np.float64)
    seen = joint_tables(grades, image_weights, levels)
    whole = seen if correction is None else correction(seen)
    points = {name: function(whole) for name, function in functions.items()}
    draws: dict[str, list[np.ndarray]] = {name: [] for name in {*estimators, "partial"}}
    # BLAS threads that wait for each other on a busy machine make these small products twenty times slower.
    with threadpool_limits(limits=1, user_api="blas"):
        for drawn_tables in weighted_tables(grades, _resamples(image_weights, num_bootstrap, seed), levels):
            tables = drawn_tables if correction is None else correction.resampled(gold_rng)(drawn_tables)
            for name, drawn in draws.items():
                drawn.append(functions[name](tables))
    support, testable = _support(grades, levels)
    sure = {name: _sure(points[name], np.stack(each), support, testable) for name, each in draws.items()}
    return {name: _edges(scores, name, points, sure[name], sure["partial"]) for name in estimators}


def check_scores(scores: Scores) -> None:
    """Raise ValueError, saying what to do, for scores that no relation can be read from."""
    if scores.source != "data":
        raise ValueError(f"only scores of 'data' images enter the relations, not of {scores.source!r}")
    if len(scores) < FEWEST_IMAGES:
        raise ValueError(f"relations need at least {FEWEST_IMAGES} scored images, there are {len(scores)}: score more")
    if len(scores.attributes) < 2:
        raise ValueError(f"relations need at least two attributes, there is {scores.attributes}")
    if not (scores.inclusion_probability > 0).all():
        raise ValueError("an image that was scored has inclusion probability 0: it must be in (0, 1]")


def interval(point: np.ndarray, draws: np.ndarray, support: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """95 % interval (low, high) and two-sided p-value of each weight [K, K] from bootstrap draws [D, K, K].

    support: [K, K], images that carry a weight: those off the most frequent grade, of the attribute that has fewer of
    them. Student's t with `support - 1` degrees of freedom on Fisher's z scale, where the spread of a rank statistic
    hardly depends on its size. So the interval stays in [-1, 1], a rare attribute gets the width that its few images
    deserve, and p-values go below 1 / D, which the false-discovery control over K (K - 1) edges needs.
    """
    low, high, p_values = student(_fisher(point), _fisher(draws), support)
    return np.tanh(low), np.tanh(high), p_values


def student(centre: np.ndarray, draws: np.ndarray, support: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """95 % interval (low, high) and two-sided p-value of each value [K, K], by the spread of draws [D, K, K].

    Student's t with `support - 1` [K, K] degrees of freedom, on whatever scale `centre` and `draws` are.
    """
    freedom = np.maximum(support - 1.0, 1.0)
    spread = draws.std(axis=0, ddof=1) * np.sqrt((freedom + 1) / freedom)
    reach = stdtrit(freedom, (1 + CONFIDENCE) / 2) * spread
    # No spread at all: either nothing varies there (0 in every draw), or all draws agree, as where the order of one
    # attribute is that of the other.
    distance = np.divide(np.abs(centre), spread, out=np.where(centre == 0, 0.0, np.inf), where=spread > 0)
    return centre - reach, centre + reach, 2 * stdtr(freedom, -distance)


def _fisher(weights: np.ndarray) -> np.ndarray:
    return np.arctanh(np.clip(weights, -_ALMOST_ONE, _ALMOST_ONE))


def accepted(p_values: np.ndarray, rate: float = FALSE_DISCOVERY_RATE) -> np.ndarray:
    """Which hypotheses [M] survive at that false discovery rate (Benjamini and Hochberg 1995)."""
    order = np.argsort(p_values, kind="stable")
    passed = p_values[order] <= rate * np.arange(1, len(order) + 1) / len(order)
    keep = np.zeros(len(order), bool)
    if passed.any():
        keep[order[: np.flatnonzero(passed)[-1] + 1]] = True
    return keep


def _resamples(image_weights: np.ndarray, num_bootstrap: int, seed: int) -> Iterator[np.ndarray]:
    """Weights [N] of each bootstrap draw: how often an image was drawn, times its own weight."""
    if num_bootstrap < 20:
        raise ValueError(f"an interval needs at least 20 bootstrap draws, not {num_bootstrap}")
    rng = np.random.default_rng(seed)
    num_images = len(image_weights)
    for _ in range(num_bootstrap):
        yield np.bincount(rng.integers(num_images, size=num_images), minlength=num_images) * image_weights


def _support(grades: np.ndarray, levels: int) -> tuple[np.ndarray, np.ndarray]:
    """Support [K, K] of each pair (see `interval`), and which pairs have enough of it to be tested at all."""
    counts = (grades[:, :, None] == np.arange(levels)).sum(axis=0)
    untied = len(grades) - counts.max(axis=1)
    support = np.minimum.outer(untied, untied)
    together = np.outer(untied, untied) / len(grades)
    return support, (support >= FEWEST_UNTIED) & (together >= FEWEST_TOGETHER)


class _Sure(NamedTuple):
    """Interval of each weight [K, K], and which are resolved."""

    low: np.ndarray
    high: np.ndarray
    resolved: np.ndarray


def _sure(point: np.ndarray, draws: np.ndarray, support: np.ndarray, testable: np.ndarray) -> _Sure:
    """How sure the weights of one estimator are; of an untestable pair nothing is known: its interval is [-1, 1]."""
    off_diagonal = ~np.eye(len(support), dtype=bool)
    tested = testable & off_diagonal
    low, high, p_values = interval(point, draws, support)
    low, high = np.where(testable, low, -1.0), np.where(testable, high, 1.0)
    resolved = np.zeros_like(tested)
    resolved[tested] = ((low > 0) | (high < 0))[tested] & accepted(p_values[tested])
    return _Sure(
        np.where(off_diagonal, low, 0.0).astype(np.float32),
        np.where(off_diagonal, high, 0.0).astype(np.float32),
        resolved,
    )


def _edges(scores: Scores, name: str, points: dict[str, np.ndarray], sure: _Sure, partial: _Sure) -> Edges:
    return Edges(
        attributes=scores.attributes,
        weights=points[name].astype(np.float32),
        low=sure.low,
        high=sure.high,
        resolved=sure.resolved,
        strength=points["tau_b"].astype(np.float32),
        partial=points["partial"].astype(np.float32),
        estimator=name,
        num_scored=len(scores),
        partial_low=partial.low,
        partial_high=partial.high,
        partial_resolved=partial.resolved,
    )
