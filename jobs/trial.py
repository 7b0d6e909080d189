"""One trial of a search: a whole training of its own, which stops at every checkpoint for the search's decision."""

import json
import shutil
import threading
from pathlib import Path
from typing import Any

from graphdrl.config import Config, dump_config
from graphdrl.models import GEM
from graphdrl.training import Run
from jobs.placing import placement_of
from jobs.trial_plan import TrialPlan
from jobs.trial_record import TrialRecord
from jobs.trial_worker import make_measure, open_oracle, train_trial

_LOOK_EVERY_S = 1.0
_STOP_WITHIN_S = 120.0
_POINTER = "pointer.json"


def trainable(plan: TrialPlan) -> Any:
    """What Tune runs, a class: Tune waits for its `cleanup`.

    Under a function Tune would kill the training where it stops a trial, and Ray Train frees what its workers had
    reserved only when it can shut down, or where the cluster has a dashboard.
    """
    from ray import tune

    class SearchTrial(tune.Trainable):
        def setup(self, config: dict[str, Any]) -> None:
            self._trial = Trial(plan, self.trial_name, plan.values(config))

        def step(self) -> dict[str, Any]:
            return self._trial.next_rung()

        def save_checkpoint(self, checkpoint_dir: str) -> None:
            self._trial.point_to_model(Path(checkpoint_dir))

        def load_checkpoint(self, checkpoint_dir: str) -> None:
            self._trial.take_over(Path(checkpoint_dir))

        def cleanup(self) -> None:
            self._trial.stop()

    return SearchTrial


class Trial:
    """A trial in the process that Tune gives it; its workers are started at the first rung that is asked for."""

    def __init__(self, plan: TrialPlan, name: str, values: dict[str, Any]) -> None:
        self._plan, self._values, self._name = plan, values, name
        self._run = Run(plan.folder / "trials" / name)
        self._fit: _Fit | None = None
        self._last: dict[str, float] = {}
        self._passed_on = False

    def next_rung(self) -> dict[str, Any]:
        """Train to the next checkpoint; returns its figures, with `done` at the last.

        Raises what training ended in.
        """
        try:
            if self._fit is None:
                self._begin()
            else:
                self._fit.go_on()
            return self._climb()
        except Exception as error:
            self._record.keep(status="failed", error=_sentence(error))
            raise

    def point_to_model(self, folder: Path) -> None:
        """Write down where the model of the last rung lies: another trial may go on with it."""
        pointer = {"folder": str(self._run.folder), "step": int(self._last["step"])}
        (folder / _POINTER).write_text(json.dumps(pointer))

    def take_over(self, folder: Path) -> None:
        """Go on from the model that is pointed to: another trial's, or this one's own."""
        pointer = json.loads((folder / _POINTER).read_text())
        donor, step = Run(pointer["folder"]), pointer["step"]
        if donor.folder != self._run.folder:
            shutil.rmtree(self._run.folder / "checkpoints", ignore_errors=True)
            shutil.copytree(donor.checkpoint(step), self._run.checkpoint(step))
            for version in donor.versions():
                self._run.write_version(donor.read_version(version))
        self._run.drop_checkpoints_after(step)
        self._passed_on = True

    def stop(self) -> None:
        """End the workers in good order, so that what they had reserved is free for the next trial."""
        if self._fit is not None:
            self._fit.stop()

    def _begin(self) -> None:
        folder = self._run.folder
        record = TrialRecord.read(folder)
        if record is None or (record.values != self._values and not self._passed_on):
            # A search that was killed may come to other values for the trials that it had not written down yet.
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            record = TrialRecord(folder)
        self._record = record
        record.keep(values=self._values, status="running", error="")
        self._config = self._plan.config(self._name, self._values)
        self._run.config.write_text(dump_config(self._config))
        self._fit = _Fit(self._config, self._plan)
        self._fit.start()

    def _climb(self) -> dict[str, Any]:
        assert self._fit is not None
        steps = self._config.training.steps
        while self._fit.is_alive():
            figures = self._fit.next_figures()
            if figures is None:
                continue
            self._last = figures
            self._record.add_rung(figures)
            self._record.keep()
            if figures["step"] < steps:
                return figures
            self._fit.go_on()  # the model is written after the last checkpoint
        if self._fit.error is not None:
            raise self._fit.error
        if self._last.get("step") != steps:
            self._measure_again()
        self._record.keep(status="finished")
        return self._last | {"done": True}

    def _measure_again(self) -> None:
        """The last figures of a training that ended before it could tell them."""
        measure = make_measure(self._config, self._plan, open_oracle(self._plan))
        steps = float(self._config.training.steps)
        self._last = {"step": steps} | measure(GEM.from_pretrained(self._run.model))
        self._record.add_rung(self._last)


class _Fit(threading.Thread):
    """The training itself, on workers of its own."""

    def __init__(self, config: Config, plan: TrialPlan) -> None:
        import ray

        from graphdrl import distributed

        super().__init__(daemon=True)
        self._config, self._plan = config, plan
        self._rungs = ray.remote(distributed.Rungs).options(num_cpus=0).remote()
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

    def next_figures(self) -> dict[str, float] | None:
        """Of the next checkpoint; None when they are not there yet."""
        import ray

        return ray.get(self._rungs.next.remote(_LOOK_EVERY_S))

    def go_on(self) -> None:
        import ray

        ray.get(self._rungs.go_on.remote())

    def stop(self) -> None:
        import ray

        if self.is_alive():
            ray.get(self._rungs.stop.remote())
            self.join(_STOP_WITHIN_S)


def _sentence(error: Exception) -> str:
    from graphdrl import distributed

    return distributed.last_sentence(error)
