import numpy as np
import pytest

from graphdrl.relations import Edges, estimate, recovery, true_relations


def edges_of(weights, resolved, reach=0.1) -> Edges:
    weights = np.asarray(weights, np.float32)
    attributes = tuple("abc")[: len(weights)]
    return Edges(
        attributes,
        weights,
        weights - reach,
        weights + reach,
        np.asarray(resolved, bool),
        weights,
        weights,
        "somers_d",
        100,
    )


def test_worked_by_hand():
    truth = np.array([[0, 0.5, -0.2], [0.3, 0, 0.05], [-0.1, 0.01, 0]])
    weights = [[0, 0.45, -0.15], [0.38, 0, 0.2], [0.12, -0.02, 0]]
    resolved = [[0, 1, 1], [1, 0, 1], [1, 0, 0]]
    numbers = recovery(edges_of(weights, resolved), truth)
    assert numbers["true_edges"] == 4  # 0.5, -0.2, 0.3, -0.1
    assert numbers["resolved_edges"] == 4
    assert numbers["weak_resolved"] == 1  # 0.05 is no edge, its resolved sign is right all the same
    assert numbers["sign_accuracy"] == pytest.approx(4 / 5)
    assert numbers["coverage"] == pytest.approx(4 / 6)
    # |weights| of true edges .45 .15 .38 .12 against .2 .02: 2 of 8 comparisons are lost
    assert numbers["auroc"] == pytest.approx(6 / 8)
    # ranks of the truth 6 1 5 4 2 3, of the weights 6 1 5 4 3 2
    assert numbers["spearman"] == pytest.approx(1 - 6 * 2 / (6 * 35))
    assert numbers["mean_error"] == pytest.approx((0.05 + 0.05 + 0.08 + 0.15 + 0.22 + 0.03) / 6, abs=1e-6)


def test_the_truth_recovers_itself(make_scores, related):
    truth = true_relations(related(200_000, 0))
    numbers = recovery(estimate(make_scores(related(3_000, 2)), num_bootstrap=50), truth)
    assert numbers["true_edges"] == numbers["resolved_edges"] == 6
    assert numbers["sign_accuracy"] == numbers["auroc"] == 1
    assert numbers["spearman"] > 0.8


def test_nothing_known_is_worth_nothing():
    numbers = recovery(edges_of(np.zeros((2, 2)), np.zeros((2, 2))), np.zeros((2, 2)))
    assert (numbers["spearman"], numbers["sign_accuracy"], numbers["auroc"]) == (0, 0, 0.5)


def test_a_truth_of_other_attributes_is_refused():
    with pytest.raises(ValueError, match="there are 2 attributes"):
        recovery(edges_of(np.zeros((2, 2)), np.zeros((2, 2))), np.zeros((3, 3)))
