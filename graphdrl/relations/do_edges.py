"""`do` edges: what a model does to attribute j when its node i is moved, as an oracle grades the images that come out.

An association says what goes along with what in the data; a `do` edge says what an edit of this model does. Neither
says what causes what in the world.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from graphdrl.relations.edges import DoEdges
from graphdrl.relations.intervals import accepted, student

DO_MEANING = (
    "do: what this model does when a node is moved, in grades for one standard deviation of it; not what causes what "
    "in the world"
)
"""To be said wherever `do` edges are shown."""

FEWEST_PROBES = 8
"""With fewer images a bootstrap over them says nothing."""


def estimate_do(
    attributes: tuple[str, ...],
    grades: np.ndarray,
    *,
    deviations: float,
    propagate: bool,
    num_bootstrap: int = 200,
    seed: int = 0,
    oracle: str = "",
) -> DoEdges:
    """`do` edges from the grades of moved images.

    grades: float [K, 2, B, K], of B images with node i (first axis) moved down and up by `deviations`; NaN where an
        answer was malformed or there is no node to move. An image counts in [i, j] when both of its grades are there.
    The change for one standard deviation is the difference of the two ends over 2 deviations. Intervals are Student's t
    with the spread over `num_bootstrap` draws of the images, all entries from the same draws.
    Raises ValueError for grades of another shape, too few images and a distance that is not positive.
    """
    _check(attributes, grades, deviations)
    change = (grades[:, 1] - grades[:, 0]) / (2 * deviations)
    known, change = np.isfinite(change).astype(np.float64), np.nan_to_num(change.astype(np.float64))
    num_images = change.shape[1]
    rng = np.random.default_rng(seed)
    times = rng.multinomial(num_images, np.full(num_images, 1 / num_images), size=num_bootstrap).astype(np.float64)
    effects = _mean(np.ones((1, num_images)), change, known)[0]
    low, high, p_values = student(effects, _mean(times, change, known), known.sum(axis=1))
    tested = ~np.eye(len(attributes), dtype=bool) & np.isfinite(low)
    resolved = np.zeros_like(tested)
    resolved[tested] = ((low > 0) | (high < 0))[tested] & accepted(p_values[tested])
    return DoEdges(
        attributes,
        effects.astype(np.float32),
        low.astype(np.float32),
        high.astype(np.float32),
        resolved,
        propagate=propagate,
        deviations=deviations,
        num_images=num_images,
        oracle=oracle,
    )


@dataclass(frozen=True)
class SignAgreement:
    """Signs of `do` edges against those of true effects, over the entries whose true effect is strong.

    num_strong: these entries. agreed: the share of them whose effect has the true sign, resolved or not. resolved: the
    share that is resolved. agreed_resolved: the share that is resolved and has the true sign.
    num_zero: entries whose true effect is exactly 0; zero_resolved: the share of them that is resolved all the same.
    """

    num_strong: int
    agreed: float
    resolved: float
    agreed_resolved: float
    num_zero: int
    zero_resolved: float


def sign_agreement(edges: DoEdges, truth: np.ndarray, strong: float) -> SignAgreement:
    """How often the model's effects have the sign of the true ones [K, K] (grades) that are at least `strong` in size.

    The signs of weaker ones are not counted, and true zeros have none. Nor is the diagonal.
    Raises ValueError for a truth of another shape, and where no true effect is strong.
    """
    if truth.shape != edges.effects.shape:
        raise ValueError(f"true effects are {list(truth.shape)}, but there are {len(edges.attributes)} attributes")
    off_diagonal = ~np.eye(len(truth), dtype=bool)
    counted, zero = (np.abs(truth) >= max(strong, np.finfo(float).tiny)) & off_diagonal, (truth == 0) & off_diagonal
    if not counted.any():
        raise ValueError(f"no true effect is as large as {strong} grades, so there are no signs to compare")
    right = np.sign(edges.effects[counted]) == np.sign(truth[counted])
    resolved = edges.resolved[counted]
    return SignAgreement(
        num_strong=int(counted.sum()),
        agreed=float(right.mean()),
        resolved=float(resolved.mean()),
        agreed_resolved=float((right & resolved).mean()),
        num_zero=int(zero.sum()),
        zero_resolved=float(edges.resolved[zero].mean()) if zero.any() else 0.0,
    )


def _mean(times: np.ndarray, change: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Means [D, K, K] of changes [K, B, K] over the images that have one, each image `times` [D, B]; NaN over none."""
    total = np.einsum("db,ibj->dij", times, change * known, optimize=True)
    number = np.einsum("db,ibj->dij", times, known, optimize=True)
    return np.divide(total, number, out=np.full_like(total, np.nan), where=number > 0)


def _check(attributes: Sequence[str], grades: np.ndarray, deviations: float) -> None:
    num = len(attributes)
    if grades.ndim != 4 or (*grades.shape[:2], grades.shape[3]) != (num, 2, num):
        raise ValueError(f"grades of {num} attributes are [{num}, 2, B, {num}], not {list(grades.shape)}")
    if grades.shape[2] < FEWEST_PROBES:
        raise ValueError(f"do edges need {FEWEST_PROBES} images to move, there are {grades.shape[2]}: give more")
    if not deviations > 0:
        raise ValueError(f"a node is moved by a positive number of standard deviations, not {deviations}")
