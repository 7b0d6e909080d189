"""What all trials of a search share, and what each has of its own."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graphdrl.config import Config, check, with_values

_ALL = 1_000_000


@dataclass(frozen=True)
class TrialPlan:
    """What all trials of a search share; it travels to each of them.

    folder: the search's, absolute. base: the configuration that is searched around, as a plain tree. listed, ends: of
    each searched key its values, or its lowest and highest. edges: the actor that holds the relations. asks: whether
    trials themselves ask the oracle, about nodes. passes_models: whether a trial may go on with another one's model.
    nodes: what each node of the cluster has, as Ray names it.
    """

    folder: Path
    base: dict[str, Any]
    objective: str
    listed: dict[str, tuple[Any, ...]]
    ends: dict[str, tuple[float, float]]
    edges: Any
    asks: bool
    passes_models: bool
    nodes: tuple[dict[str, float], ...]

    def values(self, drawn: dict[str, Any]) -> dict[str, Any]:
        """The searched values of what Tune drew: of a listed value it draws the place in the list.

        What it changed on the way may lie beyond the ends, and stays within them here.
        """
        return {key: self._value(key, value) for key, value in drawn.items()}

    def _value(self, key: str, drawn: Any) -> Any:
        if key in self.listed:
            return self.listed[key][drawn]
        low, high = self.ends[key]
        return min(max(drawn, low), high)

    def config(self, name: str, values: dict[str, Any]) -> Config:
        own: dict[str, Any] = {"name": name, "runs": str(self.folder / "trials")}
        if self.passes_models:
            own["training.keep_checkpoints"] = _ALL
        return with_values(check(self.base), values | own)
