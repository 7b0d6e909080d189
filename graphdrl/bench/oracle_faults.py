"""The oracle while its parts are killed: every question answered, each stored once, little asked again."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow.parquet as pq

from graphdrl.bench._journal import journalled, read_journals, ready_engines
from graphdrl.bench.registry import Say
from graphdrl.bench.runs import fresh_folder
from graphdrl.images import load_source
from graphdrl.oracle import Question, load_prompt, model_key
from graphdrl.oracle.asking import as_answered
from graphdrl.oracle.clients import HandleOracle
from graphdrl.oracle.scores import ScoreStore

_NUM_CLIENTS, _NUM_REPLICAS = 4, 2
_REPLICA_KILLS, _ANSWERS_BETWEEN = 4, 1_500
_IMAGES_PER_QUESTION, _IN_FLIGHT = 16, 4
_FEWEST_QUESTIONS = 10_000
_APPLICATION = "oracle"
_SEED = 1_500_000


class _Client(threading.Thread):
    """Asks about fresh images until it is told to stop, and keeps count; a question is one attribute of one image."""

    def __init__(self, number: int) -> None:
        super().__init__(name=f"client {number}")
        self._number = number
        self.enough = threading.Event()
        self.num_asked = 0
        self.answered: list[str] = []
        self.num_answers = 0
        self.num_malformed = 0
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            with closing(HandleOracle(_APPLICATION)) as oracle:
                for _, answer in as_answered(oracle, self._questions(), _IN_FLIGHT):
                    self.answered += answer.image_ids
                    self.num_answers += answer.expected.size
                    self.num_malformed += int(answer.malformed.sum())
        except Exception as error:  # reported by whoever joins the threads
            self.error = error

    def _questions(self) -> Iterator[Question]:
        source, seed = load_source("faces"), _SEED + 10_000 * self._number
        while not self.enough.is_set():
            seed += 1
            images = source.draw(_IMAGES_PER_QUESTION, 64, seed, independent=True)
            self.num_asked += _IMAGES_PER_QUESTION * len(images.attributes)
            yield Question(images.images, images.attributes, client=self.name)


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
        start_oracle(settings, _APPLICATION, make_engine=journalled(folder / "journals"))
        clients = [_Client(number) for number in range(_NUM_CLIENTS)]
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
        grown = _rss(_front_pid()) - kills.front_rss
        errors = [client.error for client in clients if client.error is not None]
        if errors:
            raise errors[0]
        stop_oracle(_APPLICATION)
        return _figures(folder, clients, kills) | {"seconds": round(seconds, 1), "rss_growth_bytes": grown}


class _Kills:
    """What was killed, and what was in flight then; replicas: by process id."""

    def __init__(self) -> None:
        self.replicas: dict[int, int] = {}
        self.num_front = 0
        self.in_flight_at_front = 0
        self.front_rss = 0


def _kill(folder: Path, clients: list[_Client], say: Say) -> _Kills:
    """One engine after every 1,500 answers since both were ready, the front between the second and the third."""
    kills = _Kills()

    def answers() -> int:
        for client in clients:
            if client.error is not None:
                raise client.error
        return sum(client.num_answers for client in clients)

    for number in range(_REPLICA_KILLS):
        _wait(lambda: len(_engine_pids(folder)) == _NUM_REPLICAS and _is_running())
        if number == _REPLICA_KILLS // 2:
            _pass(answers, _ANSWERS_BETWEEN)
            kills.in_flight_at_front = _kill_one(folder, _front_pid())
            kills.num_front += 1
            say(f"killed the front, {kills.in_flight_at_front} questions in flight")
            _pass(answers, _ANSWERS_BETWEEN)
            kills.front_rss = _rss(_front_pid())
        _pass(answers, _ANSWERS_BETWEEN)
        victim = _engine_pids(folder)[number % _NUM_REPLICAS]
        kills.replicas[victim] = _kill_one(folder, victim, of=victim)
        say(f"killed engine {len(kills.replicas)} of {_REPLICA_KILLS} after {answers():,} answers")
    _wait(lambda: len(_engine_pids(folder)) == _NUM_REPLICAS)
    _pass(answers, max(_ANSWERS_BETWEEN, _FEWEST_QUESTIONS - answers()))
    return kills


def _kill_one(folder: Path, pid: int, of: int | None = None) -> int:
    """Kill a process; returns how many questions had been begun, by the engine `of` or by any, and were not stored."""
    os.kill(pid, signal.SIGKILL)
    killed_at = time.time()
    begun = [
        key
        for journal in read_journals(folder / "journals")
        if of in (None, journal.pid)
        for number, (at, keys) in journal.begun.items()
        if at <= killed_at and number > 1  # the first is an engine's rehearsal, nobody's question
        for key in keys
    ]
    return sum(not stored for stored in _are_stored(folder, begun))


def _are_stored(folder: Path, keys: list[tuple[str, str]]) -> list[bool]:
    prompt, model = load_prompt("score"), model_key("builtin")
    attribute_of = {prompt.render(attribute): attribute for attribute in load_source("faces").attributes}
    images, attributes = sorted({image for image, _ in keys}), tuple(attribute_of.values())
    found = ScoreStore(folder / "scores").lookup(images, attributes, model, prompt.version)
    row, column = {image: n for n, image in enumerate(images)}, {name: n for n, name in enumerate(attributes)}
    return [not np.isnan(found[row[image], column[attribute_of[text]], 0]) for image, text in keys]


def _figures(folder: Path, clients: list[_Client], kills: _Kills) -> dict[str, Any]:
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


def _engine_pids(folder: Path) -> list[int]:
    """Engines that are ready: they have answered something, and live."""
    return [pid for pid in ready_engines(folder / "journals") if _lives(pid)]


def _lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _is_running() -> bool:
    from ray import serve as ray_serve

    return ray_serve.status().applications[_APPLICATION].status == "RUNNING"


def _front_pid() -> int:
    from ray import serve as ray_serve

    return ray_serve.get_app_handle(_APPLICATION).pid.remote().result(timeout_s=120)


def _rss(pid: int) -> int:
    return psutil.Process(pid).memory_info().rss


def _pass(count: Callable[[], int], more: int) -> None:
    """Wait until so many more answers came."""
    goal = count() + more
    _wait(lambda: count() >= goal)


def _wait(until: Callable[[], bool], timeout_s: float = 300.0) -> None:
    give_up_at = time.monotonic() + timeout_s
    while not until():
        if time.monotonic() > give_up_at:
            raise RuntimeError(f"nothing more happened within {timeout_s:.0f} s")
        time.sleep(0.1)
