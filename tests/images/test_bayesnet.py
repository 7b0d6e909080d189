"""The network: what it draws, in which direction it depends, and what it refuses."""

import numpy as np
import pytest
from scipy.stats import kstest, norm, somersd, spearmanr

from graphdrl.images.bayesnet import FAINTEST, BayesNet, Node
from graphdrl.images.faces import ATTRIBUTES, NETWORK, NUISANCES

AGE_BALD = BayesNet([Node("bald", 0.2, {"age": 0.6}), Node("age"), Node("light")])


def grades(values):
    return np.round(5 * values).astype(int)


def test_a_sample_is_a_function_of_the_seed_and_its_first_rows_not_of_its_length():
    np.testing.assert_array_equal(AGE_BALD.sample(50, 3), AGE_BALD.sample(200, 3)[:50])
    assert not np.array_equal(AGE_BALD.sample(50, 3), AGE_BALD.sample(50, 4))


def test_parents_may_stand_after_their_children_and_columns_keep_the_order_given():
    assert AGE_BALD.nodes == ("bald", "age", "light")
    assert AGE_BALD.edges == (("age", "bald", 0.6),)
    values = AGE_BALD.sample(20_000, 0)
    assert spearmanr(values[:, 0], values[:, 1]).statistic > 0.3
    assert abs(spearmanr(values[:, 0], values[:, 2]).statistic) < 0.03


def test_dependence_leaves_the_base_rates_as_they_are():
    values = AGE_BALD.sample(50_000, 1)
    assert np.mean(values[:, 0] > 0) == pytest.approx(0.2, abs=0.01)
    assert values[values[:, 0] > 0, 0].min() >= FAINTEST
    assert kstest(values[:5_000, 1], "uniform").pvalue > 0.001


def test_what_is_rare_tells_more_of_what_is_common_than_the_other_way():
    values = grades(AGE_BALD.sample(20_000, 2))
    bald, age = values[:, 0], values[:, 1]
    bald_tells_age = somersd(bald, age).statistic
    age_tells_bald = somersd(age, bald).statistic
    assert bald_tells_age > 1.8 * age_tells_bald > 0


def test_the_independent_sample_has_the_same_margins_and_no_dependence():
    alone = AGE_BALD.sample_independent(50_000, 5)
    assert np.mean(alone[:, 0] > 0) == pytest.approx(0.2, abs=0.01)
    assert abs(spearmanr(alone[:, 0], alone[:, 1]).statistic) < 0.02


def test_presence_can_be_raised_for_the_nodes_that_can_be_absent():
    alone = AGE_BALD.sample_independent(20_000, 5, presence=0.8)
    assert np.mean(alone[:, 0] > 0) == pytest.approx(0.8, abs=0.01)
    assert kstest(alone[:5_000, 1], "uniform").pvalue > 0.001


CHAIN = BayesNet([Node("a"), Node("b", None, {"a": 0.6}), Node("c", None, {"b": -0.5}), Node("d")])


def test_a_node_that_is_set_moves_what_follows_it_and_nothing_before_it():
    free, held = CHAIN.sample(2_000, 1), CHAIN.sample(2_000, 1, {"b": 1.0})
    np.testing.assert_array_equal(held[:, [0, 3]], free[:, [0, 3]])
    np.testing.assert_array_equal(held[:, 1], 1)
    assert (held[:, 2] <= free[:, 2]).all()
    assert abs(spearmanr(held[:, 0], held[:, 2]).statistic) < 0.08  # the way from a to c leads through b


def test_effects_worked_by_hand():
    """a is uniform, of standard deviation 1 / sqrt(12), so from 0 to 1 the propensity of b rises by 0.6 sqrt(12).

    b is the normal quantile of drive + noise of variance 1 - 0.36, hence E[b | do(a)] = Phi(drive / sqrt(2 - 0.36)).
    """
    effects = CHAIN.effects(("a", "b", "c", "d"), num=50_000)
    half = 0.3 * 12**0.5
    assert effects[0, 1] == pytest.approx(2 * norm.cdf(half / (2 - 0.36) ** 0.5) - 1, abs=0.005)
    assert effects[0, 2] < -0.1 < effects[0, 1]  # minus times plus, along the chain
    np.testing.assert_array_equal(np.diag(effects), 1)
    against = [(1, 0), (2, 0), (2, 1), (0, 3), (3, 0), (3, 2)]
    assert [effects[pair] for pair in against] == [0] * len(against)
    np.testing.assert_array_equal(CHAIN.effects(("c", "a"), num=50_000), effects[np.ix_([2, 0], [2, 0])])


@pytest.mark.parametrize(
    ("do", "message"), [({"e": 1.0}, r"called 'e'; there are: a, b, c, d"), ({"a": 1.2}, r"lie in \[0, 1\]")]
)
def test_what_cannot_be_set_is_refused(do, message):
    with pytest.raises(ValueError, match=message):
        CHAIN.sample(10, 0, do)


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ([Node("a"), Node("a")], "distinct"),
        ([Node("a", None, {"b": 0.1})], "no node of the network: 'b'"),
        ([Node("a", None, {"b": 0.1}), Node("b", None, {"a": 0.1})], "no cycles"),
        ([Node("a"), Node("b", None, {"a": 0.99})], "make their weights smaller"),
    ],
)
def test_a_network_that_cannot_be_is_refused(nodes, message):
    with pytest.raises(ValueError, match=message):
        BayesNet(nodes)


def test_a_presence_that_is_no_probability_is_refused():
    with pytest.raises(ValueError, match=r"must lie in \(0, 1\]"):
        Node("a", 0.0)


def test_the_faces_have_enough_relations_of_either_sign_to_recover():
    drawn = NETWORK.sample(4_000, 0)
    assert NETWORK.nodes == ATTRIBUTES + NUISANCES
    strength = spearmanr(drawn[:, : len(ATTRIBUTES)]).statistic[np.triu_indices(len(ATTRIBUTES), 1)]
    assert np.sum(np.abs(strength) > 0.1) >= 23
    assert np.sum(strength > 0.1) >= 8
    assert np.sum(strength < -0.1) >= 8
    assert np.sum(np.abs(strength) < 0.05) >= 4


def test_the_two_of_a_pair_differ_in_one_node():
    pairs = NETWORK.sample_pairs(2_001, 3)
    first, second = pairs[0:2_000:2], pairs[1:2_000:2]
    np.testing.assert_array_equal(first, NETWORK.sample(2_001, 3)[0:2_000:2])
    differ = (first != second).sum(axis=1)
    assert differ.max() == 1
    assert differ.mean() > 0.7  # an absent attribute that is drawn absent again does not differ
    assert (first != second).any(axis=0).all()
