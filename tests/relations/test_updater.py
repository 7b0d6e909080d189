import pickle

import numpy as np
import pytest

from graphdrl.relations import NodeMap, Updater, relations_key


def an_updater(**changes) -> Updater:
    return Updater(
        **({"key": "k", "node_map": NodeMap.ranked(4), "update_at": (100, 200), "num_bootstrap": 20} | changes)
    )


def test_a_version_comes_with_every_mark_that_is_passed(make_scores, related):
    scores, updater = make_scores(related(260, 0)), an_updater()
    versions = [updater.add(scores.rows(range(start, start + 20))) for start in range(0, 260, 20)]
    came = {20 * (step + 1): version for step, version in enumerate(versions) if version}
    assert {number: version.version for number, version in came.items()} == {100: 1, 200: 2}
    assert [len(version.scores) for version in came.values()] == [100, 200]
    last = updater.finish()
    assert (last.version, last.edges.num_scored, last.key) == (3, 260, "k")
    assert updater.finish() is None
    assert last.sample_weights.sum() == pytest.approx(1, abs=1e-5)
    assert pickle.loads(pickle.dumps(last)).edges.attributes == scores.attributes


def test_two_marks_passed_at_once_give_one_version(make_scores, related):
    updater = an_updater()
    assert updater.add(make_scores(related(250, 0))).version == 1
    assert len(updater) == 250


def test_an_estimate_does_not_depend_on_the_order_of_arrival(make_scores, related):
    scores = make_scores(related(200, 1))
    shuffled = scores.rows(np.random.default_rng(0).permutation(200))
    one, other = an_updater(update_at=(200,)), an_updater(update_at=(200,))
    whole = one.add(shuffled)
    parts = [other.add(scores.rows(range(start, start + 50))) for start in (150, 0, 100, 50)]
    assert parts[:3] == [None, None, None]
    assert pickle.dumps(parts[3].edges) == pickle.dumps(whole.edges)
    np.testing.assert_array_equal(parts[3].sample_weights, whole.sample_weights)


def test_no_image_counts_twice_and_only_data_counts(make_scores, related):
    scores, updater = make_scores(related(90, 0)), an_updater()
    assert updater.scores is None
    updater.add(scores)
    updater.add(scores.rows([0, 0, 1]))
    updater.add(make_scores(related(50, 1), source="do", image_ids=tuple(f"do{row}" for row in range(50))))
    assert len(updater) == len(updater.scores) == 90


def test_a_version_built_on_flagged_scores_says_so(make_scores, related):
    flagged = np.arange(250) % 3 == 0
    scores = make_scores(related(250, 0), flagged=flagged)
    shuffled = scores.rows(np.random.default_rng(0).permutation(250))
    version = an_updater().add(shuffled)
    np.testing.assert_array_equal(version.scores.flagged, flagged)
    assert version.notes[0].startswith("34% of the 250 scored images are flagged")
    assert not any("flagged" in note for note in an_updater().add(make_scores(related(250, 0))).notes)


def test_scores_of_another_question_are_refused(make_scores, related):
    updater = an_updater()
    updater.add(make_scores(related(40, 0)))
    with pytest.raises(ValueError, match="different questions"):
        updater.add(make_scores(related(40, 1), prompt_version="2"))


def test_it_goes_on_where_another_stopped(make_scores, related):
    scores = make_scores(related(200, 0))
    straight, first = an_updater(seed=5), an_updater(seed=5)
    for updater in (straight, first):
        updater.add(scores.rows(range(120)))
    second = an_updater(seed=5)
    second.restore(pickle.loads(pickle.dumps(first.add(scores.rows(range(0))) or first.estimate())))
    straight.estimate()
    rest = scores.rows(range(100, 200))
    assert pickle.dumps(second.add(rest).edges) == pickle.dumps(straight.add(rest).edges)
    assert second.finish() is None
    with pytest.raises(ValueError, match="cannot go on as other"):
        an_updater(key="other").restore(straight.estimate())


def test_named_nodes_are_issued_with_the_last_version(make_scores, related):
    updater = an_updater(node_map=NodeMap.unnamed(4))
    found = NodeMap((3, 1, -1, 0), (1, -1, 1, 1))
    assert updater.set_node_map(found) is None
    first = updater.add(make_scores(related(100, 0)))
    assert first.node_map == found
    assert updater.set_node_map(found) is None
    again = updater.set_node_map(NodeMap.ranked(4))
    assert (again.version, again.node_map, again.edges) == (2, NodeMap.ranked(4), first.edges)


def test_weights_rest_on_marginal_relations_whatever_the_estimator(make_scores, related):
    scores = make_scores(related(500, 0))
    versions = [an_updater(estimator=name).add(scores) for name in ("partial", "tau_b", "somers_d")]
    assert [version.edges.estimator for version in versions] == ["partial", "tau_b", "somers_d"]
    for version in versions[1:]:
        np.testing.assert_array_equal(version.sample_weights, versions[0].sample_weights)
    assert versions[0].sample_weights.std() > 0


def test_keys_tell_everything_apart():
    base = {
        "image_ids": ("b", "a"),
        "attributes": ("x", "y"),
        "model": "m",
        "prompt_version": "1",
        "estimator": "tau_b",
    }
    changes = {
        "image_ids": ("a",),
        "attributes": ("y", "x"),
        "model": "n",
        "prompt_version": "2",
        "estimator": "partial",
    }
    keys = {relations_key(**base)} | {relations_key(**(base | {name: value})) for name, value in changes.items()}
    assert len(keys) == 6
    assert relations_key(**(base | {"image_ids": ("a", "b")})) in keys


def test_settings_that_cannot_work_are_refused():
    with pytest.raises(ValueError, match="unknown relation estimator"):
        an_updater(estimator="pearson")
    with pytest.raises(ValueError, match="cannot be estimated at 10 scored images"):
        an_updater(update_at=(10, 200))
    with pytest.raises(ValueError, match="no image has been scored yet"):
        an_updater().estimate()
