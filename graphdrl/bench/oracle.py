"""The oracle's speed: against vLLM's own offline generation, for many clients, for a small one beside a greedy one."""

import base64
import io
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from PIL import Image

from graphdrl.bench.registry import Say
from graphdrl.bench.runs import fresh_folder
from graphdrl.images import ImageSet, load_source
from graphdrl.oracle import Ask, Oracle, Question, load_prompt
from graphdrl.oracle.asking import as_answered
from graphdrl.oracle.clients import HandleOracle, HttpOracle
from graphdrl.oracle.questions import A
from graphdrl.oracle.tiny.evaluate import agreement

_SIZE = 64
_NUM_IMAGES = 1_000
"""Of one measurement; every attribute of each is a question."""
_ROUNDS = 3
_IMAGES_PER_QUESTION = 16
_IN_FLIGHT = 4
_NUM_CHATS = 600
_GREEDY, _SMALL = 10_000, 50
_PORT = 8719
_APPLICATION = "oracle"


class _Faces:
    """Fresh images for every measurement: nothing can come out of a cache of results."""

    def __init__(self) -> None:
        self._source, self._seed = load_source("faces"), 1_000_000

    def draw(self, num: int) -> ImageSet:
        return self._source.draw(num, _SIZE, self.next_seed(), independent=True)

    def next_seed(self) -> int:
        self._seed += 1
        return self._seed


def run(say: Say) -> dict[str, Any]:
    """Rates in questions (one attribute of one image) per second; ratios are medians over rounds that alternate.

    Offline: `LLM.generate` on the same prompts, with vLLM's own defaults. The engine has one thread in both.
    `latency_s` is of a client's call (16 images, all attributes); `engine_busy` is the share of the time in which the
    engine computed.
    """
    from cluster import joined
    from serve import OracleSettings, start_oracle, stop_oracle

    faces = _Faces()
    with fresh_folder() as folder, joined(), ExitStack() as stack:
        settings = OracleSettings(score_store=Path(folder) / "scores", http_port=_PORT)
        say("starting the oracle")
        started = time.monotonic()
        start_oracle(settings, _APPLICATION)
        with closing(HandleOracle(_APPLICATION)) as client:
            client.submit(_question(faces.draw(1), 0, "first")).result(timeout=60)
        startup_s = time.monotonic() - started
        startup = {"startup_s": round(startup_s, 2), "startup": _where_it_goes(startup_s)}
        say(f"answered after {startup_s:.1f} s; starting vLLM's offline engine")
        offline = stack.enter_context(_offline())
        token = settings.door_key()
        figures = _against_offline(offline, faces, token, say) | startup
        figures["fairness"] = _fairness(faces, say)
        figures["fairness_p95_ratio"] = figures["fairness"]["p95_ratio"]
        chats = _chats(faces, token, say)
        ways = {"tokens": _quality(faces, say)}
        say("starting the oracle with structured answers")
        structured = OracleSettings(score_store=Path(folder) / "structured", scoring="structured")
        start_oracle(structured, "structured")
        stop_oracle(_APPLICATION)
        ways["structured"] = _quality(faces, say, "structured")
    figures["ways"] = ways
    figures["naive_chat"] = chats
    figures["vs_naive_chat"] = round(figures["handle"]["4"]["questions_per_s"] / chats["questions_per_s"], 2)
    return figures


@contextmanager
def _offline() -> Iterator[Callable[[int, int], dict[str, float]]]:
    """vLLM's offline engine in a process of its own: (seed, images) -> what it took."""
    with subprocess.Popen(
        [sys.executable, "-m", "graphdrl.bench._offline"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def answered() -> dict[str, float]:
            for line in process.stdout:  # type: ignore[union-attr]
                if line.startswith("{"):
                    return json.loads(line)
            raise RuntimeError("vLLM's offline engine ended: python -m graphdrl.bench._offline says why")

        def ask(seed: int, num_images: int) -> dict[str, float]:
            process.stdin.write(f"{seed} {num_images}\n")  # type: ignore[union-attr]
            process.stdin.flush()  # type: ignore[union-attr]
            return answered()

        answered()
        ask(999_999, 20)  # warm, as the oracle is
        yield ask
        process.stdin.close()


def _against_offline(offline: Callable[[int, int], dict[str, float]], faces: _Faces, token: str, say: Say) -> dict:
    """Handle with 1, 4 and 16 clients and HTTP with 4, each round beside an offline one."""
    cases = {"handle_1": 1, "handle_4": 4, "handle_16": 16, "http_4": 4}
    rows: dict[str, list[dict[str, Any]]] = {case: [] for case in cases}
    base: list[float] = []
    for _ in range(_ROUNDS):
        for case, num_clients in cases.items():
            alone = offline(faces.next_seed(), _NUM_IMAGES)
            base.append(alone["questions"] / alone["seconds"])
            row = _throughput(faces, num_clients, token if case.startswith("http") else None)
            row["ratio"] = row["questions_per_s"] / base[-1]
            rows[case].append(row)
            say(f"{case}: {row['questions_per_s']:.0f} questions/s, offline {base[-1]:.0f}, ratio {row['ratio']:.2f}")
    figures: dict[str, Any] = {"offline_questions_per_s": round(median(base), 1), "handle": {}, "http": {}}
    for case, measured in rows.items():
        door, clients = case.split("_")
        figures[f"{door}_vs_offline_{clients}"] = round(median(row["ratio"] for row in measured), 3)
        figures[door][clients] = sorted(measured, key=lambda row: row["ratio"])[len(measured) // 2]
    return figures


def _throughput(faces: _Faces, num_clients: int, token: str | None = None) -> dict[str, Any]:
    """All clients ask at once, each about its share of the images."""
    images = faces.draw(_NUM_IMAGES)
    shares = np.array_split(np.arange(_NUM_IMAGES), num_clients)
    with ExitStack() as stack:
        clients = [stack.enter_context(closing(_client(token))) for _ in range(num_clients)]
        before = _snapshot()
        started = time.monotonic()
        with ThreadPoolExecutor(num_clients) as pool:
            asked = [
                pool.submit(_ask_all, client, images, share, f"client {number}")
                for number, (client, share) in enumerate(zip(clients, shares, strict=True))
            ]
            latencies = [latency for one in asked for latency in one.result()]
        seconds = time.monotonic() - started
        after = _snapshot()
    num_questions = _NUM_IMAGES * len(images.attributes)
    assert after.total()["asked"] - before.total()["asked"] == num_questions
    return {
        "questions_per_s": round(num_questions / seconds, 1),
        "latency_s": _percentiles(latencies),
        "engine_busy": round((after.busy_s - before.busy_s) / seconds, 3),
    }


def _client(token: str | None) -> HandleOracle | HttpOracle:
    if token is None:
        return HandleOracle(_APPLICATION)
    return HttpOracle(f"http://127.0.0.1:{_PORT}/{_APPLICATION}", token)


def _question(images: ImageSet, rows: Any, client: str) -> Question:
    return Question(images.images[np.atleast_1d(rows)], images.attributes, client=client)


def _ask_all(oracle: Oracle, images: ImageSet, rows: np.ndarray, client: str) -> list[float]:
    """Seconds from asking to answer, of each question."""
    parts = np.array_split(rows, max(1, len(rows) // _IMAGES_PER_QUESTION))
    timed = _Timed(oracle)
    for _ in as_answered(timed, (_question(images, part, client) for part in parts), _IN_FLIGHT):
        pass
    return timed.seconds


class _Timed:
    """An `Oracle` that notes how long each answer takes."""

    def __init__(self, oracle: Oracle) -> None:
        self._oracle = oracle
        self.seconds: list[float] = []

    def submit(self, question: Ask[A]) -> "Future[A]":
        started = time.monotonic()
        future = self._oracle.submit(question)
        future.add_done_callback(lambda _: self.seconds.append(time.monotonic() - started))
        return future

    def close(self) -> None:
        self._oracle.close()


def _fairness(faces: _Faces, say: Say) -> dict[str, float]:
    """A client with 50 questions, four at a time, alone and beside one that has asked 10,000 at once."""
    with closing(HandleOracle(_APPLICATION)) as small, closing(HandleOracle(_APPLICATION)) as greedy:
        alone = _few(small, faces.draw(_SMALL))
        many = faces.draw(-(-_GREEDY // len(faces.draw(1).attributes)))
        parts = np.array_split(np.arange(len(many)), len(many) // _IMAGES_PER_QUESTION)
        flood = [greedy.submit(_question(many, part, "greedy")) for part in parts]
        while not _snapshot().queued.get("greedy"):
            time.sleep(0.01)
        beside = _few(small, faces.draw(_SMALL))
        left = sum(not one.done() for one in flood) / len(flood)
        for one in flood:
            one.result(timeout=600)
    figures = {"alone_p95_s": _p(alone, 95), "beside_p95_s": _p(beside, 95), "greedy_left": round(left, 2)}
    figures["p95_ratio"] = round(figures["beside_p95_s"] / figures["alone_p95_s"], 2)
    say(f"small client: {figures}")
    return figures


def _few(oracle: Oracle, images: ImageSet) -> list[float]:
    """Seconds of single grades."""
    timed, names = _Timed(oracle), images.attributes
    questions = (
        Question(image[None], (names[number % len(names)],), client="small")
        for number, image in enumerate(images.images)
    )
    for _ in as_answered(timed, questions, _IN_FLIGHT):
        pass
    return timed.seconds


def _chats(faces: _Faces, token: str, say: Say) -> dict[str, float]:
    """The plain way: one chat completion an attribute, the image in base64, over HTTP; four at a time."""
    from openai import OpenAI

    images = faces.draw(_NUM_CHATS // len(faces.draw(1).attributes))
    prompt = load_prompt("score")
    client = OpenAI(base_url=f"http://127.0.0.1:{_PORT}/{_APPLICATION}/v1", api_key=token)
    model = client.models.list().data[0].id

    def ask(image: np.ndarray, attribute: str) -> str:
        file = io.BytesIO()
        Image.fromarray(image).save(file, "png")
        url = f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
        content: Any = [
            {"type": "image_url", "image_url": {"url": url}},
            {"type": "text", "text": prompt.render(attribute)},
        ]
        answer = client.chat.completions.create(
            model=model, messages=[{"role": "user", "content": content}], max_tokens=1, temperature=0.0
        )
        return answer.choices[0].message.content or ""

    ask(images.images[0], images.attributes[0])
    images = faces.draw(len(images))
    asked = [(image, attribute) for image in images.images for attribute in images.attributes]
    started = time.monotonic()
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda pair: ask(*pair), asked))
    rate = len(answers) / (time.monotonic() - started)
    assert all(answer in "012345" for answer in answers)
    say(f"one chat a score: {rate:.0f} scores/s")
    return {"questions_per_s": round(rate, 1), "clients": 4}


def _quality(faces: _Faces, say: Say, application: str = _APPLICATION) -> dict[str, float]:
    """Scores a second of four clients, and how well those scores agree with the truth."""
    images = load_source("faces", presence=0.7).draw(_NUM_IMAGES, _SIZE, faces.next_seed(), independent=True)
    parts = np.array_split(np.arange(_NUM_IMAGES), _NUM_IMAGES // _IMAGES_PER_QUESTION)
    with closing(HandleOracle(application)) as client:
        client.submit(_question(faces.draw(1), 0, "first")).result(timeout=60)
        started = time.monotonic()
        questions = [_question(images, part, f"client {number % 4}") for number, part in enumerate(parts)]
        answers = dict(as_answered(client, questions, 4 * _IN_FLIGHT))
        seconds = time.monotonic() - started
    assert images.grades is not None
    expected = np.concatenate([answers[number].expected for number in range(len(parts))])
    rate = expected.size / seconds
    rho = agreement(expected, images.grades, True, images.attributes)["spearman_mean"]
    malformed = float(np.mean([answer.malformed.mean() for answer in answers.values()]))
    say(f"{application}: {rate:.0f} scores/s, spearman {rho:.3f}, malformed {malformed:.3f}")
    return {"scores_per_s": round(rate, 1), "spearman_mean": round(rho, 4), "malformed": round(malformed, 4)}


def _where_it_goes(startup_s: float) -> dict[str, float]:
    """Seconds of the engine replica's start, and what is left for Serve."""
    from ray import serve as ray_serve

    engine = ray_serve.get_deployment_handle("engine", _APPLICATION)
    stages = engine.startup.remote().result(timeout_s=60)
    return {name: round(seconds, 2) for name, seconds in stages.items()} | {
        "serve_and_first_answer": round(startup_s - sum(stages.values()), 2)
    }


def _snapshot() -> Any:
    from ray import serve as ray_serve

    return ray_serve.get_app_handle(_APPLICATION).snapshot.remote().result(timeout_s=60)


def _percentiles(seconds: list[float]) -> dict[str, float]:
    return {f"p{percent}": _p(seconds, percent) for percent in (50, 95, 99)}


def _p(seconds: list[float], percent: int) -> float:
    return round(float(np.percentile(seconds, percent)), 4)
