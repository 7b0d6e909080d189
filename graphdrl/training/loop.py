"""The training loop: steps, relations versions, logs and checkpoints, on any backend."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import nn

from graphdrl.methods import Method
from graphdrl.relations.edges import RelationsVersion
from graphdrl.training.asking import Asker
from graphdrl.training.batches import Batches
from graphdrl.training.context import TrainContext
from graphdrl.training.engine import Engine
from graphdrl.training.loggers import Logger
from graphdrl.training.relations_source import RelationsSource
from graphdrl.training.runs import Run, append_line, write_atomically
from graphdrl.training.schedule import Schedule
from graphdrl.training.step import Engines, train_step
from graphdrl.training.supervision import Supervision


@dataclass(frozen=True)
class LoopSettings:
    """How long and how often; counts are steps."""

    steps: int
    log_every: int
    checkpoint_every: int
    keep_checkpoints: int


class NodeNamer(Protocol):
    """Finds out while a model trains which latent dimension shows which attribute."""

    def after_step(self, step: int, generator: Engine, relations: RelationsSource) -> None: ...


@dataclass(frozen=True)
class Parts:
    """What a loop works with; the edge makes them, the loop only uses their protocols."""

    context: TrainContext
    method: Method
    engines: Engines
    batches: Batches
    relations: RelationsSource
    schedule: Schedule
    row_of: dict[str, int]
    tie_margin: float
    run: Run
    loggers: tuple[Logger, ...] = ()
    asker: Asker | None = None
    namer: NodeNamer | None = None
    measure: Callable[[nn.Module], dict[str, float]] | None = None
    """Figures of the model at every checkpoint, for whoever compares runs while they train; computed by rank 0."""


@dataclass
class Progress:
    """Where a run stands; what a checkpoint keeps beside the weights."""

    step: int = 0
    version: int = 0
    images_trained: int = 0
    images_scored: int = 0
    questions_asked: int = 0
    train_seconds: float = 0.0
    oracle_seconds: float = 0.0

    @property
    def oracle_wait_fraction(self) -> float:
        """Share of the training time that this rank spent on asking the oracle and taking its answers."""
        return self.oracle_seconds / self.train_seconds if self.train_seconds else 0.0


class Training:
    """One rank's training from the first step, or from a checkpoint, to the last."""

    def __init__(self, parts: Parts, settings: LoopSettings) -> None:
        self._parts, self._settings = parts, settings
        self._supervision: Supervision | None = None
        self._window: list[dict[str, torch.Tensor]] = []
        self._all_scored = False
        self._scored_before = 0
        self.progress = Progress()

    def run(self) -> Progress:
        """Train to the end; returns where it ended."""
        self._restore()
        self._start_window()
        while self.progress.step < self._settings.steps:
            self._step()
        for logger in self._parts.loggers:
            logger.close()
        return self.progress

    def save_model(self) -> None:
        """Write the model in `save_pretrained` form; collective."""
        parts = self._parts
        with parts.engines.generator.gathered() as generator:
            if parts.context.rank == 0:
                generator.calibrate(parts.batches.sample_images)
                generator.save_pretrained(parts.run.model)
                parts.run.upload()
        parts.context.agree_any(False)

    def _step(self) -> None:
        parts, progress, step = self._parts, self.progress, self.progress.step
        self._serve_the_oracle()
        self._take_version(parts.schedule.version_at(step))
        batch = parts.batches.at(step, step / self._settings.steps, self._supervision)
        self._window.append(train_step(parts.method, parts.engines, batch, step))
        progress.step += 1
        progress.images_trained += (len(batch.plain) + len(batch.scored)) * parts.context.world_size
        if parts.namer is not None:
            parts.namer.after_step(progress.step, parts.engines.generator, parts.relations)
        last = progress.step == self._settings.steps
        if last or progress.step % self._settings.log_every == 0:
            self._log()
        if last or progress.step % self._settings.checkpoint_every == 0:
            self._save()

    def _serve_the_oracle(self) -> None:
        asker = self._parts.asker
        if asker is None:
            return
        before = (asker.seconds, asker.questions_asked)
        asker.pump(self._parts.relations.add)
        self.progress.oracle_seconds += asker.seconds - before[0]
        self.progress.questions_asked += asker.questions_asked - before[1]
        # A resumed run asks about its images again (the score store answers): those before do not count twice.
        self.progress.images_scored = max(self._scored_before, asker.images_scored)

    def _take_version(self, number: int) -> None:
        # A resumed rank stands on its checkpoint's version until it has fetched a newer one.
        if number <= self.progress.version:
            return
        parts = self._parts
        version = parts.relations.get(number)
        self._apply(version)
        self.progress.version = number
        if parts.context.rank == 0:
            parts.run.write_version(version)
            append_line(parts.run.schedule, {"step": self.progress.step, "version": number})

    def _apply(self, version: RelationsVersion) -> None:
        parts = self._parts
        with parts.engines.generator.gathered() as generator:
            parts.method.set_relations(generator, version)
        self._supervision = Supervision.of(version, parts.row_of, parts.tie_margin)

    # Logs and checkpoints ---------------------------------------------------------------------------------------

    def _log(self) -> None:
        progress, context = self.progress, self._parts.context
        names = sorted({name for losses in self._window for name in losses})
        means = [
            torch.stack([losses[name].float().cpu() for losses in self._window if name in losses]).mean()
            for name in names
        ]
        # Answers are counted rank by rank: the mean over the ranks times their number is the sum.
        waiting = self._parts.asker.num_waiting if self._parts.asker else 0
        counts = [progress.images_scored, progress.questions_asked, waiting, progress.oracle_seconds]
        agreed = context.mean(torch.cat([torch.stack(means).double(), torch.tensor(counts, dtype=torch.float64)]))
        seconds = time.perf_counter() - self._window_start
        progress.train_seconds += seconds
        values = dict(zip(names, agreed[: len(names)].tolist(), strict=True))
        values["images_trained"] = progress.images_trained
        values["images_per_s"] = (progress.images_trained - self._window_images) / seconds
        values["relations_version"] = progress.version
        scored, asked, queue = (agreed[-4:-1] * context.world_size).tolist()
        values |= {"images_scored": scored, "questions_asked": asked, "oracle_queue": queue}
        values["oracle_wait_fraction"] = float(agreed[-1]) / progress.train_seconds
        values["seconds"] = progress.train_seconds
        for logger in self._parts.loggers:
            logger.log(progress.step, values)
        self._finish_scoring(queue)
        self._start_window()

    def _finish_scoring(self, queue: float) -> None:
        """When no rank waits for answers any more, those beyond the last mark still make a version."""
        if self._all_scored or queue or self._parts.asker is None:
            return
        self._all_scored = True
        if self._parts.context.rank == 0:
            self._parts.relations.finish()

    def _start_window(self) -> None:
        self._window.clear()
        self._window_images = self.progress.images_trained
        self._window_start = time.perf_counter()

    def _save(self) -> None:
        parts, progress = self._parts, self.progress
        folder = parts.run.checkpoint(progress.step)
        parts.engines.generator.save(folder / "generator")
        if parts.engines.critic is not None:
            parts.engines.critic.save(folder / "critic")
        write_rank_state(folder, parts.context.rank, progress)
        parts.context.agree_any(False)  # every rank's files are there
        # The first rank of each machine keeps what lies on its disk, the first of all says that it is complete.
        kept = parts.context.local_rank > 0 or parts.run.store_checkpoint(progress.step)
        stored = not parts.context.agree_any(not kept)
        if parts.context.rank == 0:
            state = {"step": progress.step, "version": progress.version, "ranks": parts.context.world_size}
            parts.run.complete_checkpoint(progress.step, state, stored, self._settings.keep_checkpoints)
        parts.context.report({"step": progress.step, "images": progress.images_trained} | self._measured(), folder)

    def _measured(self) -> dict[str, float]:
        parts = self._parts
        if parts.measure is None:
            return {}
        with parts.engines.generator.gathered() as generator:
            return parts.measure(generator) if parts.context.rank == 0 else {}

    def _restore(self) -> None:
        parts, folder = self._parts, self._parts.context.resume_from
        if folder is not None:
            parts.engines.generator.load(folder / "generator")
            if parts.engines.critic is not None:
                parts.engines.critic.load(folder / "critic")
            self.progress = read_rank_state(folder, parts.context.rank)
            self._scored_before = self.progress.images_scored
            if self.progress.version:
                self._apply(parts.run.read_version(self.progress.version))
        if parts.context.local_rank == 0:
            parts.run.drop_checkpoints_after(self.progress.step)
        if parts.context.rank == 0:
            parts.run.forget_after(self.progress.step)


def write_rank_state(folder: Path, rank: int, progress: Progress) -> None:
    """A rank's own counts; `state.json`, written last, is what makes the checkpoint complete."""
    write_atomically(folder / f"rank_{rank}.json", json.dumps(progress.__dict__))


def read_rank_state(folder: Path, rank: int) -> Progress:
    """A rank's counts, or where the run stood when this rank was not there yet."""
    path = folder / f"rank_{rank}.json"
    if path.exists():
        return Progress(**json.loads(path.read_text()))
    state = json.loads((folder / "state.json").read_text())
    trained = json.loads((folder / "rank_0.json").read_text())["images_trained"]
    return Progress(step=state["step"], version=state["version"], images_trained=trained)
