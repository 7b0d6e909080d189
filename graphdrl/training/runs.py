"""The layout of `runs/<name>/`: the one module that knows which file of a run lies where.

config.yaml                 the resolved configuration
metrics.jsonl               losses and speeds, one JSON object a line; tensorboard/ holds the same
schedule.jsonl              the step at which each relations version was taken: an asynchronous run, made repeatable
replayed.txt                the run whose schedule this one takes again, if it is a replay
checkpoints/step_00000500/  generator/ critic/ state.json; the last file written makes it complete
edges/version_0001/         relations.parquet, samples.parquet: every version that the run trained on
scores/                     scores.parquet: what the oracle said of this run's images
model/                      save_pretrained: model.safetensors, config.json, relations.json (`do` edges among them)
nodes.json                  discovered dimensions: name, slope, runner-up, words
examples/                   images for the report
summary.json, report.html

A run on remote storage is the same there. What is worked on lies in the cache of the machine that does it; every
checkpoint brings the two together, and the end of the job.
"""

import json
import logging
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml

from graphdrl.oracle.questions import Scores
from graphdrl.relations.edges import RelationsVersion
from graphdrl.storage import Place, Uri, place, working_folder
from graphdrl.storage.files import StorageError
from graphdrl.training.mirror import CHECKPOINTS, STATE, Mirror
from graphdrl.training.tables import read_version, write_scores, write_version

logger = logging.getLogger(__name__)


def write_atomically(path: Path, text: str) -> None:
    """Write a whole text file or nothing: a reader never sees half of it."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text)
    os.replace(partial, path)


class Run:
    """One run's folder, by its path or address; creates what it writes and reads what is there.

    place: where the run is kept; folder: where it is read and written, on this machine.
    """

    def __init__(self, folder: Place | str) -> None:
        self.place = place(folder)
        self.folder = working_folder(self.place)
        self._mirror = Mirror(self.place) if isinstance(self.place, Uri) else None
        self.config = self.folder / "config.yaml"
        self.metrics = self.folder / "metrics.jsonl"
        self.schedule = self.folder / "schedule.jsonl"
        self.replayed = self.folder / "replayed.txt"
        self.tensorboard = self.folder / "tensorboard"
        self.model = self.folder / "model"
        self.scores = self.folder / "scores"
        self.examples = self.folder / "examples"
        self.summary = self.folder / "summary.json"
        self.report = self.folder / "report.html"
        self.nodes = self.folder / "nodes.json"

    @property
    def name(self) -> str:
        return self.folder.name

    # Where it is kept ------------------------------------------------------------------------------------------

    def exists(self) -> bool:
        return self.folder.exists() if self._mirror is None else self._mirror.exists()

    def create(self) -> None:
        """Make the folder of a new run; of an earlier one by this name nothing is left on this machine."""
        if self._mirror is not None:
            shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)

    def fetch(self) -> None:
        """Have what is kept remotely, but checkpoints, on this machine."""
        if self._mirror is not None:
            self._mirror.fetch()

    def upload(self) -> None:
        """Keep remotely what was written on this machine, but checkpoints.

        Raises StorageError when it cannot be, and says where it lies and what keeps it.
        """
        if self._mirror is None:
            return
        try:
            self._mirror.upload()
        except StorageError as error:
            raise StorageError(
                f"{error}; nothing is lost, it lies in {self.folder}: `graphdrl train --resume` with the run's "
                "address, on this machine, takes it from there"
            ) from error

    def upload_relations(self) -> None:
        """Keep relations versions and scores remotely; what cannot be kept now is kept with the next ones."""
        if self._mirror is not None:
            try:
                self._mirror.upload_relations()
            except StorageError as error:
                logger.warning("relations lie on this machine alone until they can be kept: %s", error)

    # Checkpoints ------------------------------------------------------------------------------------------------

    def checkpoint(self, step: int) -> Path:
        return self.folder / CHECKPOINTS / f"step_{step:08d}"

    def store_checkpoint(self, step: int) -> bool:
        """Keep this machine's files of a checkpoint remotely; False when they cannot be kept now."""
        if self._mirror is None:
            return True
        try:
            self._mirror.upload_checkpoint(self.checkpoint(step).name)
        except StorageError as error:
            logger.warning("the checkpoint of step %d is not kept, training goes on: %s", step, error)
            return False
        return True

    def complete_checkpoint(self, step: int, state: dict[str, Any], stored: bool = True, keep: int = 1) -> None:
        """Every rank has written its files: let the checkpoint count, and delete all but the newest `keep`.

        state: `step`, `version` and the number of `ranks`; stored: whether every machine keeps its files remotely.
        """
        folder = self.checkpoint(step)
        write_atomically(folder / STATE, json.dumps(state | {"id": secrets.token_hex(8)}))
        self.keep_checkpoints(keep)
        if self._mirror is None or not stored:
            return
        try:
            self._mirror.complete_checkpoint(folder.name)
            self._keep_remote_checkpoints(self._mirror, keep)
        except StorageError as error:
            logger.warning("the checkpoint of step %d is not kept, training goes on: %s", step, error)

    @staticmethod
    def _keep_remote_checkpoints(mirror: Mirror, number: int) -> None:
        complete = mirror.checkpoints()[-number:]
        mirror.delete_checkpoints([name for name in mirror.begun_checkpoints() if name < complete[0]])

    def fetch_checkpoint(self) -> Path | None:
        """The newest complete checkpoint, on this machine with the files of every rank; None when there is none."""
        if self._mirror is None:
            return self.last_checkpoint()
        complete = self._mirror.checkpoints()
        if not complete:
            return None
        self._mirror.fetch_checkpoint(complete[-1])
        return self.folder / CHECKPOINTS / complete[-1]

    def upload_unkept(self) -> None:
        """Keep the newest checkpoint that is whole on this machine, when the storage was away while it was written."""
        here = self.last_checkpoint()
        if self._mirror is None or here is None or not self._mirror.is_newest():
            return
        ranks = json.loads((here / STATE).read_text())["ranks"]
        if here.name > max(self._mirror.checkpoints(), default="") and len(list(here.glob("rank_*.json"))) == ranks:
            self._mirror.upload_checkpoint(here.name)
            self._mirror.complete_checkpoint(here.name)

    def drop_checkpoints_after(self, step: int) -> None:
        """Delete what there is of later checkpoints on this machine: their steps are done again."""
        for folder in self.folder.glob(f"{CHECKPOINTS}/step_*"):
            if folder.name > self.checkpoint(step).name:
                shutil.rmtree(folder, ignore_errors=True)

    def last_checkpoint(self) -> Path | None:
        """The newest complete checkpoint; one that a kill cut short has no state.json and does not count."""
        complete = sorted(path.parent for path in self.folder.glob(f"{CHECKPOINTS}/step_*/{STATE}"))
        return complete[-1] if complete else None

    def last_num_workers(self) -> int:
        """Ranks that wrote the newest checkpoint: with few GPUs they are fewer than the configuration asks for."""
        if self._mirror is not None:
            return self._mirror.num_ranks()
        folder = self.last_checkpoint()
        return len(list(folder.glob("rank_*.json"))) if folder else 0

    def keep_checkpoints(self, number: int) -> None:
        """Delete all but the newest `number` complete checkpoints, and older ones that a kill left half written."""
        folders = sorted(self.folder.glob(f"{CHECKPOINTS}/step_*"))
        kept = [folder for folder in folders if (folder / STATE).exists()][-number:]
        for folder in folders:
            if kept and folder < kept[-1] and folder not in kept:
                (folder / STATE).unlink(missing_ok=True)
                shutil.rmtree(folder)

    # JSON lines -------------------------------------------------------------------------------------------------

    def read_metrics(self) -> list[dict[str, Any]]:
        """Rows by step; where a resumed run wrote a step again, the later row counts."""
        return _latest_by_step(_read_lines(self.metrics))

    def read_schedule(self) -> list[tuple[int, int]]:
        """(step, version) pairs in order of the steps."""
        return [(row["step"], row["version"]) for row in _latest_by_step(_read_lines(self.schedule))]

    def forget_after(self, step: int) -> None:
        """Drop what was written down beyond `step`: those steps are done again, and need not go as they went."""
        if self._mirror is not None:
            begun = self._mirror.begun_checkpoints()
            self._mirror.delete_checkpoints([name for name in begun if name > self.checkpoint(step).name])
        for path, rows in (
            (self.metrics, [row for row in _read_lines(self.metrics) if row["step"] <= step]),
            # A version is taken before the step that it is written down with.
            (self.schedule, [row for row in _read_lines(self.schedule) if row["step"] < step]),
        ):
            if path.exists():
                write_atomically(path, "".join(json.dumps(row) + "\n" for row in rows))

    def read_config(self) -> dict[str, Any]:
        return yaml.safe_load(self.config.read_text())

    def read_nodes(self) -> list[dict[str, Any]]:
        """Discovered dimensions with their names and evidence; none where nodes were not discovered."""
        return json.loads(self.nodes.read_text()) if self.nodes.exists() else []

    def read_summary(self) -> dict[str, Any]:
        return json.loads(self.summary.read_text())

    def write_summary(self, summary: dict[str, Any]) -> None:
        write_atomically(self.summary, json.dumps(summary, indent=2) + "\n")

    # Relations versions -----------------------------------------------------------------------------------------

    def version_folder(self, version: int) -> Path:
        return self.folder / "edges" / f"version_{version:04d}"

    def versions(self) -> list[int]:
        return sorted(int(path.name.removeprefix("version_")) for path in self.folder.glob("edges/version_*"))

    def write_version(self, version: RelationsVersion) -> None:
        """Keep a version as two tables that a person can read; a version that is there already stays."""
        write_version(self.version_folder(version.version), version)

    def read_version(self, version: int) -> RelationsVersion:
        folder = self.version_folder(version)
        if not folder.exists() and self._mirror is not None:
            self._mirror.fetch_version(folder.name)
        if not folder.exists():
            raise ValueError(f"{self.place} has no relations version {version}; it has {self.versions() or 'none'}")
        return read_version(folder)

    def write_scores(self, scores: Scores) -> None:
        write_scores(scores, self.scores / "scores.parquet")


def append_line(path: Path, row: dict[str, Any]) -> None:
    """Append one JSON object to a file of JSON lines."""
    with path.open("a") as file:
        file.write(json.dumps(row) + "\n")


def _read_lines(path: Path) -> Iterator[dict[str, Any]]:
    if not path.exists():
        return
    for line in path.read_text().splitlines():
        try:
            yield json.loads(line)
        except json.JSONDecodeError:
            continue  # the last line of a run that was killed while writing it


def _latest_by_step(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    by_step: dict[int, dict[str, Any]] = {}
    for row in rows:
        by_step[row["step"]] = row
    return [by_step[step] for step in sorted(by_step)]
