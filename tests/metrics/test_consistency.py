import numpy as np
import pytest

from graphdrl.metrics.consistency import consistency

GRADES = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])


def test_a_code_a_factor_is_consistent_and_restrictive(exact):
    figures = consistency(exact(GRADES * [1, 3], GRADES))
    assert figures == {"consistency": pytest.approx(1), "restrictiveness": pytest.approx(1)}


def test_a_mixed_code_worked_by_hand(exact):
    # Code 0 is 3 a + b (variances 9 and 1 in quarters), code 1 is a. Factor a explains all of code 1 and 9/10 of
    # code 0, factor b a tenth of code 0. So a's code is 1 and b's is 0, though a moves it more.
    codes = np.stack([3 * GRADES[:, 0] + GRADES[:, 1], GRADES[:, 0]], axis=1)
    figures = consistency(exact(codes, GRADES))
    assert figures["consistency"] == pytest.approx((1 + 0.1) / 2)
    assert figures["restrictiveness"] == pytest.approx((0.1 + 1) / 2)


def test_pairs_say_the_same(make_coded):
    """The definition by pairs: squared distance of a code over pairs that share the factor, over all pairs."""
    coded = make_coded("mixed")
    codes, rng = coded.codes_train, np.random.default_rng(0)
    shares = []
    for grades in coded.grades_train.T:
        first, second = rng.integers(len(codes), size=(2, 200_000))
        same = grades[first] == grades[second]
        distance = np.square(codes[first] - codes[second])
        shares.append((1 - distance[same].mean(axis=0) / distance.mean(axis=0)).max())
    assert consistency(coded)["consistency"] == pytest.approx(np.mean(shares), abs=0.02)


def test_dead_and_single_codes(exact):
    assert consistency(exact(np.ones((4, 2)), GRADES)) == {"consistency": 0, "restrictiveness": 1}
    assert consistency(exact(GRADES[:, :1], GRADES))["consistency"] == pytest.approx(0.5)
