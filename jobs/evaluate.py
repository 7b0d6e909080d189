"""Measures a run's model again, and what takes longer than the end of a training should."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from graphdrl.config import Config
from graphdrl.metrics.dci import DEFAULT_BACKEND, check_backends
from graphdrl.metrics.features import Features, InceptionFeatures
from graphdrl.models import GEM
from graphdrl.oracle import Oracle
from graphdrl.training import (
    Run,
    codes_and_error,
    measure_image_quality,
    measure_oracle_disentanglement,
    measure_relation_fidelity,
    posterior,
    shown_relations,
)
from graphdrl.training.relation_fidelity import NUM_SAMPLES
from jobs.assemble import attributes_of, training_images
from jobs.finish import held_out_images, known_relations, measured, write_run_report
from jobs.score import open_oracle, subset

ORACLE_FEATURES = "oracle"

_MOST_IMAGES = 5_000
_TRAVERSED = 16

Figures = dict[str, float | str]


@dataclass(frozen=True)
class Measures:
    """What is to be measured.

    dci_backends: of `graphdrl.metrics.dci`; the first gives the plain names.
    features: for FID and KID, ORACLE_FEATURES or an Inception network's TorchScript file; None measures neither.
    asks: ask the oracle what traversals and samples show.
    """

    dci_backends: tuple[str, ...] = (DEFAULT_BACKEND,)
    features: str | None = None
    asks: bool = False


def evaluate_run(run: Run, config: Config, measures: Measures, say: Callable[[str], None]) -> Figures:
    """Figures of a finished run's model, named as in its summary.

    Where the factors are unknown, on images that the model was trained on and without labels; `measured_on` says so.
    Raises ValueError, before anything is measured, for a backend, a file of features or an oracle that is not there.
    """
    check_backends(measures.dci_backends)
    if measures.asks and config.oracle.engine == "none":
        raise ValueError("the run asks nobody (oracle.engine: none): name an engine, --oracle vllm or transformers")
    features = load_features(measures.features) if measures.features else None
    model, test, as_trained = GEM.from_pretrained(run.model), held_out_images(config), held_out_images(config, False)
    say("measuring codes and reconstructions")
    if test is not None and as_trained is not None:
        images = as_trained.images
        figures = measured(model, test, as_trained, config.seed, measures.dci_backends)
    else:
        images = _of_training(config)
        figures = _without_labels(model, images, config.seed)
    if features is not None:
        say("measuring FID and KID")
        figures |= measure_image_quality(model, images, features, config.seed)
    if measures.asks:
        with open_oracle(config, say) as oracle:
            figures |= _asked(run, model, config, oracle, images, say)
    return figures


def load_features(name: str) -> Features:
    """ORACLE_FEATURES, or what a TorchScript file computes; ValueError for a file that is not there."""
    if name != ORACLE_FEATURES:
        return InceptionFeatures(name)
    from graphdrl.oracle.tiny.features import VisionFeatures  # transformers take seconds to import

    return VisionFeatures()


def keep_figures(run: Run, config: Config, figures: Figures) -> None:
    """Add figures to those of the run's summary, and write its page again."""
    summary = run.read_summary()
    run.write_summary(summary | {"metrics": summary.get("metrics", {}) | figures})
    write_run_report(run, known_relations(config))
    run.upload()


def _of_training(config: Config) -> np.ndarray:
    images = training_images(config)
    return images.images[subset(images, _MOST_IMAGES, config.seed)]


def _without_labels(model: GEM, images: np.ndarray, seed: int) -> Figures:
    return {
        "measured_on": "training images",
        "reconstruction_mse": codes_and_error(model, images)[1],
        "elbo": posterior(model, images, seed).elbo,
    }


def _asked(
    run: Run, model: GEM, config: Config, oracle: Oracle, images: np.ndarray, say: Callable[[str], None]
) -> dict[str, float]:
    """What traversals of a few images show, and samples beside the run's edges.

    A run that asked nobody has no edges: the images are graded then.
    """
    attributes, estimator = attributes_of(config), config.relations.estimator
    say("asking the oracle about traversals")
    figures = measure_oracle_disentanglement(model, oracle, images[:_TRAVERSED], attributes, client=config.name)
    versions = run.versions()
    if versions:
        data = run.read_version(versions[-1]).edges.weights
    else:
        say("asking the oracle about images")
        some = images[:NUM_SAMPLES]
        data = shown_relations(oracle, some, attributes, estimator, source="data", client=config.name)
    say("asking the oracle about samples")
    return figures | measure_relation_fidelity(
        model, oracle, data, attributes, estimator, num_samples=NUM_SAMPLES, seed=config.seed, client=config.name
    )
