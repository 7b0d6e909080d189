"""The oracle as it runs: Ray Serve, the front, the doors; behind them first a fake engine, then vLLM itself."""

import concurrent.futures
import os
import signal
import socket
import sys
import time
from contextlib import closing

import controlled
import numpy as np
import pytest
import ray
from controlled import ATTRIBUTES, controlled_by, fail_to_start, grade
from ports import free_port
from ray import serve as ray_serve

from graphdrl.images.ids import image_ids
from graphdrl.oracle.clients import HandleOracle, HttpOracle
from graphdrl.oracle.protocol import Busy, OracleError
from graphdrl.oracle.questions import Question, RankQuestion, RelateQuestion
from graphdrl.oracle.tiny.local import TransformersOracle
from graphdrl.relations import CorrelateQuestion
from serve import OracleSettings, start_oracle, stop_oracle, wait_for_oracle

MAX_QUEUE = 12


def some_images(num: int, seed: int, size: int = 16) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (num, size, size, 3), dtype=np.uint8)


def known(images: np.ndarray) -> np.ndarray:
    return np.array([[grade(image, attribute) for attribute in ATTRIBUTES] for image in image_ids(images)])


@pytest.fixture(scope="module")
def cluster():
    ray.cloudpickle.register_pickle_by_value(sys.modules[controlled.__name__])
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=100 << 20)
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def fake(cluster, tmp_path_factory):
    """A running oracle with an HTTP door and a fake engine: its settings, and the folder that controls the engine."""
    folder = tmp_path_factory.mktemp("fake")
    settings = OracleSettings(num_cpus=0.5, score_store=folder / "scores", max_queue=MAX_QUEUE, http_port=free_port())
    start_oracle(settings, "fake", make_engine=controlled_by(folder))
    yield settings, folder
    stop_oracle("fake")


@pytest.fixture
def client(fake):
    oracle = HandleOracle("fake", max_pending=4)
    yield oracle
    oracle.close()


def web(settings: OracleSettings, key: str | None = None) -> HttpOracle:
    return HttpOracle(f"http://127.0.0.1:{settings.http_port}/fake", key or settings.door_key())


def test_a_question_through_the_handle_is_answered_and_never_asked_twice(client):
    images = some_images(4, seed=0)
    first = client.submit(Question(images, ATTRIBUTES)).result(timeout=60)
    again = client.submit(Question(images, ATTRIBUTES)).result(timeout=60)
    np.testing.assert_allclose(first.expected, known(images), atol=1e-5)
    np.testing.assert_array_equal(again.expected, first.expected)
    assert (first.num_asked, again.num_asked) == (12, 0)


def test_both_doors_lead_to_the_same_oracle(client, fake):
    settings, _ = fake
    images = some_images(3, seed=1)
    inside = client.submit(Question(images, ATTRIBUTES)).result(timeout=60)
    oracle = web(settings)
    outside = oracle.submit(Question(images, ATTRIBUTES)).result(timeout=60)
    np.testing.assert_allclose(outside.expected, inside.expected, atol=1e-5)
    assert outside.image_ids == inside.image_ids
    assert outside.num_asked == 0
    assert oracle.stats()["questions"] >= 2
    oracle.close()
    assert (settings.score_store / "door.key").stat().st_mode & 0o077 == 0


def test_the_http_door_says_no_in_the_clients_own_terms(fake):
    settings, _ = fake
    with pytest.raises(OracleError, match="Bearer"):
        web(settings, "wrong").submit(Question(some_images(1, seed=2), ATTRIBUTES)).result(timeout=60)
    with pytest.raises(ValueError, match="cannot be an attribute"):
        web(settings).submit(Question(some_images(1, seed=2), ("hat{",))).result(timeout=60)
    with pytest.raises(OracleError, match="does the oracle run there"):
        HttpOracle(f"http://127.0.0.1:{free_port()}/fake", "k").submit(Question(some_images(1, 2), ("hat",))).result()


def test_whoever_is_refused_by_a_full_queue_asks_again_by_itself(fake):
    settings, folder = fake
    (folder / "hold").touch()
    clients = [HandleOracle("fake", max_pending=8), web(settings)]
    futures = [client.submit(Question(some_images(3, seed=30 + n), ATTRIBUTES)) for n in range(4) for client in clients]
    while not clients[1].stats()["refused"]:
        time.sleep(0.02)
    assert not any(future.done() for future in futures)
    (folder / "hold").unlink()
    for number, future in enumerate(futures):
        images = some_images(3, seed=30 + number // 2)
        np.testing.assert_allclose(future.result(timeout=60).expected, known(images), atol=1e-5)
    for client in clients:
        client.close()


def test_a_front_that_dies_is_replaced_and_its_questions_are_answered(client, fake):
    _, folder = fake
    kept = client.submit(Question(some_images(2, seed=40), ATTRIBUTES)).result(timeout=60)
    (folder / "hold").touch()
    pending = client.submit(Question(some_images(2, seed=41), ATTRIBUTES))
    handle = ray_serve.get_app_handle("fake")
    while not handle.snapshot.remote().result(timeout_s=60).in_flight:
        time.sleep(0.02)
    os.kill(handle.pid.remote().result(timeout_s=60), signal.SIGKILL)
    (folder / "hold").unlink()
    np.testing.assert_allclose(pending.result(timeout=120).expected, known(some_images(2, seed=41)), atol=1e-5)
    again = client.submit(Question(some_images(2, seed=40), ATTRIBUTES)).result(timeout=60)
    assert (kept.num_asked, again.num_asked) == (6, 0)


def test_a_client_has_a_bound_of_its_own_and_gives_up_when_it_is_closed(fake):
    _, folder = fake
    (folder / "hold").touch()
    oracle = HandleOracle("fake", max_pending=1)
    pending = oracle.submit(Question(some_images(1, seed=5), ATTRIBUTES))
    with pytest.raises(Busy, match="in flight already"):
        oracle.submit(Question(some_images(1, seed=6), ATTRIBUTES))
    oracle.close()
    (folder / "hold").unlink()
    with pytest.raises(concurrent.futures.CancelledError):
        pending.result(timeout=60)
    with pytest.raises(OracleError, match="was closed"):
        oracle.submit(Question(some_images(1, seed=5), ATTRIBUTES))


def test_an_engine_that_dies_is_replaced_and_its_questions_are_answered(client, fake):
    _, folder = fake
    (folder / "die").touch()
    images = some_images(2, seed=7)
    answer = client.submit(Question(images, ATTRIBUTES)).result(timeout=120)
    np.testing.assert_allclose(answer.expected, known(images), atol=1e-5)
    assert not (folder / "die").exists()


def test_a_running_oracle_is_found_again_and_is_not_given_another_model(fake):
    settings, _ = fake
    start_oracle(settings, "fake", make_engine=fail_to_start)
    other = settings.model_copy(update={"model": "somebody/another-model"})
    with pytest.raises(OracleError, match=r"already runs with oracle.model='builtin', not 'somebody/another-model'"):
        start_oracle(other, "fake")


def test_every_kind_of_question_goes_through_both_doors(client, fake):
    settings, _ = fake
    images = some_images(40, seed=50)
    question = CorrelateQuestion(images, ATTRIBUTES, num_bootstrap=20)
    inside = client.submit(question).result(timeout=60)
    with closing(web(settings)) as oracle:
        outside = oracle.submit(question).result(timeout=60)
        ranked = oracle.submit(RankQuestion(images[:4], images[4:8], ATTRIBUTES)).result(timeout=60)
        with pytest.raises(OracleError, match="has no commonsense"):
            oracle.submit(RelateQuestion(ATTRIBUTES)).result(timeout=60)
        counts = oracle.stats()
    np.testing.assert_allclose(outside.edges.weights, inside.edges.weights, atol=1e-6)
    np.testing.assert_allclose(inside.scores.expected.mean(0), known(images).mean(0), atol=1e-4)
    assert ranked.num_asked == 0
    assert counts["failed"] == 1


def test_engines_come_with_the_queue_and_go_when_there_is_none(fake, tmp_path):
    """From none to one and back."""
    settings = OracleSettings(
        num_cpus=0.1, num_replicas=0, min_replicas=0, max_replicas=1, idle_s=1, score_store=tmp_path / "scores"
    )
    (tmp_path / "control").mkdir()
    start_oracle(settings, "elastic", make_engine=controlled_by(tmp_path / "control"))
    handle = ray_serve.get_app_handle("elastic")

    def num_engines() -> int:
        return handle.snapshot.remote().result(timeout_s=60).num_replicas

    assert num_engines() == 0
    with closing(HandleOracle("elastic")) as oracle:
        images = some_images(2, seed=60)
        answer = oracle.submit(Question(images, ATTRIBUTES)).result(timeout=120)
        np.testing.assert_allclose(answer.expected, known(images), atol=1e-5)
    while num_engines():
        time.sleep(0.2)
    stop_oracle("elastic")


def test_an_engine_that_cannot_start_is_one_sentence_and_leaves_nothing_behind(fake, tmp_path):
    settings = OracleSettings(score_store=tmp_path)
    with pytest.raises(OracleError, match=r"^model 'builtin' cannot be served by anybody: name another$"):
        start_oracle(settings, "broken", make_engine=fail_to_start)
    with pytest.raises(OracleError, match="no application 'broken' runs"):
        HandleOracle("broken")
    with pytest.raises(ValueError, match="there is no folder"):
        start_oracle(settings.model_copy(update={"model": str(tmp_path / "nowhere")}), "broken")


def test_vllm_answers_as_the_model_does_and_a_busy_port_is_named_before(fake, tmp_path):
    stop_oracle("fake")  # only beside other applications does Serve keep its door
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(
            OracleError, match=rf"port {port} on 127.0.0.1 is in use.*set oracle.http_port to a free port"
        ):
            start_oracle(OracleSettings(score_store=tmp_path, http_port=port), "oracle")
    start_oracle(OracleSettings(score_store=tmp_path), "oracle", wait=False)
    served = HandleOracle("oracle")
    question = Question(some_images(6, seed=8, size=64), ("hat", "age", "smile"))
    answer = served.submit(question)
    wait_for_oracle("oracle")
    local = TransformersOracle()
    np.testing.assert_allclose(
        answer.result(timeout=60).expected, local.submit(question).result(timeout=60).expected, atol=2e-3
    )
    assert answer.result().model == local.submit(question).result().model
    local.close()
    served.close()
    stop_oracle("oracle")
    assert len(list(tmp_path.glob("*.parquet"))) == 1
