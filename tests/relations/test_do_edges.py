"""`do` edges worked by hand, their intervals, and their signs against true effects."""

import numpy as np
import pytest

from graphdrl.relations import DoEdges, estimate_do, sign_agreement

NAMES = ("a", "b", "c")


def grades_of(effects: np.ndarray, num_images: int, noise: float = 0.0, deviations: float = 2.0) -> np.ndarray:
    """Grades [K, 2, B, K] around 2.5 whose ends differ by 2 deviations times the effects."""
    ends = np.array([-deviations, deviations])[None, :, None, None] * effects[:, None, None, :]
    rng = np.random.default_rng(1)
    return 2.5 + ends + noise * rng.standard_normal((len(effects), 2, num_images, len(effects)))


def estimated(grades: np.ndarray, **changes: object) -> DoEdges:
    fields = {"deviations": 2.0, "propagate": False} | changes
    return estimate_do(NAMES[: len(grades)], grades, **fields)


def test_an_effect_is_the_mean_change_for_one_standard_deviation():
    """Moving a by -2 and +2: b goes from 1 to 2 in half of the images, from 3 to 2 in a quarter, and stays in one."""
    grades = np.full((2, 2, 8, 2), 1.0)
    grades[0, 1, :4, 1] = 2
    grades[0, 0, 4:6, 1], grades[0, 1, 4:6, 1] = 3, 2
    edges = estimated(grades)
    assert edges.effects[0, 1] == pytest.approx((4 * 1 + 2 * -1) / 8 / 4)
    np.testing.assert_array_equal(edges.effects[1], 0)
    assert edges.low[0, 1] < edges.effects[0, 1] < edges.high[0, 1]
    assert not edges.resolved.any()
    assert estimated(grades, deviations=1.0).effects[0, 1] == pytest.approx(2 * edges.effects[0, 1])


def test_what_moves_is_resolved_with_its_sign_and_what_stays_is_not():
    truth = np.array([[0.9, 0.2, 0.0], [0.0, 1.0, -0.15], [0.0, 0.0, 0.8]])
    edges = estimated(grades_of(truth, 60, noise=0.3))
    np.testing.assert_allclose(edges.effects, truth, atol=0.06)
    np.testing.assert_array_equal(edges.resolved, [[0, 1, 0], [0, 0, 1], [0, 0, 0]])
    assert edges.low[1, 2] < edges.high[1, 2] < 0 < edges.low[0, 1]
    assert edges.low[2, 0] < 0 < edges.high[2, 0]


def test_intervals_hold_the_effect_nineteen_times_in_twenty():
    truth, inside = np.array([[1.0, 0.3], [-0.2, 1.0]]), []
    rng = np.random.default_rng(3)
    for draw in range(300):
        change = truth[:, None] + 0.5 * rng.standard_normal((2, 20, 2))
        edges = estimated(np.stack([np.zeros_like(change), 4 * change], axis=1), seed=draw, num_bootstrap=100)
        inside.append((edges.low <= truth) & (truth <= edges.high))
    assert 0.92 < np.mean(inside) < 0.98


def test_a_malformed_grade_leaves_its_image_out_of_its_entry_alone():
    grades = grades_of(np.array([[1.0, 0.5], [0.0, 1.0]]), 12)
    grades[0, 1, 0, 1] = np.nan
    grades[0, 1, 1, 1] += 4  # one image moves farther: by 1 for each standard deviation
    edges = estimated(grades)
    assert edges.effects[0, 1] == pytest.approx(0.5 + 1 / 11)
    assert edges.effects[0, 0] == pytest.approx(1)


def test_of_an_attribute_without_a_node_nothing_is_known():
    grades = grades_of(np.array([[1.0, 0.5], [0.4, 1.0]]), 12)
    grades[1] = np.nan
    edges = estimated(grades)
    assert np.isnan(edges.effects[1]).all()
    assert np.isnan(edges.low[1]).all()
    np.testing.assert_array_equal(edges.resolved, [[False, True], [False, False]])


@pytest.mark.parametrize(
    ("grades", "deviations", "message"),
    [
        (np.zeros((3, 2, 9, 2)), 2.0, r"grades of 3 attributes are \[3, 2, B, 3\], not \[3, 2, 9, 2\]"),
        (np.zeros((3, 2, 7, 3)), 2.0, "need 8 images to move, there are 7"),
        (np.zeros((3, 2, 9, 3)), 0.0, "positive number of standard deviations, not 0.0"),
    ],
)
def test_what_shows_no_effect_is_refused(grades, deviations, message):
    with pytest.raises(ValueError, match=message):
        estimate_do(NAMES, grades, deviations=deviations, propagate=False)


def test_signs_are_compared_where_the_true_effect_is_strong():
    effects = np.array([[1, 0.4, -0.3], [0.1, 1, -0.2], [0.2, 0.0, 1]], np.float32)
    resolved = np.array([[0, 1, 1], [0, 0, 0], [1, 0, 0]], bool)
    edges = DoEdges(NAMES, effects, effects - 1, effects + 1, resolved, False, 2.0, 20)
    truth = np.array([[5, 2.0, 1.0], [0, 5, -0.8], [0.3, 0.5, 5]])
    found = sign_agreement(edges, truth, strong=0.5)
    assert found.num_strong == 4  # 2.0, 1.0, -0.8, 0.5
    assert found.agreed == 2 / 4  # a -> b and b -> c; a -> c has the wrong sign, c -> b has none
    assert found.resolved == 2 / 4
    assert found.agreed_resolved == 1 / 4
    assert (found.num_zero, found.zero_resolved) == (1, 0)


def test_true_zeros_are_never_counted_and_without_strong_effects_nothing_is_said():
    effects = np.full((2, 2), 0.5, np.float32)
    edges = DoEdges(NAMES[:2], effects, effects, effects, effects > 0, True, 2.0, 20)
    found = sign_agreement(edges, np.array([[1, 0.0], [0.1, 1]]), strong=0.0)
    assert (found.num_strong, found.num_zero, found.zero_resolved) == (1, 1, 1)
    with pytest.raises(ValueError, match=r"no true effect is as large as 0\.5"):
        sign_agreement(edges, np.eye(2), strong=0.5)
    with pytest.raises(ValueError, match="there are 2 attributes"):
        sign_agreement(edges, np.eye(3), strong=0.5)
