"""UDR: models that agree up to permutation and sign, that do not, dead dimensions, and a pair worked by hand."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from graphdrl.metrics.udr import agreement, udr

ALIVE = np.ones(4)


def draws(num: int, seed: int, dimensions: int = 4) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((num, dimensions))


def rotated(codes: np.ndarray, seed: int) -> np.ndarray:
    """The same information, every dimension a mixture of all."""
    rotation, _ = np.linalg.qr(draws(codes.shape[1], seed, codes.shape[1]))
    return codes @ rotation


def test_the_same_dimensions_in_another_order_and_sign_agree_fully() -> None:
    codes = draws(500, 0)
    # Whatever rises with a dimension is the same dimension to Spearman. Chance correlations of 500 draws keep it < 1.
    other = np.exp(codes[:, [2, 0, 3, 1]]) * [1, -1, -1, 1]
    independent = np.array([np.repeat([0.0, 1.0], 8), np.tile([0.0, 1.0], 8)]).T
    np.testing.assert_allclose(udr([independent, -independent[:, ::-1]], [np.ones(2)] * 2), 1.0)
    assert (udr([codes, other], [ALIVE, ALIVE]) > 0.85).all()


def test_models_that_share_nothing_score_near_0() -> None:
    scores = udr(np.stack([draws(4000, seed) for seed in range(3)]), np.ones((3, 4)))
    assert scores.shape == (3,)
    assert (scores < 0.05).all()


def test_a_model_that_entangles_ranks_below_those_that_agree() -> None:
    codes = draws(2000, 0)
    population = [codes, -codes[:, ::-1], codes[:, [1, 0, 3, 2]], rotated(codes, 1)]
    scores = udr(population, [ALIVE] * 4)
    assert scores.argmin() == 3
    assert scores[:3].min() > scores[3] + 0.2


@pytest.mark.parametrize("similarity", ["spearman", "lasso"])
def test_dead_dimensions_do_not_count(similarity: str) -> None:
    codes = draws(2000, 0)
    padded = np.concatenate([codes, draws(2000, 5, 6)], axis=1)
    kl = np.r_[np.ones(4), np.full(6, 0.005)]
    other = codes[:, [3, 1, 0, 2]]
    np.testing.assert_allclose(
        udr([padded, other], [kl, ALIVE], similarity=similarity),
        udr([codes, other], [ALIVE] * 2, similarity=similarity),
    )


def test_a_model_without_a_live_dimension_scores_0() -> None:
    codes = draws(100, 0)
    scores = udr([codes, codes, codes], [ALIVE, ALIVE, np.zeros(4)])
    assert scores[2] == 0
    assert udr([codes, codes], [np.zeros(4), np.zeros(4)]).tolist() == [0, 0]
    constant = np.zeros((100, 4))
    assert udr([codes, constant], [ALIVE, ALIVE]).tolist() == [0, 0], "a code that never moves agrees with nothing"


def test_agreement_worked_by_hand() -> None:
    similarity = np.array([[0.8, 0.2, 0.0], [0.1, 0.6, 0.3]])
    rows = [0.64 / 1.0, 0.36 / 1.0]
    columns = [0.64 / 0.9, 0.36 / 0.8, 0.09 / 0.3]
    assert agreement(similarity) == pytest.approx(sum(rows + columns) / 5)
    assert agreement(np.eye(3)) == 1.0
    assert agreement(np.ones((3, 3))) == pytest.approx(1 / 3)


def test_similarity_is_spearmans_and_the_score_the_median_over_pairs() -> None:
    population = [draws(300, 0, 2), draws(300, 1, 3), draws(300, 2, 2)]
    population[1][:, 0] += population[0][:, 1]
    population[2][:, 0] -= population[1][:, 0]

    def pair(i: int, j: int) -> float:
        first, second = population[i], population[j]
        rho = [[abs(spearmanr(a, b).statistic) for b in second.T] for a in first.T]
        return agreement(np.array(rho))

    expected = [np.median([pair(i, j) for j in range(3) if j != i]) for i in range(3)]
    np.testing.assert_allclose(udr(population, [np.ones(c.shape[1]) for c in population]), expected)


def test_lasso_finds_permuted_dimensions() -> None:
    codes = draws(2000, 0)
    scores = udr([codes, -codes[:, [1, 2, 3, 0]], rotated(codes, 3)], [ALIVE] * 3, similarity="lasso")
    # The penalty takes 0.1 from every coefficient of standardised codes.
    assert udr([codes, codes[:, ::-1]], [ALIVE] * 2, similarity="lasso") == pytest.approx([0.9, 0.9], abs=0.01)
    assert scores.argmin() == 2


@pytest.mark.parametrize(
    ("codes", "kl", "said"),
    [
        ([draws(9, 0)], [ALIVE], "train at least two"),
        ([], [], "train at least two"),
        ([draws(9, 0)] * 2, [ALIVE], "2 have codes, 1 have it"),
        ([draws(9, 0), draws(8, 0)], [ALIVE] * 2, "model 1 has"),
        ([draws(9, 0)] * 2, [ALIVE, np.ones(3)], "model 1 has"),
        ([draws(9, 0), np.full((9, 4), np.nan)], [ALIVE] * 2, "model 1 hold NaN"),
    ],
)
def test_what_cannot_be_compared_is_refused(codes: list, kl: list, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        udr(codes, kl)


def test_an_unknown_similarity_is_refused() -> None:
    with pytest.raises(ValueError, match="there are: spearman, lasso"):
        udr([draws(9, 0)] * 2, [ALIVE] * 2, similarity="pearson")  # type: ignore[arg-type]
