"""The model of scaling against cases worked by hand, and what its figures stand on."""

import json
import socket
import threading
import time
from pathlib import Path

import pytest
import torch

from graphdrl.bench._scaling_model import Gpu, Link, RankStep, communication_s, predict, spread_of, waiting_s
from graphdrl.bench._stopwatch import Stopwatch
from graphdrl.bench._turns import Conductor, NoMoreTurnsError, TakingTurns
from graphdrl.training import LocalContext

STEP = RankStep(
    images=40, alone_s=0.1, engine_s=0.005, spread_s=0.0, reduced_bytes=4e6, gathered_bytes=2e6, num_collectives=3
)
LINK = Link(bytes_per_s=1e9, latency_s=1e-4)


def test_one_rank_talks_to_nobody() -> None:
    assert communication_s(STEP, LINK, 1) == 0
    assert waiting_s(0.1, 1) == 0
    alone = predict(STEP, LINK, 1)
    assert alone["images_per_s"] == pytest.approx(40 / 0.105)


def test_a_ring_sends_what_the_formula_says() -> None:
    # Of 4 ranks: 3/4 of (2 x 4 MB + 2 MB) at 1 GB/s, and 3 collectives of 6 messages.
    assert communication_s(STEP, LINK, 4) == pytest.approx(7.5e-3 + 1.8e-3)


def test_two_ranks_by_hand() -> None:
    found = predict(STEP, LINK, 2)
    assert found["step_s"] == pytest.approx(0.1 + 0.005 + 5e-3 + 6e-4)
    assert found["images_per_s"] == pytest.approx(80 / found["step_s"])
    assert found["efficiency"] == pytest.approx(0.1 / found["step_s"])


def test_more_ranks_are_less_efficient_and_still_faster() -> None:
    step = RankStep(**{**STEP.__dict__, "spread_s": 0.002})
    found = [predict(step, LINK, ranks) for ranks in (1, 2, 8, 64)]
    efficiency = [each["efficiency"] for each in found]
    assert efficiency == sorted(efficiency, reverse=True)
    assert [each["images_per_s"] for each in found] == sorted(each["images_per_s"] for each in found)


def test_the_slowest_of_many_normal_ranks_is_as_late_as_a_draw_says() -> None:
    draws = torch.randn(20_000, 64, generator=torch.Generator().manual_seed(0)) * 0.01
    for ranks in (2, 8, 64):
        assert waiting_s(0.01, ranks) == pytest.approx(float(draws[:, :ranks].amax(1).mean()), rel=0.06)


def test_the_spread_is_found_again_in_pairs() -> None:
    pairs = (
        0.1 + 0.01 * torch.randn(20_000, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    ).tolist()
    assert spread_of([(a, b) for a, b in pairs]) == pytest.approx(0.01, rel=0.06)


def test_a_gpu_computes_or_waits_to_be_told() -> None:
    gpu = Gpu(flops_per_s=1e12, utilisation=0.5, launch_s=1e-5)
    assert gpu.step_s(flops=1e11, num_operations=100) == pytest.approx(0.2)
    assert gpu.step_s(flops=1e9, num_operations=1000) == pytest.approx(0.01)


def test_a_part_is_charged_without_the_parts_inside_it() -> None:
    watch = Stopwatch()
    with watch.part("outer"):
        time.sleep(0.02)
        with watch.part("inner"):
            time.sleep(0.05)
    read = watch.read()["seconds"]
    assert read["inner"] >= 0.05
    assert 0.02 <= read["outer"] < read["inner"] + 0.02
    assert watch.read()["seconds"] == {}


def test_turns_are_taken_one_after_the_other(tmp_path: Path) -> None:
    done: list[str] = []

    def train(name: str) -> None:
        context = TakingTurns(LocalContext(torch.device("cpu")), name, conductor.address, {"number": lambda: 7})
        try:
            context.wait()
            while True:
                done.append(name)
                context.mean(torch.zeros(1))
        except NoMoreTurnsError:
            done.append(f"{name} ended")

    with Conductor(tmp_path) as conductor:
        players = [threading.Thread(target=train, args=(name,)) for name in ("a", "b")]
        for player in players:
            player.start()
        conductor.gather(["a", "b"], lambda: True)
        assert all(seconds >= 0 for name in "abba" for seconds in conductor.turn(name))
        assert conductor.order("number", "b") == [7]
        assert done == ["a", "b", "b", "a"]
    for player in players:
        player.join(10)
    assert sorted(done[4:]) == ["a ended", "b ended"]


def test_whoever_does_not_come_is_named(tmp_path: Path) -> None:
    with Conductor(tmp_path) as conductor, socket.socket(socket.AF_UNIX) as other:
        other.connect(conductor.address)
        other.sendall(json.dumps({"name": "a"}).encode() + b"\n")
        with pytest.raises(RuntimeError, match="b did not start"):
            conductor.gather(["a", "b"], iter([True, False]).__next__)
