"""One trial of a search: a whole training of its own, which stops at every checkpoint for the search's decision."""

import json
import shutil
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import nn

from graphdrl.config import Config, check, dump_config, with_values
from graphdrl.images import ImageSet, read_shards
from graphdrl.metrics import evaluate_codes
from graphdrl.models import GEM
from graphdrl.oracle import Oracle
from graphdrl.relations import RelationsVersion
from graphdrl.training import Run, choose_for_scoring, measure_oracle_disentanglement, posterior
from jobs.assemble import assemble, attributes_of, identity_of, make_updater, set_threads, training_images
from jobs.oracle import APPLICATION
from jobs.search import data_name, scored
from jobs.trial_record import TrialRecord

if TYPE_CHECKING:
    from graphdrl.distributed import Placement

_LABELLED = ("dci_d", "dci_c", "dci_i", "mig", "sap", "infom", "infoc")
_LOOK_EVERY_S = 1.0
_NODE_IMAGES = 4
_ALL = 1_000_000


@dataclass(frozen=True)
class TrialPlan:
    """What all trials of a search share; it travels to each of them.

    folder: the search's, absolute. base: the configuration that is searched around, as a plain tree. listed, ends: of
    each searched key its values, or its lowest and highest. edges: the actor that holds the relations. asks: whether
    trials themselves ask the oracle, about nodes. passes_models: whether a trial may go on with another one's model.
    nodes: what each node of the cluster has, as Ray names it.
    """

    folder: Path
    base: dict[str, Any]
    objective: str
    listed: dict[str, tuple[Any, ...]]
    ends: dict[str, tuple[float, float]]
    edges: Any
    asks: bool
    passes_models: bool
    nodes: tuple[dict[str, float], ...]

    def values(self, drawn: dict[str, Any]) -> dict[str, Any]:
        """The searched values of what Tune drew: of a listed value it draws the place in the list.

        What it changed on the way may lie beyond the ends, and stays within them here.
        """
        return {key: self._value(key, value) for key, value in drawn.items()}

    def _value(self, key: str, drawn: Any) -> Any:
        if key in self.listed:
            return self.listed[key][drawn]
        low, high = self.ends[key]
        return min(max(drawn, low), high)

    def config(self, name: str, values: dict[str, Any]) -> Config:
        own: dict[str, Any] = {"name": name, "runs": str(self.folder / "trials")}
        if self.passes_models:
            own["training.keep_checkpoints"] = _ALL
        return with_values(check(self.base), values | own)


# In the trial's own process -----------------------------------------------------------------------------------------


def run_trial(drawn: dict[str, Any], plan: TrialPlan) -> None:
    """Carry out one trial; what Tune calls."""
    from ray import tune

    name, values, given = tune.get_context().get_trial_name(), plan.values(drawn), tune.get_checkpoint()
    folder = plan.folder / "trials" / name
    record = TrialRecord.read(folder)
    if record is None or (given is None and record.values != values):
        # A search that was killed may come to other values for the trials that it had not written down yet.
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        record = TrialRecord(folder)
    record.keep(values=values, status="running", error="")
    try:
        config = plan.config(name, values)
        Run(folder).config.write_text(dump_config(config))
        _take_over(Run(folder), given)
        _climb(config, plan, record)
    except Exception as error:
        record.keep(status="failed", error=_sentence(error))
        raise


def _climb(config: Config, plan: TrialPlan, record: TrialRecord) -> None:
    """Train from checkpoint to checkpoint; Tune ends this process where it decides so."""
    import ray

    from graphdrl import distributed

    rungs = ray.remote(distributed.Rungs).options(num_cpus=0).remote()
    training = _Fit(config, plan, rungs)
    training.start()
    last: dict[str, float] = {}
    while training.is_alive():
        figures = ray.get(rungs.next.remote(_LOOK_EVERY_S))
        if figures is None:
            continue
        last = figures
        record.add_rung(figures)
        record.keep()
        # The last figures are told when the model is there too: whatever Tune decides on them, the trial is complete.
        if figures["step"] < config.training.steps:
            _tell(figures, Run(config.folder), plan)
        ray.get(rungs.go_on.remote())
    if training.error is not None:
        raise training.error
    if last.get("step") != config.training.steps:
        last = _measured_again(config, plan, record)
    record.keep(status="finished")
    _tell(last, Run(config.folder), plan)


def _tell(figures: dict[str, float], run: Run, plan: TrialPlan) -> None:
    """Report to Tune, and wait for what it decides; where models are passed on, say where this one lies."""
    from ray import tune

    if not plan.passes_models:
        tune.report(figures)
        return
    with TemporaryDirectory() as folder:
        pointer = {"folder": str(run.folder), "step": int(figures["step"])}
        (Path(folder) / "pointer.json").write_text(json.dumps(pointer))
        tune.report(figures, checkpoint=tune.Checkpoint.from_directory(folder))


def _take_over(run: Run, checkpoint: Any) -> None:
    """Go on from the checkpoint of another trial, when the search gave this one that trial's model."""
    if checkpoint is None:
        return
    with checkpoint.as_directory() as folder:
        pointer = json.loads((Path(folder) / "pointer.json").read_text())
    donor, step = Run(pointer["folder"]), pointer["step"]
    if donor.folder != run.folder:
        shutil.rmtree(run.folder / "checkpoints", ignore_errors=True)
        shutil.copytree(donor.checkpoint(step), run.checkpoint(step))
        for version in donor.versions():
            run.write_version(donor.read_version(version))
    run.drop_checkpoints_after(step)


def _measured_again(config: Config, plan: TrialPlan, record: TrialRecord) -> dict[str, float]:
    """The last figures of a training that ended before it could tell them."""
    run = Run(config.folder)
    measure = make_measure(config, plan, _open_oracle(plan))
    figures = {"step": float(config.training.steps)} | measure(GEM.from_pretrained(run.model))
    record.add_rung(figures)
    return figures


class _Fit(threading.Thread):
    """The training itself, on workers of its own."""

    def __init__(self, config: Config, plan: TrialPlan, rungs: Any) -> None:
        super().__init__(daemon=True)
        self._config, self._plan, self._rungs = config, plan, rungs
        self.error: Exception | None = None

    def run(self) -> None:
        from graphdrl import distributed

        training = self._config.training
        try:
            distributed.fit(
                _worker,
                {"config": self._config.model_dump(mode="json"), "plan": self._plan, "rungs": self._rungs},
                folder=Run(self._config.folder).folder,
                placement=placement_of(self._config, self._plan.nodes),
                cpus_per_worker=training.cpus_per_worker,
                min_workers=training.min_workers,
                max_failures=training.max_failures,
            )
        except Exception as error:  # raised by who waits for this thread
            self.error = error


def placement_of(config: Config, nodes: Sequence[dict[str, float]], num_engines: int = 0) -> "Placement":
    """Where a trial's workers compute, and so many engines of the oracle; raises ValueError when they do not fit."""
    from graphdrl import distributed

    training = config.training
    wanted = distributed.Wanted(
        num_workers=training.num_workers,
        cpus_per_worker=training.cpus_per_worker,
        min_workers=training.min_workers,
        use_gpu=training.use_gpu,
        num_engines=num_engines,
        cpus_per_engine=config.oracle.num_cpus,
        split=config.placement == "split",
    )
    return distributed.place_on(nodes, wanted)


def _sentence(error: Exception) -> str:
    from graphdrl import distributed

    return distributed.last_sentence(error)


# In a worker --------------------------------------------------------------------------------------------------------


def _worker(arguments: dict[str, Any]) -> None:
    """One rank of a trial."""
    from graphdrl import distributed

    config, plan = check(arguments["config"]), arguments["plan"]
    set_threads(config)
    images = images_of(config, plan)
    oracle = _open_oracle(plan)
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
    try:
        training.run()
        training.save_model()
    finally:
        if oracle is not None:
            oracle.close()


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


def _open_oracle(plan: TrialPlan) -> Oracle | None:
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
        figures |= {name: float(found[name]) for name in _LABELLED if name in found}
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
