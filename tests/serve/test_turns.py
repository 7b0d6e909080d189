"""Whose turn it is: rounds over clients, in items, one lane at a time."""

from collections import Counter
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from serve.turns import Turns


@dataclass(eq=False)
class Job:
    client: str
    size: int = 12
    lane: object = 6
    is_queued: bool = True


def put(turns: Turns, *jobs: Job) -> None:
    for job in jobs:
        turns.put(job.client, job)


def take(turns: Turns, most: int) -> list[Job]:
    taken = turns.take(most)
    for job in taken:
        job.is_queued = False
    return taken


def test_a_small_client_does_not_wait_behind_a_greedy_one():
    turns: Turns[Job] = Turns(100_000)
    put(turns, *(Job("greedy") for _ in range(1_000)), Job("small"), Job("small"))
    assert Counter(job.client for job in take(turns, 60)) == {"greedy": 3, "small": 2}


def test_clients_get_even_shares_in_items_whatever_the_size_of_their_questions():
    turns: Turns[Job] = Turns(100_000)
    put(turns, *(Job("large", size=48) for _ in range(100)), *(Job("single", size=1) for _ in range(2_000)))
    got: Counter[str] = Counter()
    for _ in range(20):
        for job in take(turns, 96):
            got[job.client] += job.size
    assert abs(got["large"] - got["single"]) <= 2 * 48


def test_a_batch_is_of_one_lane_and_no_lane_starves():
    turns: Turns[Job] = Turns(1_000)
    put(turns, *(Job("a", lane=6) for _ in range(4)), *(Job("b", lane="write") for _ in range(4)))
    batches = [take(turns, 24) for _ in range(4)]
    assert all(len({job.lane for job in batch}) == 1 for batch in batches)
    assert [batch[0].lane for batch in batches[:2]] == [6, "write"]
    assert sum(map(len, batches)) == 8


def test_what_two_clients_wait_for_is_taken_once_by_whoever_is_first():
    turns: Turns[Job] = Turns(1_000)
    put(turns, *(Job("greedy") for _ in range(100)))
    shared = Job("greedy")
    turns.put("greedy", shared)
    turns.put("small", shared)
    assert shared in take(turns, 36)
    rest = [job for _ in range(40) for job in take(turns, 36)]
    assert len(rest) == len(set(map(id, rest))) == 101 - 3
    assert shared not in rest


def test_a_full_queue_refuses_the_greedy_one_alone():
    turns: Turns[Job] = Turns(100)
    put(turns, *(Job("greedy") for _ in range(8)))
    assert not turns.has_room("greedy", 12)
    assert turns.has_room("small", 12)
    put(turns, Job("small"))
    assert turns.has_room("small", 12)
    assert not turns.has_room("small", 60)


def test_whoever_has_nothing_waiting_may_ask_a_question_of_any_size():
    assert Turns(10).has_room("anybody", 5_000)


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 64), st.sampled_from([2, 6, "write"])), max_size=60),
    st.integers(1, 200),
)
def test_everything_is_taken_once_and_in_each_clients_order(asked, most):
    turns: Turns[Job] = Turns(10**6)
    jobs = [Job(*one) for one in asked]
    put(turns, *jobs)
    taken = []
    while batch := take(turns, most):
        assert len({job.lane for job in batch}) == 1
        assert sum(job.size for job in batch[:-1]) < most
        taken += batch
    assert sorted(map(id, taken)) == sorted(map(id, jobs))
    for client in "abc":
        assert [job for job in taken if job.client == client] == [job for job in jobs if job.client == client]
    assert turns.sizes() == {}
