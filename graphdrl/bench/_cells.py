"""A table's cells: one training each, alone in its process, and kept when it is done."""

import hashlib
import json
import os
import resource
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from graphdrl.bench._cell_scores import ScoresSettings, relations_of
from graphdrl.config import Config, check
from graphdrl.images import ImageSet, read_shards, write_shards
from graphdrl.models import GEM
from graphdrl.training import LocalContext, LocalEngine, NamerByScores, Run, codes_and_error, measure, write_atomically
from jobs import assemble, attributes_of, held_out_images, make_method, prepare_process, shape_of, training_images

_KEPT_IMAGES, _KEPT_SCORES = ".test-images", ".scores"
_NAMED_AT, _LEAST_CORRELATION = (0.3, 0.6), 0.1


@dataclass(frozen=True)
class Cell:
    """One training of a table: row of a data set, with a seed.

    config: the keys and values of a `Config`, less its name and place. scores: None where the method sees no score.
    """

    data: str
    row: str
    seed: int
    config: dict[str, Any]
    scores: ScoresSettings | None = None

    @property
    def name(self) -> str:
        return f"{self.data}.{self.row}.{self.seed}"

    def chooser(self, folder: Path) -> Path:
        """The model that chooses which images are scored, where one does."""
        row = self.scores.chosen_by if self.scores and self.scores.chosen_by else self.row
        return Run(folder / f"{self.data}.{row}.{self.seed}").model

    def resolved(self, folder: Path) -> Config:
        """Its configuration as a run below `folder`."""
        return check(self.config | {"name": self.name, "runs": str(folder), "seed": self.seed})

    def fingerprint(self) -> str:
        """Changes with all that is set for the cell."""
        return hashlib.blake2b(json.dumps(self.told(), sort_keys=True).encode(), digest_size=8).hexdigest()

    def told(self) -> dict[str, Any]:
        """All that is set for the cell, as JSON holds it."""
        return asdict(self) | {"scores": self.scores.model_dump() if self.scores else None}

    def result(self, folder: Path) -> dict[str, Any] | None:
        """Its figures, when it is done already and nothing that it depends on was set otherwise since."""
        path = folder / self.name / "cell.json"
        if not path.exists():
            return None
        record = json.loads(path.read_text())
        return record["figures"] if record["fingerprint"] == self.fingerprint() else None


Runner = Literal["processes", "ray"]


def carry_out(
    cells: Iterable[Cell], folder: Path, runner: Runner, at_once: int, say: Callable[[str], None]
) -> dict[str, Any]:
    """Figures of the cells by name; those that are done already are read, the others run side by side.

    runner: processes of this machine, `at_once` of them, without Ray; or tasks of a Ray cluster (RAY_ADDRESS, else a
    private one), as many as it has CPUs. Its nodes must share `folder`.
    """
    cells = list({cell.name: cell for cell in cells}.values())
    figures = {cell.name: found for cell in cells if (found := cell.result(folder)) is not None}
    waiting = [cell for cell in cells if cell.name not in figures]
    if cells:
        say(f"{len(figures)} of {len(cells)} cells are done already")
    running = _in_processes(waiting, folder, at_once) if runner == "processes" else _on_ray(waiting, folder.resolve())
    for number, (cell, done) in enumerate(running if waiting else (), start=len(figures) + 1):
        figures[cell.name] = done
        say(f"{number}/{len(cells)} {cell.name}: DCI-D {done['dci_d']:.3f}, MIG {done['mig']:.3f}, {done['seconds']} s")
    return figures


def _in_processes(cells: list[Cell], folder: Path, at_once: int) -> Iterator[tuple[Cell, dict[str, Any]]]:
    """Each cell in a fresh process of one thread, so that its peak memory is its own."""
    with ProcessPoolExecutor(at_once, mp_context=get_context("spawn"), max_tasks_per_child=1) as processes:
        futures = {processes.submit(run_cell, cell, folder): cell for cell in cells}
        for future in as_completed(futures):
            yield futures[future], future.result()


def _on_ray(cells: list[Cell], folder: Path) -> Iterator[tuple[Cell, dict[str, Any]]]:
    """Each cell as a task of one CPU; a worker process ends with its cell, so that its peak memory is its own."""
    import ray

    from cluster import joined  # before Ray, whose tokens it sets

    with joined():
        task = ray.remote(num_cpus=1, max_calls=1)(run_cell)
        running = {task.remote(cell, folder): cell for cell in cells}
        while running:
            (done,), _ = ray.wait(list(running))
            yield running.pop(done), ray.get(done)


def run_cell(cell: Cell, folder: Path) -> dict[str, Any]:
    """Train, measure on independently drawn images, and keep the figures with the run."""
    started = time.monotonic()
    config = cell.resolved(folder)
    prepare_process(config)
    images = training_images(config)
    context = LocalContext()
    training = assemble(
        config,
        context,
        images,
        lambda module, settings, _: LocalEngine(module, settings),
        relations_of(cell.scores, config, images, folder / _KEPT_SCORES, cell.chooser(folder)),
        None,
        namer=_namer(config, images, context),
    )
    progress = training.run()
    training.save_model()
    trained_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    figures = {
        **_measured(GEM.from_pretrained(Run(config.folder).model), config, folder),
        "images_trained": progress.images_trained,
        "images_per_s": round(progress.images_trained / progress.train_seconds, 1),
        "train_seconds": round(progress.train_seconds, 1),
        "peak_memory_mib": trained_mib,
        **costs(config),
        "seconds": round(time.monotonic() - started, 1),
    }
    record = {"fingerprint": cell.fingerprint(), "cell": cell.told(), "figures": figures}
    write_atomically(folder / cell.name / "cell.json", json.dumps(record, indent=2))
    return figures


def costs(config: Config) -> dict[str, float]:
    """What a model of this configuration is: parameters of generator and critic, and FLOPs of one image.

    An image is encoded and decoded once; a multiply-add counts as two.
    """
    generator, critic = make_method(config).build(shape_of(config, attributes_of(config)))
    with FlopCounterMode(display=False) as counter:
        generator.reconstruct(torch.zeros(1, 3, config.data.image_size, config.data.image_size))
    return {
        "parameters": _num_parameters(generator),
        "critic_parameters": _num_parameters(critic) if critic is not None else 0,
        "flops_per_image": counter.get_total_flops(),
    }


def _num_parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _namer(config: Config, images: ImageSet, context: LocalContext) -> NamerByScores | None:
    if config.nodes == "ranked":
        return None
    return NamerByScores(
        images.images,
        {image: row for row, image in enumerate(images.ids)},
        at_steps=frozenset(max(1, int(share * config.training.steps)) for share in _NAMED_AT),
        device=context.device,
        least=_LEAST_CORRELATION,
    )


def _measured(model: GEM, config: Config, folder: Path) -> dict[str, float | str]:
    """Figures on independently drawn images, and the reconstruction of others drawn as those of training."""
    independent, as_trained = (_kept_images(config, folder, independent) for independent in (True, False))
    error = codes_and_error(model, as_trained.images)[1]
    return measure(model, independent, config.seed) | {"reconstruction_mse_correlated": error}


def _kept_images(config: Config, folder: Path, independent: bool) -> ImageSet:
    """Held-out images, drawn once for all cells of the same data and seed."""
    settings = json.dumps([config.data.model_dump(mode="json"), config.seed, independent])
    kept = folder / _KEPT_IMAGES / hashlib.blake2b(settings.encode(), digest_size=8).hexdigest()
    if not kept.exists():
        images = held_out_images(config, independent)
        assert images is not None, "a source that draws its images"
        fresh = kept.with_name(f"{kept.name}.{os.getpid()}")
        write_shards(images, fresh)
        with suppress(OSError):  # another cell was quicker, and its images are the same
            fresh.rename(kept)
        shutil.rmtree(fresh, ignore_errors=True)
    return read_shards(kept)
