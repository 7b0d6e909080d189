"""The oracle while its parts are killed: every question answered, each stored once, little asked again."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq

from graphdrl.bench._asking import APPLICATION, AskingClient
from graphdrl.bench._journal import journalled, read_journals
from graphdrl.bench._kills import engine_pids, front_pid, is_running, kill_one, wait_until
from graphdrl.bench.registry import Say
from graphdrl.bench.runs import fresh_folder

_NUM_CLIENTS, _NUM_REPLICAS = 4, 2
_REPLICA_KILLS, _ANSWERS_BETWEEN = 4, 1_500
_FEWEST_QUESTIONS = 10_000


def run(say: Say) -> dict[str, Any]:
    """Counts are of questions, one attribute of one image each.

    `asked_again`: begun by an engine more than once, as the engines' own journals say. `in_flight_at_kills`: begun by
    the killed engine (by any engine, when the front was killed) and not yet stored, as it is before it is answered.
    `duplicates`: rows of the score store beyond one a question. `rss_growth_bytes`: of the front, from 1,500 answers
    after its restart on; it holds an index of all that is stored.
    """
    from cluster import joined
    from serve import OracleSettings, start_oracle, stop_oracle

    with fresh_folder() as name, joined():
        folder = Path(name)
        (folder / "journals").mkdir()
        settings = OracleSettings(num_replicas=_NUM_REPLICAS, score_store=folder / "scores")
        say("starting two engines")
        start_oracle(settings, APPLICATION, make_engine=journalled(folder / "journals"))
        clients = [AskingClient(number) for number in range(_NUM_CLIENTS)]
        started = time.monotonic()
        for client in clients:
            client.start()
        try:
            kills = _kill(folder, clients, say)
        finally:
            for client in clients:
                client.enough.set()
        for client in clients:
            client.join()
        seconds = time.monotonic() - started
        grown = _rss(front_pid()) - kills.front_rss
        errors = [client.error for client in clients if client.error is not None]
        if errors:
            raise errors[0]
        stop_oracle(APPLICATION)
        return _figures(folder, clients, kills) | {"seconds": round(seconds, 1), "rss_growth_bytes": grown}


class _Kills:
    """What was killed, and what was in flight then; replicas: by process id."""

    def __init__(self) -> None:
        self.replicas: dict[int, int] = {}
        self.num_front = 0
        self.in_flight_at_front = 0
        self.front_rss = 0


def _kill(folder: Path, clients: list[AskingClient], say: Say) -> _Kills:
    """One engine after every 1,500 answers since both were ready, the front between the second and the third."""
    kills = _Kills()

    def answers() -> int:
        for client in clients:
            if client.error is not None:
                raise client.error
        return sum(client.num_answers for client in clients)

    for number in range(_REPLICA_KILLS):
        wait_until(lambda: len(engine_pids(folder)) == _NUM_REPLICAS and is_running())
        if number == _REPLICA_KILLS // 2:
            _pass(answers, _ANSWERS_BETWEEN)
            kills.in_flight_at_front = kill_one(folder, front_pid())
            kills.num_front += 1
            say(f"killed the front, {kills.in_flight_at_front} questions in flight")
            _pass(answers, _ANSWERS_BETWEEN)
            kills.front_rss = _rss(front_pid())
        _pass(answers, _ANSWERS_BETWEEN)
        victim = engine_pids(folder)[number % _NUM_REPLICAS]
        kills.replicas[victim] = kill_one(folder, victim, of=victim)
        say(f"killed engine {len(kills.replicas)} of {_REPLICA_KILLS} after {answers():,} answers")
    wait_until(lambda: len(engine_pids(folder)) == _NUM_REPLICAS)
    _pass(answers, max(_ANSWERS_BETWEEN, _FEWEST_QUESTIONS - answers()))
    return kills


def _figures(folder: Path, clients: list[AskingClient], kills: _Kills) -> dict[str, Any]:
    journals = read_journals(folder / "journals")
    answered = {image for client in clients for image in client.answered}
    begun = [key for journal in journals for _, keys in journal.begun.values() for key in keys if key[0] in answered]
    # A store read late, on a busy machine, may know already what was asked again: then the journal knows better.
    in_flight = [max(kills.replicas[j.pid], j.in_hand) for j in journals if j.pid in kills.replicas]
    rows = sum(pq.read_metadata(path).num_rows for path in (folder / "scores").glob("*.parquet"))
    questions = sum(client.num_asked for client in clients)
    return {
        "questions": questions,
        "answers": sum(client.num_answers - client.num_malformed for client in clients),
        "duplicates": rows - questions,
        "stored": rows,
        "asked_again": len(begun) - len(set(begun)),
        "in_flight_at_kills": sum(in_flight) + kills.in_flight_at_front,
        "in_flight_at_engine_kills": in_flight,
        "in_flight_at_front_kill": kills.in_flight_at_front,
        "replica_kills": len(kills.replicas),
        "front_kills": kills.num_front,
        "clients": len(clients),
    }


def _rss(pid: int) -> int:
    return psutil.Process(pid).memory_info().rss


def _pass(count: Callable[[], int], more: int) -> None:
    """Wait until so many more answers came."""
    goal = count() + more
    wait_until(lambda: count() >= goal)
