"""Discovered nodes: move one latent dimension, let the oracle score what changes, and name it after that.

Xie et al. 2024, section 3, leave open how a latent dimension comes to mean an attribute; this is our answer:
a dimension is named after the attribute whose score moves most along its traversal.
"""

import json
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment

from graphdrl.images import to_float, to_uint8
from graphdrl.oracle.protocol import Busy, Oracle
from graphdrl.oracle.questions import Answer, Question
from graphdrl.relations.edges import NodeMap
from graphdrl.training.context import TrainContext
from graphdrl.training.engine import Engine
from graphdrl.training.relations_source import RelationsSource
from graphdrl.training.runs import Run, write_atomically

TRAVERSAL = (-2.0, 0.0, 2.0)
"""Where a dimension is put, in standard deviations of the prior."""


@dataclass(frozen=True)
class NamedDimension:
    """One latent dimension with its evidence.

    slope: grades that the attribute gains for one standard deviation of the dimension.
    runner_up: the attribute that moves second most, and `runner_up_slope`.
    """

    dimension: int
    name: str
    slope: float
    runner_up: str
    runner_up_slope: float


def slopes(expected: np.ndarray, values: Sequence[float] = TRAVERSAL) -> np.ndarray:
    """Least-squares slope of each attribute along each dimension's traversal.

    expected: [Z, V, B, K] grades of B images at V values of Z dimensions; returns [Z, K], grades per unit.
    """
    centred = np.asarray(values) - np.mean(values)
    return np.einsum("v,zvk->zk", centred, expected.mean(axis=2)) / (centred**2).sum()


def match(slope: np.ndarray, least: float) -> NodeMap:
    """Give each attribute at most one dimension, so that the sum of |slope| is largest.

    slope: [Z, K]; pairs whose |slope| is below `least` grades per standard deviation stay unmatched (-1).
    """
    num_attributes = slope.shape[1]
    dimensions, signs = [-1] * num_attributes, [1] * num_attributes
    for dimension, attribute in zip(*linear_sum_assignment(-np.abs(slope)), strict=True):
        if abs(slope[dimension, attribute]) >= least:
            dimensions[attribute] = int(dimension)
            signs[attribute] = 1 if slope[dimension, attribute] > 0 else -1
    return NodeMap(tuple(dimensions), tuple(signs))


def describe(slope: np.ndarray, node_map: NodeMap, attributes: Sequence[str]) -> list[NamedDimension]:
    """Every dimension by name; those that no attribute claims are called `factor_3`."""
    owner = {dimension: attributes[k] for k, dimension in enumerate(node_map.dimensions) if dimension >= 0}
    named = []
    for dimension, row in enumerate(slope):
        order = np.argsort(-np.abs(row))
        best, second = order[0], order[min(1, len(order) - 1)]
        name = owner.get(dimension, f"factor_{dimension}")
        shown = attributes.index(name) if dimension in owner else best
        other = second if shown == best else best
        named.append(NamedDimension(dimension, name, float(row[shown]), attributes[other], float(row[other])))
    return named


class Namer:
    """Names the dimensions at the given steps, without holding up the training."""

    def __init__(
        self,
        context: TrainContext,
        oracle: Oracle,
        run: Run,
        images: np.ndarray,
        attributes: tuple[str, ...],
        *,
        at_steps: frozenset[int],
        least_slope: float,
    ) -> None:
        self._context, self._oracle, self._run = context, oracle, run
        self._images, self._attributes = images, attributes
        self._at_steps, self._least_slope = at_steps, least_slope
        self._pending: list[Future[Answer]] = []
        self._unasked: list[Question] = []
        self._shape: tuple[int, ...] = ()

    def after_step(self, step: int, generator: Engine, relations: RelationsSource) -> None:
        """Start a naming when its step has come; finish it when the answers are there."""
        if step in self._at_steps:
            strips = self._draw(generator)
            if self._context.rank == 0:
                self._start(strips)
        if self._unasked:
            self._submit()
        elif self._pending and all(future.done() for future in self._pending):
            relations.set_node_map(self._finish())

    def _draw(self, generator: Engine) -> np.ndarray:
        """Traversals of every dimension, uint8 [Z, V, B, S, S, 3]; collective, since ZeRO-3 gathers the weights."""
        with generator.gathered() as model, torch.no_grad():
            codes = model.encode(to_float(self._images).to(self._context.device))
            rows = [
                model.decode(torch.cat([codes[:, :z], torch.full_like(codes[:, z : z + 1], v), codes[:, z + 1 :]], 1))
                for z in range(codes.shape[1])
                for v in TRAVERSAL
            ]
        strips = np.stack([to_uint8(row) for row in rows])
        return strips.reshape(codes.shape[1], len(TRAVERSAL), *strips.shape[1:])

    def _start(self, strips: np.ndarray) -> None:
        self._shape = strips.shape[:3]
        self._pending = []
        self._unasked = [
            Question(images=strip.reshape(-1, *strip.shape[2:]), attributes=self._attributes, source="traversal")
            for strip in strips
        ]

    def _submit(self) -> None:
        try:
            while self._unasked:
                self._pending.append(self._oracle.submit(self._unasked[0]))
                self._unasked.pop(0)
        except Busy:
            return

    def _finish(self) -> NodeMap:
        answers = [future.result() for future in self._pending]
        self._pending = []
        expected = np.stack([np.nan_to_num(answer.expected) for answer in answers])
        slope = slopes(expected.reshape(*self._shape, len(self._attributes)))
        node_map = match(slope, self._least_slope)
        nodes = [asdict(node) for node in describe(slope, node_map, list(self._attributes))]
        write_atomically(self._run.nodes, json.dumps(nodes, indent=2))
        return node_map
