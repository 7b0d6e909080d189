"""Who computes where, decided from numbers alone."""

import pytest

from graphdrl.distributed.placement import Placement, Wanted, place, place_on


def nodes(*resources: dict[str, float]) -> list[dict[str, float]]:
    return [{"CPU": 8.0, "memory": 1e9} | one for one in resources]


def wanted(workers: int = 2, **changes) -> Wanted:
    return Wanted(workers, **({"cpus_per_worker": 0.5, "num_engines": 1, "cpus_per_engine": 0.5} | changes))


@pytest.mark.parametrize(
    ("num_workers", "num_gpus", "use_gpu", "engines", "expected"),
    [
        (2, 0, None, 1, Placement(2, 0.0, 0.0)),
        (2, 8, False, 1, Placement(2, 0.0, 0.0)),
        (2, 3, None, 1, Placement(2, 1.0, 1.0)),
        (2, 1, None, 1, Placement(1, 0.6, 0.4)),
        (2, 2, True, 1, Placement(2, 0.6, 0.4)),
        (4, 1, None, 2, Placement(1, 0.6, 0.2)),
    ],
)
def test_gpus_are_shared_when_there_are_too_few(num_workers, num_gpus, use_gpu, engines, expected) -> None:
    assert place(num_workers, num_gpus, use_gpu, engines) == expected
    there = nodes(*[{"GPU": 1}] * num_gpus) or nodes({})
    assert place_on(there, wanted(num_workers, use_gpu=use_gpu, num_engines=engines)) == expected


TRAINER, ORACLE = {"trainer": 1.0}, {"oracle": 1.0}


@pytest.mark.parametrize(
    ("there", "expected"),
    [
        ((TRAINER, ORACLE), (2, 0.0, 0.0)),
        # A GPU of the other pool, or of a node in none, is not counted.
        ((TRAINER, ORACLE | {"GPU": 1}, {"GPU": 8}), (2, 0.0, 1.0)),
        ((TRAINER | {"GPU": 2}, ORACLE), (2, 1.0, 0.0)),
        ((TRAINER | {"GPU": 1}, ORACLE | {"GPU": 1}), (1, 1.0, 1.0)),
        # A node may be in both.
        ((TRAINER | ORACLE,), (2, 0.0, 0.0)),
    ],
)
def test_split_gives_each_its_pool(there, expected) -> None:
    assert place_on(nodes(*there), wanted(split=True)) == Placement(*expected, {"trainer": 0.001})


def test_engines_share_the_gpus_of_their_pool() -> None:
    there = nodes(TRAINER, ORACLE | {"GPU": 2})
    assert place_on(there, wanted(split=True, num_engines=4)).oracle_gpus == 0.5


@pytest.mark.parametrize(
    ("job", "there", "sentence"),
    [
        (
            wanted(4, cpus_per_worker=1),
            [{"CPU": 2}, {"CPU": 2}],
            "this job needs 4.5 CPUs for 4 workers with 1 CPU each and 1 oracle engine with 0.5 CPUs, and the cluster "
            "has 4 CPUs on 2 nodes, 2 at most on one: start more nodes first, lower training.num_workers or "
            "training.cpus_per_worker or oracle.num_replicas, or set training.min_workers to begin with fewer",
        ),
        # Enough in all, but on no node enough for one.
        (wanted(1, cpus_per_worker=2, num_engines=0), [{"CPU": 1}] * 3, "the cluster has 3 CPUs on 3 nodes, 1 at most"),
        (wanted(split=True), [{"CPU": 8} | ORACLE], "none of the 1 nodes is in pool 'trainer'"),
        (wanted(split=True), [{"CPU": 8} | TRAINER], "none of the 1 nodes is in pool 'oracle'"),
        (
            wanted(3, cpus_per_worker=1, split=True),
            [{"CPU": 2} | TRAINER, {"CPU": 8} | ORACLE],
            "needs 3 CPUs for 3 workers with 1 CPU each, and pool 'trainer' has 2 CPUs on 1 node",
        ),
        (
            wanted(split=True, num_engines=3, cpus_per_engine=1),
            [{"CPU": 8} | TRAINER, {"CPU": 2} | ORACLE],
            "needs 3 CPUs for 3 oracle engines with 1 CPU each, and pool 'oracle' has 2 CPUs on 1 node: start more "
            "nodes first, lower oracle.num_replicas",
        ),
        (wanted(use_gpu=True), [{"CPU": 8}], "Ray sees no GPU; leave it out"),
        (wanted(use_gpu=True, split=True), nodes(TRAINER, ORACLE | {"GPU": 1}), "sees no GPU in pool 'trainer'"),
        (wanted(), [], "the cluster has 0 CPUs on 0 nodes"),
    ],
)
def test_what_never_fits_is_refused_with_what_is_missing(job, there, sentence) -> None:
    with pytest.raises(ValueError, match=r"^[^\n]+$") as refused:
        place_on(there, job)
    assert sentence in str(refused.value)


def test_elastic_training_fits_when_its_fewest_workers_do() -> None:
    there = [{"CPU": 2.0}]
    assert place_on(there, wanted(8, cpus_per_worker=1, num_engines=0, min_workers=2)).num_workers == 8
    with pytest.raises(ValueError, match="3 workers"):
        place_on(there, wanted(8, cpus_per_worker=1, num_engines=0, min_workers=3))


def test_a_split_job_without_a_part_needs_no_pool_for_it() -> None:
    place_on(nodes(TRAINER), wanted(num_engines=0, split=True))
    place_on(nodes(ORACLE), wanted(0, split=True))


def test_thirds_of_a_cpu_fill_it() -> None:
    place_on([{"CPU": 1.0}, {"CPU": 1.0}], wanted(6, cpus_per_worker=1 / 3, num_engines=0))
