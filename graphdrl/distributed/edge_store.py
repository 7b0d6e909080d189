"""The edge store: a detached Ray actor that owns the relations versions and puts each once into the object store."""

from pathlib import Path
from typing import Any

import ray

from graphdrl.oracle.questions import Scores
from graphdrl.relations.edges import NodeMap, RelationsVersion
from graphdrl.relations.updater import Updater
from graphdrl.training import Run

NAMESPACE = "graphdrl"
_VERSIONS_KEPT = 3
"""In the object store; every version stays on disk."""


class EdgeStore:
    """Scores in, versions out; it outlives any trainer, and its own death loses nothing that is on disk.

    The object store drops a value when its owner dies. So the value is put here, by the actor, and trainers are handed
    the reference.
    """

    def __init__(self, updater: Updater, folder: str) -> None:
        self._updater = updater
        self._runs = {folder: Run(folder)}
        self._references: dict[int, Any] = {}
        self._latest = 0
        self._recover(Run(folder))

    def _recover(self, run: Run) -> None:
        """Go on from the versions that lie on disk: after the store, its node or the whole cluster went away."""
        numbers = run.versions()
        if numbers:
            newest = run.read_version(numbers[-1])
            self._updater.restore(newest)
            self._put(newest)

    def register(self, folder: str) -> None:
        """Another run on the same data, attributes, model, prompt and estimator shares these versions."""
        self._runs[folder] = Run(folder)

    def add(self, scores: Scores) -> None:
        """Take scores; when enough are there, estimate the relations anew as the next version."""
        self._keep(self._updater.add(scores))

    def set_node_map(self, node_map: NodeMap) -> None:
        self._keep(self._updater.set_node_map(node_map))

    def finish(self) -> None:
        """No more scores will come: those that no version holds yet make the last one."""
        self._keep(self._updater.finish())

    def newest(self) -> tuple[int, list[Any]]:
        """Number of the newest version, and its reference in a list (so that Ray hands over the reference itself)."""
        return self._latest, [self._references[self._latest]] if self._latest else []

    def get(self, version: int) -> list[Any]:
        """The reference of one version, read from disk when it is no longer in the object store."""
        if version not in self._references:
            run = next(iter(self._runs.values()))
            self._references[version] = ray.put(run.read_version(version))
        return [self._references[version]]

    def leave(self, folder: str) -> int:
        """A run ends: its scores are written; returns how many runs go on."""
        run = self._runs.pop(folder)
        scores = self._updater.scores
        if scores is not None:
            run.write_scores(scores)
        return len(self._runs)

    def _keep(self, version: RelationsVersion | None) -> None:
        if version is None:
            return
        for run in self._runs.values():
            run.write_version(version)
        self._put(version)

    def _put(self, version: RelationsVersion) -> None:
        self._references[version.version] = ray.put(version)
        self._latest = version.version
        for old in sorted(self._references)[:-_VERSIONS_KEPT]:
            del self._references[old]


def open_edge_store(updater: Updater, folder: Path) -> Any:
    """The store of this key, started when there is none; the run in `folder` is registered with it."""
    actor = ray.remote(EdgeStore).options(
        name=f"edges-{updater.key}",
        namespace=NAMESPACE,
        lifetime="detached",
        get_if_exists=True,
        max_restarts=-1,
        num_cpus=0,
    )
    store = actor.remote(updater, str(folder))
    ray.get(store.register.remote(str(folder)))
    return store


def close_edge_store(store: Any, folder: Path) -> None:
    """The run in `folder` has ended; the last one takes the store down."""
    if ray.get(store.leave.remote(str(folder))) == 0:
        ray.kill(store)


class RayRelations:
    """A rank's view of the edge store: what it has fetched; it never waits for an estimate."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self._fetched: dict[int, RelationsVersion] = {}
        self._asked = store.newest.remote()

    def add(self, scores: Scores) -> None:
        self._store.add.remote(scores)

    def set_node_map(self, node_map: NodeMap) -> None:
        self._store.set_node_map.remote(node_map)

    def finish(self) -> None:
        self._store.finish.remote()

    def latest(self) -> int:
        ready, _ = ray.wait([self._asked], timeout=0)
        if ready:
            number, references = ray.get(self._asked)
            if number not in self._fetched and references:
                self._fetched[number] = ray.get(references[0])
            self._asked = self._store.newest.remote()
        return max(self._fetched, default=0)

    def get(self, version: int) -> RelationsVersion:
        if version not in self._fetched:
            (reference,) = ray.get(self._store.get.remote(version))
            self._fetched[version] = ray.get(reference)
        for old in [number for number in self._fetched if number < version]:
            del self._fetched[old]
        return self._fetched[version]
