"""Scores and relations versions as Parquet tables that a person can read."""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from graphdrl.oracle.questions import Scores
from graphdrl.relations.edges import Edges, NodeMap, RelationsVersion

_MATRICES = ("weights", "low", "high", "resolved", "strength", "partial")
_MATRICES_OF_LATER = ("partial_low", "partial_high", "partial_resolved")
"""Not in runs that were written before partial weights had intervals."""


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


def read_scores(path: Path) -> Scores:
    """The scores that `write_scores` wrote."""
    return _scores_from(pq.read_table(path))


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
    kept = [name for name in (*_MATRICES, *_MATRICES_OF_LATER) if getattr(edges, name) is not None]
    columns |= {name: getattr(edges, name).ravel() for name in kept}
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
    kept = [name for name in (*_MATRICES, *_MATRICES_OF_LATER) if name in table.column_names]
    matrices = {name: table[name].to_numpy(zero_copy_only=False).reshape(shape) for name in kept}
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
