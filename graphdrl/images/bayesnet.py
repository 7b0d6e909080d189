"""A small Bayesian network over values in [0, 1]: what built-in images are drawn from, hence their true relations."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter

import numpy as np
from scipy.special import ndtr

FAINTEST = 0.12
"""Smallest value of an attribute that shows at all: safely grade 1 of 5."""

_CALIBRATION_DRAWS = 20_000
_LARGEST_DRIVE = 0.9


@dataclass(frozen=True)
class Node:
    """One variable of the network.

    presence: probability that the attribute shows at all; its value is 0 otherwise, so the variable has a point mass
        there. None: the variable is always present and uniform on [0, 1].
    parents: the signed weight of each parent, in standard deviations of the child's propensity per standard deviation
        of the parent's value.
    """

    name: str
    presence: float | None = None
    parents: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.presence is not None and not 0 < self.presence <= 1:
            raise ValueError(f"presence of node {self.name!r} is {self.presence}; it must lie in (0, 1]")

    def value(self, propensity: np.ndarray, presence: float | None = None) -> np.ndarray:
        """Value in [0, 1] of a standard normal propensity: its quantile, absent below 1 - presence."""
        quantile = ndtr(propensity)
        if self.presence is None:
            return quantile
        share = self.presence if presence is None else presence
        shown = (quantile - (1 - share)) / share
        return np.where(shown > 0, FAINTEST + (1 - FAINTEST) * shown, 0.0)

    def moments(self) -> tuple[float, float]:
        """Mean and standard deviation of the value when the propensity is standard normal."""
        share, low = (1.0, 0.0) if self.presence is None else (self.presence, FAINTEST)
        mean = share * (1 + low) / 2
        return mean, float(np.sqrt(share * (1 + low + low**2) / 3 - mean**2))


class BayesNet:
    """Named nodes, each drawn given the values of its parents.

    propensity = sum of weight * standardised parent value + noise, scaled to variance 1; the value is its quantile,
    cut off below the node's presence. Base rates therefore stay what they are whatever the weights, and it is the
    base rates that make a relation asymmetric: what is rare tells much of what is common, and little the other way.
    """

    def __init__(self, nodes: Sequence[Node]) -> None:
        """Nodes in any order: it is the order of the columns of a sample.

        Raises ValueError on a repeated name, an unknown parent, a cycle, or weights so large that they leave no room
        for noise.
        """
        self._nodes = tuple(nodes)
        self._columns = {node.name: column for column, node in enumerate(self._nodes)}
        if len(self._columns) != len(self._nodes):
            raise ValueError(f"node names must be distinct: {[node.name for node in self._nodes]}")
        for node in self._nodes:
            unknown = [parent for parent in node.parents if parent not in self._columns]
            if unknown:
                raise ValueError(f"node {node.name!r} has a parent that is no node of the network: {unknown[0]!r}")
        self._order = self._parents_first()
        self._noise = np.ones(len(self._nodes))
        self._calibrate()

    @property
    def nodes(self) -> tuple[str, ...]:
        """Names of the nodes, in the order of the columns of a sample."""
        return tuple(self._columns)

    @property
    def edges(self) -> tuple[tuple[str, str, float], ...]:
        """(parent, child, weight) of every dependency."""
        return tuple((parent, node.name, weight) for node in self._nodes for parent, weight in node.parents.items())

    def sample(self, num: int, seed: int, do: Mapping[str, float] | None = None) -> np.ndarray:
        """Values float32 [num, F] of the joint distribution; the first rows do not depend on `num`.

        do: nodes that are set to a value, whatever their parents are (Pearl 2009, section 3.2). All other noise stays
        that of the seed, so that two samples of one seed differ by what was set and by nothing else.
        Raises ValueError for a node that is not there and for a value outside [0, 1].
        """
        fixed = {self._column_of(name): _checked(name, value) for name, value in (do or {}).items()}
        noise = np.random.default_rng(seed).standard_normal((num, len(self._nodes)))
        values = np.empty_like(noise)
        for column in self._order:
            node = self._nodes[column]
            if column in fixed:
                values[:, column] = fixed[column]
                continue
            propensity = self._drive(node, values) + self._noise[column] * noise[:, column]
            values[:, column] = node.value(propensity)
        return values.astype(np.float32)

    def effects(self, nodes: Sequence[str], num: int = 20_000, seed: int = 0) -> np.ndarray:
        """True interventional effects float64 [K, K] among K nodes: entry [i, j] is E[x_j | do(x_i = 1)] - E[x_j |
        do(x_i = 0)], the mean over `num` draws whose noise is shared; exactly 0 where no path leads from i to j.

        Raises ValueError for a node that is not there.
        """
        rows = [self.sample(num, seed, {name: 1.0}) - self.sample(num, seed, {name: 0.0}) for name in nodes]
        columns = [self.nodes.index(name) for name in nodes]
        return np.stack([row[:, columns].mean(axis=0, dtype=np.float64) for row in rows])

    def sample_independent(self, num: int, seed: int, presence: float | None = None) -> np.ndarray:
        """Values float32 [num, F] of the same nodes without any dependence.

        presence: one probability of showing for all nodes that can be absent, to see rare ones more often;
            None: each node's own.
        """
        noise = np.random.default_rng(seed).standard_normal((num, len(self._nodes)))
        values = [node.value(noise[:, column], presence) for column, node in enumerate(self._nodes)]
        return np.stack(values, axis=1).astype(np.float32)

    def sample_pairs(self, num: int, seed: int) -> np.ndarray:
        """Values float32 [num, F] in pairs: row 2i + 1 is row 2i with one node, any of them, drawn without dependence.

        Such pairs are the weak supervision of Locatello et al. (2020).
        """
        values = self.sample(num, seed)
        redrawn = self.sample_independent(num, seed + 1)
        second = np.arange(1, num, 2)
        nodes = np.random.default_rng((seed, 2)).integers(len(self._nodes), size=len(second))
        values[second] = values[second - 1]
        values[second, nodes] = redrawn[second, nodes]
        return values

    def _column_of(self, name: str) -> int:
        if name not in self._columns:
            raise ValueError(f"no node of the network is called {name!r}; there are: {', '.join(self.nodes)}")
        return self._columns[name]

    def _parents_first(self) -> list[int]:
        """Columns in an order in which every parent comes before its children."""
        try:
            order = tuple(TopologicalSorter({node.name: node.parents for node in self._nodes}).static_order())
        except CycleError as error:
            cycle = " -> ".join(error.args[1])
            raise ValueError(f"a Bayesian network has no cycles, but this one has {cycle}") from None
        return [self._columns[name] for name in order]

    def _drive(self, node: Node, values: np.ndarray) -> np.ndarray:
        """What the parents add to a node's propensity [N]."""
        drive = np.zeros(len(values))
        for parent, weight in node.parents.items():
            column = self._columns[parent]
            mean, deviation = self._nodes[column].moments()
            drive += weight * (values[:, column] - mean) / deviation
        return drive

    def _calibrate(self) -> None:
        """Set each node's noise so that its propensity has variance 1, by simulation, parents first."""
        noise = np.random.default_rng(0).standard_normal((_CALIBRATION_DRAWS, len(self._nodes)))
        values = np.empty_like(noise)
        for column in self._order:
            node = self._nodes[column]
            drive = self._drive(node, values)
            if drive.var() > _LARGEST_DRIVE:
                raise ValueError(
                    f"the parents of node {node.name!r} explain {drive.var():.2f} of its variance; "
                    f"at most {_LARGEST_DRIVE} is possible: make their weights smaller"
                )
            self._noise[column] = np.sqrt(1 - drive.var())
            values[:, column] = node.value(drive + self._noise[column] * noise[:, column])


def _checked(name: str, value: float) -> float:
    if not 0 <= value <= 1:
        raise ValueError(f"node {name!r} cannot be set to {value}: values lie in [0, 1]")
    return value
