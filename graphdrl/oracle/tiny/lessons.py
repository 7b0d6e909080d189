"""Which questions a training step asks: the score of everything, and a sample of all else."""

import numpy as np
import torch

from graphdrl.oracle.questions import HIGHEST_GRADE, NUM_GRADES
from graphdrl.oracle.tiny.data import ATTRIBUTES, Batch
from graphdrl.oracle.tiny.tasks import Branch, Tasks

NUM_AGAIN = 3
NUM_ORDINARY = 12
"""Pairs of a step that differ in more than one attribute."""

_IN_ORDER = 0.25  # share of the JSON questions whose attributes keep the order of `ATTRIBUTES`


class Lessons:
    """Draws branches for batches; the same ones for the same seed."""

    def __init__(self, tasks: Tasks, seed: int) -> None:
        self._tasks, self._rng = tasks, np.random.default_rng([seed, 4])
        self._turn = 0

    def single(self, values: torch.Tensor, everything: bool) -> list[Branch]:
        """About single images of values [B, K]: the scores and, when everything is asked, a sample of the rest."""
        tasks, num = self._tasks, len(values)
        branches = tasks.score(values, range(len(ATTRIBUTES)))
        if not everything:
            return branches
        branches.append(tasks.ending("score", *self._digit(), num))
        branches.append(tasks.score_all(values, self._orders(num), self._context(values)))
        self._turn += 1
        if self._turn % 2:
            return [*branches, tasks.describe(values)]
        again = tasks.score(values, self._some(NUM_AGAIN), "score_again")
        return [*branches, *again, tasks.ending("score_again", *self._digit(), num)]

    def pair_up(self, batch: Batch) -> torch.Tensor:
        """Pairs int64 [P, 2] of a batch's images, in either order: its changes, and some neighbours."""
        num = len(batch.pixels) - len(batch.changed)
        first = torch.from_numpy(self._rng.permutation(num)[:NUM_ORDINARY])
        second = (first + int(self._rng.integers(1, 4))) % num  # a near one is of the same kind most often
        pairs = torch.cat([batch.changed, torch.stack([first, second], dim=1)])
        turned = torch.from_numpy(self._rng.random(len(pairs)) < 0.5)
        return torch.where(turned[:, None], pairs.flip(1), pairs)

    def double(self, first: torch.Tensor, second: torch.Tensor) -> list[Branch]:
        """About pairs of images with values [P, K] each."""
        branches = self._tasks.rank(first, second, range(len(ATTRIBUTES)))
        ending = self._tasks.ending("rank", self._some(1)[0], int(self._rng.integers(1, 3)), len(first), 2)
        return [*branches, ending, self._tasks.name(first, second)]

    def _some(self, num: int) -> list[int]:
        return self._rng.permutation(len(ATTRIBUTES))[:num].tolist()

    def _orders(self, num: int) -> torch.Tensor:
        """Some attributes as columns int64 [num, n], in an order for each row."""
        columns = np.sort(self._some(int(self._rng.integers(1, len(ATTRIBUTES) + 1))))
        in_order = self._rng.random(num) < _IN_ORDER
        return torch.from_numpy(np.stack([columns if keep else self._rng.permutation(columns) for keep in in_order]))

    def _digit(self) -> tuple[int, int]:
        """An attribute and a grade."""
        return self._some(1)[0], int(self._rng.integers(NUM_GRADES))

    def _context(self, values: torch.Tensor) -> torch.Tensor:
        """Grades int64 [B, K] as the model might have written them: values rounded at random, anything for NaN."""
        noise = torch.from_numpy(self._rng.random(values.shape, np.float32))
        grades = torch.where(values.isnan(), noise * NUM_GRADES, values * HIGHEST_GRADE + noise)
        return grades.floor().long().clamp(0, HIGHEST_GRADE)
