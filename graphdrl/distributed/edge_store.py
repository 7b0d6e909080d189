"""The edge store: a detached Ray actor that owns the relations versions and puts each once into the object store."""

import json
import time
from typing import Any

import ray
from ray.exceptions import ActorUnavailableError, RayActorError
from ray.experimental import internal_kv

from graphdrl.oracle.questions import Scores
from graphdrl.relations.edges import NodeMap, RelationsVersion
from graphdrl.relations.updater import Updater
from graphdrl.storage import Place
from graphdrl.training import Run

NAMESPACE = "graphdrl"
_ASK_EVERY_S = 1.0
"""A version is the work of minutes; asking for it at every look would take a rank more time than agreeing on it."""

_START_WITHIN_S = 30.0

_VERSIONS_KEPT = 3
"""In the object store; every version stays on disk."""


class EdgeStore:
    """Scores in, versions out; it outlives any trainer, and its own death loses nothing that is on disk.

    Where a run is on remote storage, a version is kept there before anybody is handed it: this machine may go as well.

    The object store drops a value when its owner dies. So the value is put here, by the actor, and trainers are handed
    the reference. The runs' folders are written down in the head's own store: started again by Ray after a failure, the
    edge store knows all of them before the first one calls, and does not end with one that leaves before another calls.
    """

    def __init__(self, updater: Updater) -> None:
        self._updater = updater
        self._runs: dict[str, Run] = {}
        self._references: dict[int, Any] = {}
        self._latest = 0
        self._key = f"edge-store-runs-{updater.key}"
        if ray.get_runtime_context().was_current_actor_reconstructed:
            for folder in json.loads(internal_kv._internal_kv_get(self._key, namespace=NAMESPACE) or "[]"):
                self.register(folder)

    def register(self, folder: str) -> None:
        """A run on this store's data, attributes, model, prompt and estimator shares its versions.

        The versions in the run's folder come first: the run is resumed, or the store itself is new after a failure.
        """
        if folder in self._runs:
            return
        run = Run(folder)
        run.fetch()
        self._runs[folder] = run
        self._write_down_runs()
        numbers = run.versions()
        if numbers and numbers[-1] > self._latest:
            newest = run.read_version(numbers[-1])
            self._updater.restore(newest)
            self._put(newest)

    def add(self, folder: str, scores: Scores) -> None:
        """Take scores; when enough are there, estimate the relations anew as the next version."""
        self.register(folder)
        self._keep(self._updater.add(scores))

    def set_node_map(self, folder: str, node_map: NodeMap) -> None:
        self.register(folder)
        self._keep(self._updater.set_node_map(node_map))

    def finish(self, folder: str) -> None:
        """No more scores will come: those that no version holds yet make the last one."""
        self.register(folder)
        self._keep(self._updater.finish())

    def newest(self, folder: str) -> tuple[int, list[Any]]:
        """Number of the newest version, and its reference in a list (so that Ray hands over the reference itself)."""
        self.register(folder)
        return self._latest, [self._references[self._latest]] if self._latest else []

    def get(self, version: int) -> list[Any]:
        """The reference of one version, read from disk when it is no longer in the object store."""
        if version not in self._references:
            runs = [run for run in self._runs.values() if version in run.versions()]
            if not runs:
                raise ValueError(f"no run of this edge store has relations version {version} on disk")
            self._references[version] = ray.put(runs[0].read_version(version))
        return [self._references[version]]

    @ray.method(max_task_retries=0)  # its last call never returns: that is no failure to speak of and to try again
    def leave(self, folder: str) -> None:
        """A run ends: its scores are written; with the last run the store ends as well.

        It ends itself, so that no run can come between the last one's leaving and that.
        """
        run = self._runs.pop(folder, None) or Run(folder)
        if self._updater.scores is not None:
            run.write_scores(self._updater.scores)
            run.upload_relations()
        self._write_down_runs()
        if not self._runs:
            ray.actor.exit_actor()

    def _write_down_runs(self) -> None:
        internal_kv._internal_kv_put(self._key, json.dumps(list(self._runs)), overwrite=True, namespace=NAMESPACE)

    def _keep(self, version: RelationsVersion | None) -> None:
        if version is None:
            return
        for run in self._runs.values():
            run.write_version(version)
            run.upload_relations()
        self._put(version)

    def _put(self, version: RelationsVersion) -> None:
        self._references[version.version] = ray.put(version)
        self._latest = version.version
        for old in sorted(self._references)[:-_VERSIONS_KEPT]:
            del self._references[old]


def open_edge_store(updater: Updater, folder: Place) -> Any:
    """The store of this key, started when there is none; the run in `folder` is registered with it.

    Raises RayActorError when no store can be started.
    """
    actor = ray.remote(EdgeStore).options(
        name=f"edges-{updater.key}",
        namespace=NAMESPACE,
        lifetime="detached",
        get_if_exists=True,
        max_restarts=-1,
        max_task_retries=-1,  # every call can be made twice: what is known already is left out
        num_cpus=0,
    )
    give_up_at = time.monotonic() + _START_WITHIN_S
    while True:
        store = actor.remote(updater)
        try:
            ray.get(store.register.remote(str(folder)))
            return store
        except RayActorError:
            # The last run of the one that was there has just ended: soon the name is free for another.
            if time.monotonic() > give_up_at:
                raise
            time.sleep(0.1)


def close_edge_store(store: Any, folder: Place) -> None:
    """The run in `folder` has ended; the last one takes the store down."""
    while True:
        try:
            return ray.get(store.leave.remote(str(folder)))
        except ActorUnavailableError:
            time.sleep(0.1)  # it was killed and comes again, or has just ended itself
        except RayActorError:
            return None  # so ends the call in which the store itself does


class RayRelations:
    """A rank's view of the edge store: what it has fetched; it never waits for an estimate."""

    def __init__(self, store: Any, folder: Place) -> None:
        """folder: the run's, as it was given to `open_edge_store`."""
        self._store, self._folder = store, str(folder)
        self._fetched: dict[int, RelationsVersion] = {}
        self._asked, self._answered_at = store.newest.remote(self._folder), 0.0

    def add(self, scores: Scores) -> None:
        self._store.add.remote(self._folder, scores)

    def set_node_map(self, node_map: NodeMap) -> None:
        self._store.set_node_map.remote(self._folder, node_map)

    def finish(self) -> None:
        self._store.finish.remote(self._folder)

    def latest(self) -> int:
        if self._asked is None:
            if time.monotonic() - self._answered_at >= _ASK_EVERY_S:
                self._asked = self._store.newest.remote(self._folder)
        elif ray.wait([self._asked], timeout=0)[0]:
            number, references = ray.get(self._asked)
            if number not in self._fetched and references:
                self._fetched[number] = ray.get(references[0])
            self._asked, self._answered_at = None, time.monotonic()
        return max(self._fetched, default=0)

    def get(self, version: int) -> RelationsVersion:
        if version not in self._fetched:
            (reference,) = ray.get(self._store.get.remote(version))
            self._fetched[version] = ray.get(reference)
        for old in [number for number in self._fetched if number < version]:
            del self._fetched[old]
        return self._fetched[version]
