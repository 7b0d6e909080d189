"""One trial of a search: a whole training of its own, which stops at every checkpoint for the search's decision."""

import json
import shutil
import threading
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from graphdrl.config import Config, dump_config
from graphdrl.models import GEM
from graphdrl.training import Run
from jobs.trial_plan import TrialPlan, placement_of
from jobs.trial_record import TrialRecord
from jobs.trial_worker import make_measure, open_oracle, train_trial

_LOOK_EVERY_S = 1.0


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
    measure = make_measure(config, plan, open_oracle(plan))
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
                train_trial,
                {"config": self._config.model_dump(mode="json"), "plan": self._plan, "rungs": self._rungs},
                folder=Run(self._config.folder).folder,
                placement=placement_of(self._config, self._plan.nodes),
                cpus_per_worker=training.cpus_per_worker,
                min_workers=training.min_workers,
                max_failures=training.max_failures,
            )
        except Exception as error:  # raised by who waits for this thread
            self.error = error


def _sentence(error: Exception) -> str:
    from graphdrl import distributed

    return distributed.last_sentence(error)
