"""Relations that were estimated once for all trials of a search, and change for none of them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import ray

from graphdrl.oracle.questions import Scores
from graphdrl.relations.edges import NodeMap, RelationsVersion
from graphdrl.relations.updater import Updater
from graphdrl.storage import Place
from graphdrl.training import Run, read_scores


class FrozenEdges:
    """An actor: each version is estimated once, kept on disk, and put once into the object store.

    folder: each version lies below it, in a folder of its own that has its name.
    """

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)
        self._references: dict[str, Any] = {}
        self._renamed: dict[str, tuple[int, Any]] = {}

    def version(self, name: str, updater: Updater, scores: str, image_ids: list[str], of: int) -> list[Any]:
        """The reference, in a list, of the version called `name`; estimated by `updater` when there is none yet.

        scores: file of all that the oracle said of these images; image_ids: those to estimate from, of `of` images.
        """
        if name not in self._references:
            run = Run(self._folder / name)
            if not run.versions():
                run.write_version(_estimated(updater, read_scores(Path(scores)), image_ids, of))
            self._references[name] = ray.put(run.read_version(1))
        return [self._references[name]]

    def set_node_map(self, folder: str, name: str, node_map: NodeMap) -> None:
        """The trial in `folder` has named its nodes: the version called `name` is issued anew for it alone."""
        last = self._renamed.get(folder, (1, None))[0]
        number = 1 + max([last, *Run(folder).versions()])
        version = ray.get(self._references[name])
        self._renamed[folder] = number, ray.put(replace(version, version=number, node_map=node_map))

    def renamed(self, folder: str) -> tuple[int, list[Any]]:
        """Number and reference of the trial's own version; 0 when it has none."""
        number, reference = self._renamed.get(folder, (0, None))
        return number, [reference]


def _estimated(updater: Updater, scores: Scores, image_ids: list[str], of: int) -> RelationsVersion:
    wanted = set(image_ids)
    chosen = scores.rows([row for row, image in enumerate(scores.image_ids) if image in wanted])
    probability = np.full(len(chosen), len(image_ids) / of, np.float32)
    return updater.add(replace(chosen, inclusion_probability=probability)) or updater.estimate()


def open_frozen_edges(folder: Path) -> Any:
    """The store of a search; it ends with the process that opens it, since all that it holds is on disk."""
    return ray.remote(FrozenEdges).options(num_cpus=0, max_restarts=-1, max_task_retries=-1).remote(str(folder))


class FrozenRelations:
    """A rank's view of one frozen version; implements `RelationsSource`.

    Scores that come are kept by the oracle alone. Discovered nodes make a version of the trial's own.
    """

    def __init__(self, store: Any, folder: Place, name: str, version: RelationsVersion, discovered: bool) -> None:
        self._store, self._folder, self._name = store, str(folder), name
        self._versions = {version.version: version}
        self._asked = store.renamed.remote(self._folder) if discovered else None

    def add(self, scores: Scores) -> None:
        """The relations were estimated before the trial began."""

    def set_node_map(self, node_map: NodeMap) -> None:
        self._store.set_node_map.remote(self._folder, self._name, node_map)

    def finish(self) -> None:
        """The relations were estimated before the trial began."""

    def latest(self) -> int:
        if self._asked is not None and ray.wait([self._asked], timeout=0)[0]:
            number, (reference,) = ray.get(self._asked)
            if number and number not in self._versions:
                self._versions[number] = ray.get(reference)
            self._asked = self._store.renamed.remote(self._folder)
        return max(self._versions)

    def get(self, version: int) -> RelationsVersion:
        return self._versions[version]


class NoRelations:
    """Nobody was asked: there are no relations; implements `RelationsSource`."""

    def add(self, scores: Scores) -> None:
        """Nobody was asked."""

    def set_node_map(self, node_map: NodeMap) -> None:
        """Nobody was asked."""

    def finish(self) -> None:
        """Nobody was asked."""

    def latest(self) -> int:
        return 0

    def get(self, version: int) -> RelationsVersion:
        raise AssertionError("there is no version to be had")
