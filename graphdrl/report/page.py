"""The two pages: what a training run learnt, and how the attributes of a folder of images hang together.

Both are made of plain values alone, are one file each with everything inside (no script, no address that is fetched),
and are the same bytes for the same values.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from graphdrl.oracle.questions import RelateAnswer, Scores
from graphdrl.relations.edges import Edges, RelationsVersion
from graphdrl.report import figures
from graphdrl.report.drawings import (
    CELL,
    SIDE_BY_SIDE_UP_TO,
    WEAKEST_DRAWN,
    attribute_order,
    estimated_heat_map,
    network,
    opacity,
    sign,
    true_heat_map,
)
from graphdrl.report.examples import PairExamples, choose_examples, strong_pairs
from graphdrl.report.glossary import COUNTERS, ESTIMATORS, HEADLINES, REPORT_NOTES, STANDING_NOTES, Term, term
from graphdrl.report.tables import (
    belief_rows,
    distributions,
    edge_row,
    edge_rows,
    figure,
    flat,
    median_width,
    pair_rows,
    sorted_figures,
    version_rows,
)
from graphdrl.report.wording import signed, written

Curves = Mapping[str, tuple[Sequence[float], Sequence[float]]]
"""Quantities over time by name: (steps, values)."""

_MOST_RECONSTRUCTIONS = 16
_MOST_HISTORIES = 6
_ROWS_IN_SIGHT = 40
_MOST_SKIPPED = 500


@dataclass(frozen=True)
class Traversal:
    """What the decoder draws when one node at a time is moved.

    names: a row each; those that are attributes stand first on the page, the rest folded away.
    values: a column each, in standard deviations of the node's code.
    images: uint8 [nodes, columns, H, W, 3].
    notes: a few words a row, such as what gave a discovered node its name; empty for none.
    """

    names: tuple[str, ...]
    values: tuple[float, ...]
    images: np.ndarray
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_images("traversal images", self.images, 5)
        grid = (len(self.names), len(self.values))
        if self.images.shape[:2] != grid:
            raise ValueError(f"traversal images are {self.images.shape[:2]}, its names and values {grid}")
        if self.notes and len(self.notes) != len(self.names):
            raise ValueError(f"a traversal of {len(self.names)} nodes has {len(self.notes)} notes: give one a node")


@dataclass(frozen=True)
class ReportContent:
    """All that a training report shows; whatever is left out is left out of the page.

    summary: the run's numbers, nested or with dotted keys; `relations.*` is recovery, `metrics.*` disentanglement.
    config: the resolved configuration, nested or with dotted keys.
    curves: losses and speeds over steps.
    schedule: (step, version) for every version that training took.
    originals, reconstructions: uint8 [B, H, W, 3] of the same images.
    versions: every relations version, the oldest first; the last one is the result.
    truth: float [K, K] true weights in the order of the attributes; None where nobody knows them.
    oracle: further statistics of the oracle, by name.
    notes: what a reader must know about this run, beside what holds for every run.
    """

    title: str
    summary: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    curves: Curves = field(default_factory=dict)
    schedule: Sequence[tuple[int, int]] = ()
    originals: np.ndarray | None = None
    reconstructions: np.ndarray | None = None
    traversal: Traversal | None = None
    versions: Sequence[RelationsVersion] = ()
    truth: np.ndarray | None = None
    oracle: Mapping[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()

    def __post_init__(self) -> None:
        if (self.originals is None) != (self.reconstructions is None):
            raise ValueError("originals and reconstructions go together: give both or neither")
        if self.originals is not None and self.reconstructions is not None:
            _check_images("originals", self.originals, 4)
            _check_images("reconstructions", self.reconstructions, 4)
            if self.originals.shape != self.reconstructions.shape:
                raise ValueError(f"originals are {self.originals.shape}, reconstructions {self.reconstructions.shape}")
        if self.versions:
            _check_truth(self.truth, self.versions[-1].edges)


@dataclass(frozen=True)
class RelationsContent:
    """All that a relations page shows.

    images: pixels uint8 [H, W, 3] by image id, at least of `images_needed(choose_examples(edges, scores))`;
        an example whose pixels are missing is left out.
    facts: what was done, by name (folder, seconds, images found ...).
    skipped: (file, reason) of what could not be read.
    truth: float [K, K] true weights, where they are known.
    beliefs: what a model thinks of the same attributes without having looked; shown apart from all that was measured.
    """

    title: str
    edges: Edges
    scores: Scores
    images: Mapping[str, np.ndarray] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    skipped: Sequence[tuple[str, str]] = ()
    truth: np.ndarray | None = None
    notes: Sequence[str] = ()
    beliefs: RelateAnswer | None = None

    def __post_init__(self) -> None:
        _check_truth(self.truth, self.edges)
        if self.beliefs is not None and self.beliefs.attributes != self.edges.attributes:
            raise ValueError(
                f"beliefs are about {self.beliefs.attributes}, edges among {self.edges.attributes}: ask about the same"
            )


def curves_from_rows(rows: Sequence[Mapping[str, Any]]) -> dict[str, tuple[list[float], list[float]]]:
    """Curves from rows such as {"step": 100, "rank": 0.31}; a row need not hold every quantity."""
    curves: dict[str, tuple[list[float], list[float]]] = {}
    for row in rows:
        for name, value in row.items():
            if name != "step" and isinstance(value, (int, float)) and not isinstance(value, bool):
                steps, values = curves.setdefault(name, ([], []))
                steps.append(row["step"])
                values.append(value)
    return curves


def write_report(content: ReportContent, path: Path | str) -> Path:
    """Write the training report, all of it or nothing; returns its path."""
    numbers = sorted_figures(content.summary, content.oracle)
    by_key = dict(flat(content.summary))
    return write_page(
        "report.html.jinja",
        path,
        title=content.title,
        headlines=[figure(key, by_key[key]) for key in HEADLINES if key in by_key],
        numbers=numbers,
        config=[(key, written(value)) for key, value in flat(content.config)],
        curves=_curves(content, counters=False),
        counters=_curves(content, counters=True),
        pairs=_reconstruction_pairs(content),
        traversal=_traversal(content),
        relations=_relations(content.versions[-1].edges, content.truth) if content.versions else None,
        versions=version_rows(content.versions, content.schedule),
        histories=_histories(content),
        scores=distributions(content.versions[-1].scores) if content.versions else [],
        notes=[*content.notes, *(STANDING_NOTES if content.versions else ()), *REPORT_NOTES],
    )


def write_relations_page(content: RelationsContent, path: Path | str) -> Path:
    """Write the relations page, all of it or nothing; returns its path."""
    examples = choose_examples(content.edges, content.scores)
    return write_page(
        "relations.html.jinja",
        path,
        title=content.title,
        facts=[(shown.label, shown.text) for shown in (figure(key, value) for key, value in flat(content.facts))],
        model=content.scores.model,
        prompt_version=content.scores.prompt_version,
        num_scored=written(len(content.scores)),
        relations=_relations(content.edges, content.truth),
        pair_rows=pair_rows(content.edges),
        examples=[_example(content, pair) for pair in examples],
        num_more_pairs=len(strong_pairs(content.edges)) - len(examples),
        beliefs=_beliefs(content),
        scores=distributions(content.scores),
        skipped=content.skipped[:_MOST_SKIPPED],
        num_skipped=len(content.skipped),
        notes=[*content.notes, *STANDING_NOTES],
    )


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("graphdrl.report"),
        # Names of attributes, files and models are data: every one is escaped, whatever the template is called.
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    scale = [(sign(weight), opacity(weight)) for weight in np.linspace(-1, 1, 21)]
    environment.globals.update(cell=CELL, rows_in_sight=_ROWS_IN_SIGHT, weakest=WEAKEST_DRAWN, scale=scale)
    return environment


def write_page(template: str, path: Path | str, **values: Any) -> Path:
    """Render a template of this room into one file, all of it or nothing; returns its path."""
    html = _environment().get_template(template).render(**values)
    # A name from a file system may hold bytes that are no text; they are shown as "?".
    return write_whole(Path(path), html.encode("utf-8", errors="replace"))


def write_whole(path: Path, content: bytes) -> Path:
    """Write a file, all of it or nothing; returns its path."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_bytes(content)
    os.replace(partial, path)
    return path


def _check_images(name: str, images: np.ndarray, num_axes: int) -> None:
    if images.dtype != np.uint8 or images.ndim != num_axes or images.shape[-1] != 3:
        raise ValueError(f"{name} must be uint8 with {num_axes} axes, the last of 3, not {images.dtype} {images.shape}")


def _check_truth(truth: np.ndarray | None, edges: Edges) -> None:
    shape = (len(edges.attributes), len(edges.attributes))
    if truth is not None and truth.shape != shape:
        raise ValueError(f"true weights of {len(edges.attributes)} attributes must be {shape}, not {truth.shape}")


def _relations(edges: Edges, truth: np.ndarray | None) -> dict[str, Any]:
    """What both pages show of a graph: the heat maps, the network and the table of edges."""
    order = attribute_order(edges)
    rows = edge_rows(edges, truth)
    maps = [estimated_heat_map(edges, order)]
    if truth is not None:
        maps.append(true_heat_map(edges, truth, order))
    return {
        "maps": maps,
        "wide": len(edges.attributes) > SIDE_BY_SIDE_UP_TO,
        "network": network(edges, order),
        "has_truth": truth is not None,
        "resolved": [row for row in rows if row.resolved],
        "unresolved": [row for row in rows if not row.resolved],
        "num_edges": len(rows),
        "num_scored": written(edges.num_scored),
        "num_attributes": len(edges.attributes),
        "width": written(median_width(edges)),
        "estimator": edges.estimator,
        "explanation": ESTIMATORS.get(edges.estimator, ""),
    }


def _curves(content: ReportContent, counters: bool) -> list[tuple[Term, str]]:
    chosen = [name for name in content.curves if (name in COUNTERS) == counters]
    return [(term(name), figures.curve(*content.curves[name], content.schedule)) for name in chosen]


def _histories(content: ReportContent) -> list[tuple[str, str]]:
    """The strongest edges, one of a pair, over the versions; one version alone has no history."""
    if len(content.versions) < 2:
        return []
    edges = content.versions[-1].edges
    chosen = strong_pairs(edges)[:_MOST_HISTORIES]
    truths = [None if content.truth is None else float(content.truth[pair]) for pair in chosen]
    return [
        (f"{edges.attributes[i]} → {edges.attributes[j]}", figures.edge_history(content.versions, i, j, truth))
        for (i, j), truth in zip(chosen, truths, strict=True)
    ]


def _reconstruction_pairs(content: ReportContent) -> list[str]:
    if content.originals is None or content.reconstructions is None:
        return []
    both = list(zip(content.originals, content.reconstructions, strict=True))[:_MOST_RECONSTRUCTIONS]
    return [figures.tiles(pair, down=True) for pair in both]


def _traversal(content: ReportContent) -> dict[str, Any] | None:
    traversal = content.traversal
    if traversal is None:
        return None
    attributes = content.versions[-1].edges.attributes if content.versions else traversal.names
    notes = traversal.notes or ("",) * len(traversal.names)
    rows = [
        {"name": name, "note": note, "strip": figures.tiles(images), "named": name in attributes}
        for name, note, images in zip(traversal.names, notes, traversal.images, strict=True)
    ]
    return {
        "columns": ["0" if value == 0 else f"{value:+g}".replace("-", "−") for value in traversal.values],
        "named": [row for row in rows if row["named"]],
        "others": [row for row in rows if not row["named"]],
    }


def _example(content: RelationsContent, pair: PairExamples) -> dict[str, Any]:
    """One pair with the pictures of its four corners, as the template lays it out."""
    edges, names = content.edges, (content.edges.attributes[pair.first], content.edges.attributes[pair.second])
    forward, backward = edge_row(edges, pair.first, pair.second), edge_row(edges, pair.second, pair.first)
    corners = [
        {
            "label": f"{'high' if corner.first_high else 'low'} {names[0]}, "
            f"{'high' if corner.second_high else 'low'} {names[1]}",
            "share": written(round(corner.share, 3), "percent"),
            "unrelated": written(round(corner.share_unrelated, 3), "percent"),
            "num": written(corner.num_images),
            "images": [
                (figures.tiles([content.images[image]]), _grades(content.scores, image, pair))
                for image in corner.image_ids
                if image in content.images
            ],
        }
        for corner in pair.corners
    ]
    return {"names": names, "forward": forward, "backward": backward, "corners": corners}


def _beliefs(content: RelationsContent) -> dict[str, Any] | None:
    """What the model believes beside what was measured, and how often the two have the same sign."""
    if content.beliefs is None:
        return None
    rows = belief_rows(content.edges, content.beliefs)
    return {
        "resolved": [row for row in rows if row.measured.resolved],
        "unresolved": [row for row in rows if not row.measured.resolved],
        "num_same": sum(row.verdict == "same sign" for row in rows),
        "num_opposite": sum(row.verdict == "opposite sign" for row in rows),
        "model": content.beliefs.model,
        "prompt_version": content.beliefs.prompt_version,
    }


def _grades(scores: Scores, image: str, pair: PairExamples) -> str:
    """The grades that made an image an example, for its alternative text."""
    row = scores.expected[scores.image_ids.index(image)]
    named = ((scores.attributes[index], float(row[index])) for index in (pair.first, pair.second))
    return ", ".join(f"{name} {signed(grade).lstrip('+')} of 5" for name, grade in named)
