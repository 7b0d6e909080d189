"""The layout of `runs/<name>/`: the one module that knows which file of a run lies where.

config.yaml                 the resolved configuration
metrics.jsonl               losses and speeds, one JSON object a line; tensorboard/ holds the same
schedule.jsonl              the step at which each relations version was taken: an asynchronous run, made repeatable
replayed.txt                the run whose schedule this one takes again, if it is a replay
checkpoints/step_00000500/  generator/ critic/ state.json; the last file written makes it complete
edges/version_0001/         relations.parquet, samples.parquet: every version that the run trained on
scores/                     scores.parquet: what the oracle said of this run's images
model/                      save_pretrained: model.safetensors, config.json
nodes.json                  discovered dimensions: name, slope, runner-up, words
examples/                   images for the report
summary.json, report.html
"""

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from graphdrl.oracle.questions import Scores
from graphdrl.relations.edges import Edges, NodeMap, RelationsVersion

_MATRICES = ("weights", "low", "high", "resolved", "strength", "partial")


def write_atomically(path: Path, text: str) -> None:
    """Write a whole text file or nothing: a reader never sees half of it."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text)
    os.replace(partial, path)


class Run:
    """One run's folder, by its path; creates what it writes and reads what is there."""

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
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

    # Checkpoints ------------------------------------------------------------------------------------------------

    def checkpoint(self, step: int) -> Path:
        return self.folder / "checkpoints" / f"step_{step:08d}"

    def last_checkpoint(self) -> Path | None:
        """The newest complete checkpoint; one that a kill cut short has no state.json and does not count."""
        complete = sorted(path.parent for path in self.folder.glob("checkpoints/step_*/state.json"))
        return complete[-1] if complete else None

    def last_num_workers(self) -> int:
        """Ranks that wrote the newest checkpoint: with few GPUs they are fewer than the configuration asks for."""
        folder = self.last_checkpoint()
        return len(list(folder.glob("rank_*.json"))) if folder else 0

    def keep_checkpoints(self, number: int) -> None:
        """Delete all but the newest `number` complete checkpoints."""
        complete = sorted(path.parent for path in self.folder.glob("checkpoints/step_*/state.json"))
        for folder in complete[:-number]:
            (folder / "state.json").unlink()
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
        if not folder.exists():
            raise ValueError(f"{self.folder} has no relations version {version}; it has {self.versions() or 'none'}")
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


def write_scores(scores: Scores, path: Path, names: Mapping[str, str] | None = None) -> None:
    """One row an image: its id, whether it was flagged, and expected and most probable grade and entropy of each
    attribute.

    names: by image id, the file that the image was read from, as a column `file`.
    """
    table = _scores_table(scores)
    if names is not None:
        table = table.add_column(0, "file", [[names[image] for image in scores.image_ids]])
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    pq.write_table(table, partial)
    os.replace(partial, path)


def _scores_table(scores: Scores) -> pa.Table:
    columns: dict[str, Any] = {
        "image_id": list(scores.image_ids),
        "inclusion_probability": scores.inclusion_probability,
        "flagged": scores.flagged,
    }
    for kind in ("expected", "argmax", "entropy"):
        for column, attribute in enumerate(scores.attributes):
            columns[f"{kind}:{attribute}"] = getattr(scores, kind)[:, column]
    about = {
        "attributes": list(scores.attributes),
        "source": scores.source,
        "model": scores.model,
        "prompt_version": scores.prompt_version,
    }
    return pa.table(columns).replace_schema_metadata({"scores": json.dumps(about)})


def _scores_from(table: pa.Table) -> Scores:
    about = json.loads(table.schema.metadata[b"scores"])
    attributes = tuple(about["attributes"])

    def matrix(kind: str, dtype: str) -> np.ndarray:
        columns = [table[f"{kind}:{attribute}"].to_numpy() for attribute in attributes]
        return np.stack(columns, axis=1).astype(dtype)

    return Scores(
        image_ids=tuple(table["image_id"].to_pylist()),
        attributes=attributes,
        expected=matrix("expected", "float32"),
        argmax=matrix("argmax", "int8"),
        entropy=matrix("entropy", "float32"),
        inclusion_probability=table["inclusion_probability"].to_numpy(),
        flagged=_flagged(table),
        source=about["source"],
        model=about["model"],
        prompt_version=about["prompt_version"],
    )


def _flagged(table: pa.Table) -> np.ndarray:
    """Bool [N]; nothing is flagged in a run that was written before oracles doubted."""
    if "flagged" not in table.column_names:
        return np.zeros(table.num_rows, np.bool_)
    return table["flagged"].to_numpy(zero_copy_only=False)


def write_version(folder: Path, version: RelationsVersion) -> None:
    """Write one relations version into `folder`, all of it or nothing."""
    if folder.exists():
        return
    edges, partial = version.edges, folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    source, target = (grid.ravel() for grid in np.indices(edges.weights.shape))
    columns: dict[str, Any] = {
        "source": [edges.attributes[index] for index in source],
        "target": [edges.attributes[index] for index in target],
    }
    columns |= {name: getattr(edges, name).ravel() for name in _MATRICES}
    about = {
        "version": version.version,
        "key": version.key,
        "attributes": list(edges.attributes),
        "estimator": edges.estimator,
        "num_scored": edges.num_scored,
        "dimensions": list(version.node_map.dimensions),
        "signs": list(version.node_map.signs),
        "effective_sample_size": version.effective_sample_size,
        "notes": list(version.notes),
    }
    table = pa.table(columns).replace_schema_metadata({"relations": json.dumps(about)})
    pq.write_table(table, partial / "relations.parquet")
    samples = _scores_table(version.scores)
    samples = samples.append_column("sample_weight", pa.array(version.sample_weights))
    pq.write_table(samples, partial / "samples.parquet")
    try:
        os.replace(partial, folder)
    except OSError:
        # Another writer of the same version was faster; the two are equal.
        shutil.rmtree(partial, ignore_errors=True)


def read_version(folder: Path) -> RelationsVersion:
    """The relations version that `write_version` wrote into `folder`."""
    table, samples = pq.read_table(folder / "relations.parquet"), pq.read_table(folder / "samples.parquet")
    about = json.loads(table.schema.metadata[b"relations"])
    attributes = tuple(about["attributes"])
    shape = (len(attributes), len(attributes))
    matrices = {name: table[name].to_numpy(zero_copy_only=False).reshape(shape) for name in _MATRICES}
    return RelationsVersion(
        version=about["version"],
        key=about["key"],
        edges=Edges(attributes=attributes, estimator=about["estimator"], num_scored=about["num_scored"], **matrices),
        scores=_scores_from(samples),
        sample_weights=samples["sample_weight"].to_numpy(),
        node_map=NodeMap(tuple(about["dimensions"]), tuple(about["signs"])),
        effective_sample_size=about["effective_sample_size"],
        notes=tuple(about["notes"]),
    )
