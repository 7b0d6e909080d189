"""One rank of a trial: the training on frozen relations, and what is measured of the model at every checkpoint."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
from torch import nn

from graphdrl.config import Config, check
from graphdrl.images import ImageSet, read_shards
from graphdrl.metrics import evaluate_codes
from graphdrl.models import GEM
from graphdrl.oracle import Oracle
from graphdrl.relations import RelationsVersion
from graphdrl.training import Run, choose_for_scoring, measure_oracle_disentanglement, posterior
from jobs.assemble import (
    assemble,
    attributes_of,
    carry_out,
    identity_of,
    make_updater,
    prepare_process,
    training_images,
)
from jobs.oracle import APPLICATION
from jobs.search import data_name, scored
from jobs.trial_plan import TrialPlan

_LABELLED = ("dci_d", "dci_c", "dci_i", "mig", "sap", "info_m", "info_c")
_NODE_IMAGES = 4


def train_trial(arguments: dict[str, Any]) -> None:
    """One rank of a trial."""
    from graphdrl import distributed

    config, plan = check(arguments["config"]), arguments["plan"]
    prepare_process(config)
    images = images_of(config, plan)
    oracle = open_oracle(plan)
    training = assemble(
        config,
        distributed.RungContext(Run(config.folder).last_checkpoint(), arguments["rungs"]),
        images,
        lambda module, settings, batch_size: distributed.RetunedEngine(
            module, settings, zero_stage=config.training.zero_stage, batch_size=batch_size
        ),
        _relations(config, plan, images),
        oracle,
        measure=make_measure(config, plan, oracle),
        scores_images=False,
    )
    # Of a trial that is stopped the last checkpoint is complete, and nobody is told of a failure.
    with suppress(distributed.TrialStopped):
        carry_out(training, oracle)


def images_of(config: Config, plan: TrialPlan) -> ImageSet:
    """A trial's images, which lie where those of all runs lie."""
    return training_images(config.model_copy(update={"runs": check(plan.base).runs}))


def _relations(config: Config, plan: TrialPlan, images: ImageSet) -> Any:
    import ray

    from graphdrl import distributed

    num_scored = min(scored(config), len(images))
    if not num_scored:
        return distributed.NoRelations()
    updater = make_updater(config, images, identity_of(config))
    chosen = choose_for_scoring(len(images), num_scored, config.seed)
    relations = config.relations
    weighing = relations.gamma if relations.decorrelate else 0.0
    name = f"{updater.key}-{num_scored}-{relations.num_bootstrap}-{weighing:g}-{config.seed}"
    scores = plan.folder / "scores" / f"{data_name(config)}.parquet"
    asked = plan.edges.version.remote(name, updater, str(scores), [images.ids[row] for row in chosen], len(images))
    (reference,) = ray.get(asked)
    version: RelationsVersion = ray.get(reference)
    return distributed.FrozenRelations(plan.edges, config.folder, name, version, config.nodes == "discovered")


def open_oracle(plan: TrialPlan) -> Oracle | None:
    if not plan.asks:
        return None
    from graphdrl.oracle.clients import HandleOracle

    return HandleOracle(APPLICATION)


def make_measure(config: Config, plan: TrialPlan, oracle: Oracle | None) -> Callable[[nn.Module], dict[str, float]]:
    """What is measured of a trial's model at each checkpoint, on images that no trial trains on."""
    held_out: list[ImageSet] = []

    def measure(model: nn.Module) -> dict[str, float]:
        assert isinstance(model, GEM)
        if not held_out:  # rank 0 alone measures, and alone reads them
            held_out.append(read_shards(plan.folder / "validation" / data_name(config)))
        was_training = model.training
        model.eval()
        try:
            return _figures(model, held_out[0], config, plan, oracle)
        finally:
            model.train(was_training)

    return measure


def _figures(model: GEM, images: ImageSet, config: Config, plan: TrialPlan, oracle: Oracle | None) -> dict[str, float]:
    seen = posterior(model, images.images, config.seed)
    figures = {"elbo": seen.elbo, "informative_dimensions": float((seen.kl > 0.01).sum())}
    if images.grades is not None:
        found = evaluate_codes(seen.codes, images.grades, images.attributes, config.seed)
        figures |= {name: float(found[name]) for name in _LABELLED}
    if plan.objective == "udr":
        np.savez(Run(config.folder).folder / "codes.npz", codes=seen.codes, kl=seen.kl)
    if plan.objective == "oracle_disentanglement":
        assert oracle is not None
        model.calibrate(images.images)
        attributes = attributes_of(config)
        figures |= measure_oracle_disentanglement(
            model, oracle, images.images[:_NODE_IMAGES], attributes, client=config.name
        )
    return figures
