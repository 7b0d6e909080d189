"""What a training loop sees of scores and edges, and the two sources that need no cluster."""

from typing import Protocol

from graphdrl.oracle.questions import Scores
from graphdrl.relations.edges import NodeMap, RelationsVersion
from graphdrl.relations.updater import Updater
from graphdrl.training.runs import Run


class RelationsSource(Protocol):
    """Scores go in, numbered relations versions come out; nothing here waits for the oracle."""

    def add(self, scores: Scores) -> None: ...

    def set_node_map(self, node_map: NodeMap) -> None:
        """Discovered nodes were named: the next version carries their map."""
        ...

    def finish(self) -> None:
        """No more scores will come: those that no version holds yet make the last one."""
        ...

    def latest(self) -> int:
        """Number of the newest version that this rank has fetched; 0 when there is none."""
        ...

    def get(self, version: int) -> RelationsVersion: ...


class LocalRelations:
    """The updater in this process: for `--backend local`."""

    def __init__(self, updater: Updater, versions: list[RelationsVersion] | None = None) -> None:
        self._updater = updater
        self._versions = {version.version: version for version in versions or []}

    def add(self, scores: Scores) -> None:
        self._keep(self._updater.add(scores))

    def set_node_map(self, node_map: NodeMap) -> None:
        self._keep(self._updater.set_node_map(node_map))

    def finish(self) -> None:
        self._keep(self._updater.finish())

    def latest(self) -> int:
        return max(self._versions, default=0)

    def get(self, version: int) -> RelationsVersion:
        return self._versions[version]

    def _keep(self, version: RelationsVersion | None) -> None:
        if version is not None:
            self._versions[version.version] = version


class RecordedRelations:
    """The versions that another run left on disk: for `--replay-schedule RUN`."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def add(self, scores: Scores) -> None:
        """A replay takes its edges as they were recorded."""

    def set_node_map(self, node_map: NodeMap) -> None:
        """A replay takes its node map as it was recorded."""

    def finish(self) -> None:
        """A replay takes its edges as they were recorded."""

    def latest(self) -> int:
        return max(self._run.versions(), default=0)

    def get(self, version: int) -> RelationsVersion:
        return self._run.read_version(version)
