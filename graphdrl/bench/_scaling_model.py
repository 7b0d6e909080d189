"""What data-parallel training costs, as a formula: compute, the ranks' waiting for each other, bytes over a wire."""

from dataclasses import dataclass
from statistics import NormalDist, fmean
from typing import Any


@dataclass(frozen=True)
class RankStep:
    """One rank's step, as a mean over the steps. images: of a rank, the same however many ranks there are.

    alone_s: of a plain process: data, forward, backward, optimiser; engine_s: what DeepSpeed takes beyond that;
    spread_s: standard deviation between ranks at the same step; reduced_bytes: of gradients that are summed over the
    ranks; gathered_bytes: of weights that every rank has from all, as ZeRO does; num_collectives: how often ranks meet.
    """

    images: int
    alone_s: float
    engine_s: float
    spread_s: float
    reduced_bytes: float
    gathered_bytes: float
    num_collectives: float


@dataclass(frozen=True)
class Link:
    """The slowest wire of the ring. bytes_per_s: one way; latency_s: of one message."""

    bytes_per_s: float
    latency_s: float


@dataclass(frozen=True)
class Gpu:
    """What a step takes on a GPU that was not measured: the longer of computing and of being told what to do."""

    flops_per_s: float
    utilisation: float
    launch_s: float

    def step_s(self, flops: float, num_operations: float) -> float:
        return max(flops / (self.flops_per_s * self.utilisation), num_operations * self.launch_s)


def communication_s(step: RankStep, link: Link, ranks: int) -> float:
    """Ring algorithms: summing sends 2 (n-1)/n of the bytes in 2 (n-1) messages, gathering half of both.

    Nothing is taken to overlap with the backward pass, and every collective to have the messages of a sum.
    """
    share = (ranks - 1) / ranks
    sent = share * (2 * step.reduced_bytes + step.gathered_bytes)
    return sent / link.bytes_per_s + step.num_collectives * 2 * (ranks - 1) * link.latency_s


def waiting_s(spread_s: float, ranks: int) -> float:
    """By how much the slowest of n ranks is expected to be later than their mean: Blom's approximation for normals."""
    return spread_s * _slowest(ranks)


def spread_of(pairs: list[tuple[float, float]]) -> float:
    """The spread that explains how much later the slower of two ranks was; pairs: their seconds at the same steps."""
    return fmean(max(pair) - fmean(pair) for pair in pairs) / _slowest(2)


def predict(step: RankStep, link: Link, ranks: int) -> dict[str, Any]:
    """images_per_s of all ranks, and efficiency: their share of what so many independent processes would do."""
    parts = {
        "alone_s": step.alone_s,
        "engine_s": step.engine_s,
        "waiting_s": waiting_s(step.spread_s, ranks),
        "communication_s": communication_s(step, link, ranks),
    }
    step_s = sum(parts.values())
    return {
        "ranks": ranks,
        "images_per_s": ranks * step.images / step_s,
        "efficiency": step.alone_s / step_s,
        "step_s": step_s,
        **parts,
    }


def _slowest(ranks: int) -> float:
    return NormalDist().inv_cdf((ranks - 0.375) / (ranks + 0.25)) if ranks > 1 else 0.0
