"""What is made of a run when its training has ended: numbers, pictures, summary.json and report.html."""

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from graphdrl.config import Config
from graphdrl.images import ImageSet, load_source, read_shards, to_float, to_uint8, write_shards
from graphdrl.metrics.dci import DEFAULT_BACKEND
from graphdrl.models import GEM
from graphdrl.oracle import HIGHEST_GRADE
from graphdrl.relations import RelationsVersion, recovery, true_relations
from graphdrl.report import ReportContent, Traversal, curves_from_rows, write_report
from graphdrl.training import Run, codes_and_error, measure
from jobs.assemble import attributes_of, source_parameters

_TRUTH_DRAWS = 200_000
_TEST_SEED = 1_000_003
"""Added to the run's seed: test images are never training images."""

_STAND_IN = (
    "The oracle of this run is the built-in one, a stand-in of 1.4 million parameters that knows faces and avatars "
    "alone; on other images its scores mean nothing."
)

_EXAMPLES = 12
_TRAVERSAL = (-2.0, -1.0, 0.0, 1.0, 2.0)


@dataclass(frozen=True)
class Finished:
    """What a run came to."""

    run: Run
    summary: dict[str, Any]


def finish(config: Config, started: float, images: ImageSet) -> Finished:
    """Evaluate the run, write its summary and its report.

    started: `time.time()` at the command, for the run's `seconds`; images: what the run was trained on.
    """
    run = Run(config.folder)
    run.fetch()  # the workers may have been on other machines
    model = GEM.from_pretrained(run.model)
    truth = known_relations(config)
    test = held_out_images(config)
    versions = [run.read_version(number) for number in run.versions()]
    keep_examples(run, test or images)
    summary: dict[str, Any] = _counts(run, config, versions)
    summary |= {"images": len(images), "images_skipped": len(images.skipped)}
    if test is not None:
        as_trained = held_out_images(config, independent=False)
        assert as_trained is not None
        summary["metrics"] = measured(model, test, as_trained, config.seed)
    if versions:
        summary["relations"] = _relations(versions[-1], truth)
    in_words = {node["name"]: node["in_words"] for node in run.read_nodes() if node.get("in_words")}
    if in_words:
        summary["named_in_words"] = in_words
    # The report takes part in the time that it names: write it, then write down how long all of it took.
    summary["seconds"] = round(time.time() - started, 1)
    run.write_summary(summary)
    write_run_report(run, truth)
    summary["seconds"] = round(time.time() - started, 1)
    run.write_summary(summary)
    run.upload()
    return Finished(run, summary)


def measured(
    model: GEM,
    test: ImageSet,
    as_trained: ImageSet,
    seed: int = 0,
    dci_backends: tuple[str, ...] = (DEFAULT_BACKEND,),
) -> dict[str, float | str]:
    """A model's figures on `held_out_images`, and its reconstruction of new images drawn as those of training.

    There, supervision by decorrelated images is no help.
    """
    error = codes_and_error(model, as_trained.images)[1]
    return measure(model, test, seed, dci_backends) | {"reconstruction_mse_correlated": error}


def known_relations(config: Config) -> np.ndarray | None:
    """The population value of the run's estimator on clean factors [K, K]; None where nobody knows the factors.

    Raises nothing for attributes that are none of the factors: then there is no truth either.
    """
    source = load_source(config.data.source, **source_parameters(config))
    factors, attributes = source.factor_names, attributes_of(config)
    if any(name not in factors for name in attributes):
        return None
    columns = [factors.index(name) for name in attributes]
    return true_relations(
        HIGHEST_GRADE * source.sample(_TRUTH_DRAWS, config.seed)[:, columns], config.relations.estimator
    )


def held_out_images(config: Config, independent: bool = True) -> ImageSet | None:
    """Images drawn anew, of independently drawn factors; None where factors are unknown.

    Training never saw them, but for those points of a grid that both draws happen to hold.
    independent: False draws them as the training images were drawn.
    """
    source = load_source(config.data.source, **source_parameters(config))
    if not source.factor_names or not config.data.num_test:
        return None
    return source.draw(config.data.num_test, config.data.image_size, config.seed + _TEST_SEED, independent)


def keep_examples(run: Run, images: ImageSet) -> None:
    """Keep a few images in the run, so that its report can be written again from the run alone."""
    if not run.examples.exists():
        write_shards(ImageSet(images.images[:_EXAMPLES], images.ids[:_EXAMPLES]), run.examples)


def write_run_report(run: Run, truth: np.ndarray | None = None) -> None:
    """Write report.html from what lies in the run's folder."""
    model = GEM.from_pretrained(run.model)
    examples = read_shards(run.examples).images
    summary = run.read_summary()
    write_report(
        ReportContent(
            title=run.name,
            summary=summary,
            config=run.read_config(),
            curves=curves_from_rows(run.read_metrics()),
            schedule=run.read_schedule(),
            originals=examples,
            reconstructions=to_uint8(model.reconstruct(to_float(examples))),
            traversal=_traversal(model, examples, run),
            versions=[run.read_version(number) for number in run.versions()],
            truth=truth,
            notes=[_STAND_IN] if summary["oracle_model"] == "builtin" and run.versions() else [],
        ),
        run.report,
    )


def _traversal(model: GEM, examples: np.ndarray, run: Run) -> Traversal:
    codes = model.encode(to_float(examples[:1]))
    strips = [to_uint8(model.traverse(codes, node, _TRAVERSAL)[0]) for node in model.nodes]
    return Traversal(tuple(model.nodes), _TRAVERSAL, np.stack(strips), tuple(map(_evidence, run.read_nodes())))


def _evidence(node: dict[str, Any]) -> str:
    """What a discovered dimension has its name from, or its words."""
    if not node.get("in_words"):
        return f"{node['slope']:+.2f} grades per standard deviation"
    way = {1: " grows", -1: " fades", 0: ""}[node["direction"]]
    return f"in the model's words: {node['in_words']}{way}, on {node['agreement']:.0%} of the images shown to it"


def _counts(run: Run, config: Config, versions: list[RelationsVersion]) -> dict[str, Any]:
    rows, schedule = run.read_metrics(), run.read_schedule()
    last = rows[-1]
    half = config.training.steps / 2
    local = config.training.backend == "local"
    return {
        "name": run.name,
        "method": config.method,
        "steps": last["step"],
        "images_trained": int(last["images_trained"]),
        "images_scored": int(last["images_scored"]),
        "questions_asked": int(last["questions_asked"]),
        "edge_versions": len(versions),
        "versions_before_half": sum(step < half for step, _ in schedule),
        "images_per_s": round(last["images_trained"] / last["seconds"], 1),
        "train_seconds": round(last["seconds"], 1),
        "oracle_wait_fraction": round(last["oracle_wait_fraction"], 5),
        "oracle_engine": config.oracle.engine,
        "oracle_model": config.oracle.model,
        "num_workers": run.last_num_workers(),
        "zero_stage": 0 if local else config.training.zero_stage,
        "backend": config.training.backend,
        "device": "cuda" if torch.cuda.is_available() and config.training.use_gpu is not False else "cpu",
    }


def _relations(version: RelationsVersion, truth: np.ndarray | None) -> dict[str, Any]:
    found = {
        "num_scored": version.edges.num_scored,
        "estimator": version.edges.estimator,
        "resolved": int(version.edges.resolved.sum()),
        "effective_sample_size": round(version.effective_sample_size, 1),
    }
    return found | (recovery(version.edges, truth) if truth is not None else {})
