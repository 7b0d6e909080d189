"""The edge store on a real Ray: versions are put once, seen alike by all, and outlive whoever made them."""

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray

from graphdrl.distributed import RayRelations, close_edge_store, open_edge_store
from graphdrl.oracle import Scores
from graphdrl.relations import NodeMap, RelationsVersion, Updater
from graphdrl.training import Run

ATTRIBUTES = ("bald", "beard", "age")
_PATIENCE_S = 120.0


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    # The classes of this file travel to the workers by value: they cannot import it.
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=256 << 20)
    yield
    ray.shutdown()
    ray.cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


def scores(start: int, end: int) -> Scores:
    """Scores of the images `start` to `end`: whatever the chunks, the same grades for the same image."""
    rng = np.random.default_rng(0)
    drawn = rng.normal(size=(1_000, 3))
    drawn[:, 1] += drawn[:, 0]
    expected = np.clip(2.5 + drawn, 0, 5).astype(np.float32)[start:end]
    return Scores(
        image_ids=tuple(f"{row:06d}" for row in range(start, end)),
        attributes=ATTRIBUTES,
        expected=expected,
        argmax=np.rint(expected).astype(np.int8),
        entropy=np.zeros_like(expected),
        inclusion_probability=np.ones(len(expected), np.float32),
        flagged=np.zeros(len(expected), bool),
        source="data",
        model="model",
        prompt_version="1",
    )


def updater(key: str) -> Updater:
    return Updater(key, NodeMap.ranked(3), update_at=(40, 80, 120), num_bootstrap=20)


def wait_for(condition: Callable[[], Any]) -> Any:
    give_up_at = time.monotonic() + _PATIENCE_S
    while not (found := condition()):
        assert time.monotonic() < give_up_at, "the edge store did not get there"
        time.sleep(0.05)
    return found


def is_gone(store: Any, folder: Path) -> bool:
    try:
        ray.get(store.newest.remote(str(folder)), timeout=_PATIENCE_S)
    except ray.exceptions.RayActorError:
        return True
    return False


def content(version: RelationsVersion) -> tuple[Any, ...]:
    arrays = (version.edges.weights, version.edges.low, version.scores.expected, version.sample_weights)
    return (version.version, version.key, version.scores.image_ids, *(array.tobytes() for array in arrays))


@ray.remote(num_cpus=0)
class Rank:
    """A trainer's process, as far as relations go."""

    def __init__(self, store: Any, folder: Path) -> None:
        self._relations = RayRelations(store, folder)

    def add(self, some: Scores) -> None:
        self._relations.add(some)

    def wait_for(self, version: int) -> tuple[Any, ...]:
        wait_for(lambda: self._relations.latest() >= version)
        return content(self._relations.get(version))


def test_every_rank_sees_the_same_version_and_it_outlives_the_rank_that_fed_it(tmp_path: Path) -> None:
    store = open_edge_store(updater("shared"), tmp_path)
    feeder, other = Rank.remote(store, tmp_path), Rank.remote(store, tmp_path)
    ray.get([feeder.add.remote(scores(0, 30)), other.add.remote(scores(20, 50))])
    first = ray.get(feeder.wait_for.remote(1), timeout=_PATIENCE_S)
    ray.kill(feeder)

    assert ray.get(other.wait_for.remote(1), timeout=_PATIENCE_S) == first
    here = RayRelations(store, tmp_path)
    wait_for(here.latest)
    assert content(here.get(1)) == first
    assert first[0] == 1
    assert len(first[2]) == 50  # the ten images that both had sent count once
    # What the ranks see is what an updater in one process makes of the same scores, and what lies on disk.
    alone = updater("shared")
    alone.add(scores(0, 30))
    assert content(alone.add(scores(20, 50))) == first
    assert content(Run(tmp_path).read_version(1)) == first
    close_edge_store(store, tmp_path)


def test_a_version_is_read_where_it_lies_and_cannot_be_written(tmp_path: Path) -> None:
    store = open_edge_store(updater("views"), tmp_path)
    one, two = RayRelations(store, tmp_path), RayRelations(store, tmp_path)
    one.add(scores(0, 40))
    wait_for(one.latest)
    wait_for(two.latest)
    mine, yours = one.get(1).scores.expected, two.get(1).scores.expected
    assert not mine.flags.writeable
    assert mine.ctypes.data == yours.ctypes.data, "both look at the one copy in the object store"
    close_edge_store(store, tmp_path)


def test_adding_never_waits_for_an_estimate(tmp_path: Path) -> None:
    store = open_edge_store(updater("patient"), tmp_path)
    relations = RayRelations(store, tmp_path)
    assert relations.latest() == 0
    for start in range(0, 160, 40):
        relations.add(scores(start, start + 40))
        relations.latest()  # an older number, at once, while the store estimates
    relations.finish()
    wait_for(lambda: relations.latest() == 4)
    assert relations.get(4).edges.num_scored == 160
    # Only the newest few stay in the object store; the older ones come back from disk.
    assert RayRelations(store, tmp_path).get(1).edges.num_scored == 40
    close_edge_store(store, tmp_path)


def test_a_run_that_comes_as_the_last_one_leaves_gets_a_store_that_lives(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    store = open_edge_store(updater("brief"), first)
    left = store.leave.remote(str(first))
    again = open_edge_store(updater("brief"), second)
    relations = RayRelations(again, second)
    relations.add(scores(0, 40))
    wait_for(relations.latest)
    with pytest.raises(ray.exceptions.RayActorError):
        ray.get(left)
    close_edge_store(again, second)


def test_two_runs_share_one_store_and_the_last_takes_it_down(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    store = open_edge_store(updater("two"), first)
    RayRelations(store, first).add(scores(0, 40))
    wait_for(Run(first).versions)

    again = open_edge_store(updater("two"), second)
    relations = RayRelations(again, second)
    wait_for(relations.latest)
    assert len(relations.get(1).scores) == 40, "what the other run has paid for"
    relations.add(scores(40, 80))
    wait_for(lambda: 2 in Run(first).versions() and 2 in Run(second).versions())

    close_edge_store(store, first)
    assert (first / "scores" / "scores.parquet").exists()
    relations.add(scores(80, 120))
    wait_for(lambda: relations.latest() == 3)
    assert Run(first).versions() == [1, 2]
    close_edge_store(again, second)
    wait_for(lambda: is_gone(again, second))  # Ray does not wait for what it kills


def test_a_store_that_was_killed_goes_on_from_disk(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    store = open_edge_store(updater("killed"), first)
    open_edge_store(updater("killed"), second)
    relations, other = RayRelations(store, first), RayRelations(store, second)
    relations.add(scores(0, 40))
    wait_for(lambda: relations.latest() == 1 and other.latest() == 1)
    node_map = NodeMap((2, 0, 1), (1, -1, 1))
    relations.set_node_map(node_map)
    wait_for(lambda: relations.latest() == 2)

    ray.kill(store, no_restart=False)
    other.add(scores(40, 80))
    wait_for(lambda: other.latest() == 3)
    version = other.get(3)
    assert len(version.scores) == 80
    assert version.node_map == node_map
    relations.latest()
    wait_for(lambda: relations.latest() == 3)
    relations.add(scores(80, 120))
    wait_for(lambda: Run(first).versions()[-1] == 4)
    close_edge_store(store, first)
    close_edge_store(store, second)


def test_a_store_that_was_killed_does_not_end_with_a_run_that_leaves_before_another_calls(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    store = open_edge_store(updater("forgetful"), first)
    open_edge_store(updater("forgetful"), second)
    ray.kill(store, no_restart=False)
    close_edge_store(store, first)
    relations = RayRelations(store, second)
    relations.add(scores(0, 40))
    wait_for(lambda: relations.latest() == 1)
    assert (Run(first).versions(), Run(second).versions()) == ([], [1])
    close_edge_store(store, second)
    wait_for(lambda: is_gone(store, second))


def test_a_new_store_takes_up_the_versions_of_a_resumed_run(tmp_path: Path) -> None:
    store = open_edge_store(updater("resumed"), tmp_path)
    relations = RayRelations(store, tmp_path)
    relations.add(scores(0, 80))
    wait_for(relations.latest)
    before = content(relations.get(1))
    ray.kill(store)

    store = open_edge_store(updater("resumed"), tmp_path)
    relations = RayRelations(store, tmp_path)
    wait_for(relations.latest)
    assert content(relations.get(1)) == before
    relations.add(scores(0, 120))
    wait_for(lambda: relations.latest() == 2)
    assert len(relations.get(2).scores) == 120
    close_edge_store(store, tmp_path)
