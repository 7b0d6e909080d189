"""Two workers against two independent processes, where their time goes, and what a model says of GPUs."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from graphdrl.bench._scaling_model import Gpu, Link, RankStep, predict, spread_of
from graphdrl.bench._stopwatch import Stopwatch
from graphdrl.bench._turns import Conductor, NoMoreTurnsError, TakingTurns
from graphdrl.bench.registry import Say
from graphdrl.bench.runs import QUICKSTART, fresh_folder
from graphdrl.config import Config, check, load_config
from graphdrl.oracle import Scores
from graphdrl.relations import RelationsVersion
from graphdrl.training import Run
from graphdrl.training.runs import append_line
from jobs import assemble, identity_of, make_updater, prepare_process, training_images

RANKS = ("rank-0", "rank-1")
ALONE = ("alone-0", "alone-1")
STEPS, WARM_UP, ROUNDS, WATCHED = 80, 1, 9, 2
"""Steps of a window, so many that the slower first ones after a pause count little; windows of each before anything
counts, that are compared, that are watched."""

WEAK = {"num_batches": 2, "zero_stage": 0}
"""Each worker has the quickstart's whole batch, and no optimiser states to shard: the model has few."""

QUICKSTART_ITSELF = {"num_batches": 1, "zero_stage": 1}
"""Two workers share the quickstart's batch, so each has half the work and all the communication."""

_NUM_SCORED = 400
_BIG = 1 << 20

GPU = Gpu(flops_per_s=989e12, utilisation=0.1, launch_s=10e-6)
IMAGES_PER_GPU, GPU_SPREAD, LINK_SHARE = 512, 0.01, 0.8
NVLINK, INFINIBAND = Link(450e9 * LINK_SHARE, 10e-6), Link(50e9 * LINK_SHARE, 20e-6)
"""What is taken for granted of GPUs: docs/scaling.md says why. H100 SXM: 989 TFLOP/s dense in bf16, NVLink 450 GB/s one
way; 400 Gb/s of InfiniBand a GPU."""


def run(say: Say) -> dict[str, Any]:
    """Images/s of the whole training step, on plain and scored images with relations, the oracle not running.

    The figures are those with the quickstart's batch on each worker, without ZeRO; `quickstart` holds the same of its
    own settings: its batch shared by two workers, ZeRO 1.
    """
    return _measured(**WEAK, say=say) | {"quickstart": _measured(**QUICKSTART_ITSELF, say=say)}


def _measured(num_batches: int, zero_stage: int, say: Say) -> dict[str, Any]:
    with fresh_folder() as name:
        folder = Path(name)
        training = load_config(QUICKSTART).training
        config = _config(
            folder,
            f"training.zero_stage={zero_stage}",
            f"training.batch_size={num_batches * training.batch_size}",
            f"training.pair_groups={num_batches * training.pair_groups}",
        )
        say(f"{_images_per_rank(config)} images a worker, ZeRO stage {zero_stage}")
        with _players(folder, config, say) as conductor:
            return _figures_of(conductor, _images_per_rank(config), say)


def _figures_of(conductor: Conductor, images: int, say: Say) -> dict[str, Any]:
    say("warming up")
    for _ in range(WARM_UP):
        conductor.turn(*RANKS)
        conductor.turn(*ALONE)
    conductor.order("watch_steps", *ALONE)
    say("taking turns")
    pairs: list[tuple[float, float]] = []
    rounds = [_round(conductor, images, pairs) for _ in range(ROUNDS)]
    ratio = _figures(rounds)["ratio"]
    say(f"two workers do {ratio:.2f} of two processes; watching where the time goes")
    watched, plain = _watched(conductor)
    link = _link(conductor.order("link", *RANKS))
    conductor.order("watch_work", ALONE[0])
    conductor.turn(ALONE[0])
    [work] = conductor.order("read_work", ALONE[0])
    modelled = _modelled(images, rounds, spread_of(pairs), watched, plain, link, work)
    return {"images_per_worker": images} | _figures(rounds) | modelled


# The trainings ------------------------------------------------------------------------------------------------------


def _config(folder: Path, *overrides: str) -> Config:
    """The quickstart, without end and on few images: what a step takes does not depend on either."""
    everywhere = (
        *("name=ranks", f"runs={folder}", "oracle.engine=none", "data.num_images=2000", "data.num_test=0"),
        *("training.use_gpu=false", "training.steps=1000000", "training.checkpoint_every=1000000"),
        f"training.log_every={STEPS}",
    )
    return load_config(QUICKSTART, [*everywhere, *overrides])


def _halved(config: Config) -> tuple[str, ...]:
    """What one rank of two has of a step, as the step of a process."""
    training = config.training
    return (
        *("training.backend=local", "training.num_workers=1"),
        *(f"training.batch_size={training.batch_size // 2}", f"training.pair_groups={training.pair_groups // 2}"),
    )


@contextmanager
def _players(folder: Path, config: Config, say: Say) -> Iterator[Conductor]:
    """Both kinds of training, started and waiting for their turns."""
    from cluster import joined

    say("drawing images, and relations of their true grades")
    replay = _record(config, folder / "recorded")
    _record(config, folder / config.name)
    say("starting two workers and two processes")
    conductor = Conductor(folder)
    processes = [_start_alone(folder, name, config, replay, conductor.address) for name in ALONE]
    try:
        with joined():
            ranks = threading.Thread(target=_fit, args=(config, folder / config.name, conductor.address))
            ranks.start()
            with conductor:
                conductor.gather(
                    [*RANKS, *ALONE], lambda: ranks.is_alive() and all(each.poll() is None for each in processes)
                )
                yield conductor
            ranks.join()
    finally:
        for process in processes:
            process.kill()
            process.wait()


def _record(config: Config, folder: Path) -> Path:
    """A run's folder with one version of relations, taken at the first step, of the images' true grades."""
    images, identity = training_images(config), identity_of(config)
    grades = 5 * np.asarray(images.grades)[:_NUM_SCORED]
    scores = Scores(
        image_ids=images.ids[:_NUM_SCORED],
        attributes=images.attributes,
        expected=grades,
        argmax=np.rint(grades).astype(np.int8),
        entropy=np.zeros_like(grades),
        inclusion_probability=np.full(_NUM_SCORED, _NUM_SCORED / len(images), np.float32),
        flagged=np.zeros(_NUM_SCORED, bool),
        source="data",
        model=identity.model,
        prompt_version=identity.prompt_version,
    )
    version = make_updater(config, images, identity).add(scores)
    assert isinstance(version, RelationsVersion)
    run = Run(folder)
    run.folder.mkdir()
    run.write_version(version)
    append_line(run.schedule, {"step": 0, "version": version.version})
    return run.folder


def _start_alone(folder: Path, name: str, ranks: Config, replay: Path, address: str) -> "subprocess.Popen[bytes]":
    config = _config(folder, f"name={name}", *_halved(ranks))
    (folder / name).mkdir()
    spec = folder / f"{name}.json"
    told = {"name": name, "address": address, "replay": str(replay), "config": config.model_dump(mode="json")}
    spec.write_text(json.dumps(told))
    return subprocess.Popen([sys.executable, "-m", "graphdrl.bench._alone", str(spec)])


def _fit(config: Config, folder: Path, address: str) -> None:
    """The real workers: Ray Train, DeepSpeed, relations from an edge store."""
    from graphdrl import distributed

    training, images = config.training, training_images(config)
    store = distributed.open_edge_store(make_updater(config, images, identity_of(config)), folder)
    distributed.fit(
        _rank,
        {"config": config.model_dump(mode="json"), "store": store, "folder": folder, "address": address},
        folder=folder,
        placement=distributed.place(training.num_workers, 0, False, 0),
        cpus_per_worker=training.cpus_per_worker,
        max_failures=0,
    )
    distributed.close_edge_store(store, folder)


def _rank(arguments: dict[str, Any]) -> None:
    from graphdrl import distributed

    config, watch = check(arguments["config"]), Stopwatch()
    prepare_process(config)

    def watch_all() -> None:
        watch.watch_parts(distributed.DeepSpeedEngine)
        watch.watch_collectives()

    ray_context = distributed.RayContext()
    orders = {"watch_parts": watch_all, "read": watch.read, "link": _measure_link}
    context = TakingTurns(ray_context, RANKS[ray_context.rank], arguments["address"], orders)
    training = assemble(
        config,
        context,
        training_images(config),
        lambda module, settings, batch_size: distributed.DeepSpeedEngine(
            module, settings, zero_stage=config.training.zero_stage, batch_size=batch_size
        ),
        distributed.RayRelations(arguments["store"], arguments["folder"]),
        None,
    )
    with suppress(NoMoreTurnsError):
        context.wait()
        training.run()


def _measure_link() -> dict[str, float]:
    """Seconds of summing one number, and `_BIG` of them, over the ranks."""

    def typical(size: int, times: int) -> float:
        values, seconds = torch.zeros(size), []
        for _ in range(times):
            dist.barrier()
            began = time.perf_counter()
            dist.all_reduce(values)
            seconds.append(time.perf_counter() - began)
        return median(seconds)

    return {"tiny_s": typical(1, 50), "big_s": typical(_BIG, 20)}


# The figures --------------------------------------------------------------------------------------------------------


def _round(conductor: Conductor, images: int, pairs: list[tuple[float, float]]) -> dict[str, float]:
    """Images/s of each, one after the other; adds to `pairs` what each step took in the two independent processes."""
    workers = 2 * images * STEPS / max(conductor.turn(*RANKS))
    independent = sum(images * STEPS / seconds for seconds in conductor.turn(*ALONE))
    first, second = (read["steps"] for read in conductor.order("read", *ALONE))
    pairs += zip(first, second, strict=True)
    one = images * STEPS / conductor.turn(ALONE[0])[0]
    conductor.order("read", ALONE[0])  # what it took alone is none of a pair
    return {"workers": workers, "independent": independent, "one": one}


def _images_per_rank(config: Config) -> int:
    training = config.training
    return (training.batch_size + training.pair_groups * training.group_size) // 2


def _figures(rounds: list[dict[str, float]]) -> dict[str, Any]:
    ratios = [each["workers"] / each["independent"] for each in rounds]
    return {
        "images_per_s_2_workers": median(each["workers"] for each in rounds),
        "images_per_s_2_independent": median(each["independent"] for each in rounds),
        "images_per_s_1": median(each["one"] for each in rounds),
        "ratio": median(ratios),
        "ratio_quartiles": np.quantile(ratios, [0.25, 0.75]).tolist(),
    }


def _watched(conductor: Conductor) -> tuple[dict[str, Any], dict[str, float]]:
    """Of a step: rank 0's seconds by part, bytes and collectives; and a plain process's seconds by part."""
    conductor.order("watch_parts", *RANKS, *ALONE)
    totals: dict[str, list[float]] = {"workers": [], "independent": []}
    for _ in range(WATCHED):
        totals["workers"].append(conductor.turn(*RANKS)[0])
        totals["independent"].append(conductor.turn(*ALONE)[0])
    workers, _ = conductor.order("read", *RANKS)
    plain, _ = conductor.order("read", *ALONE)
    steps = WATCHED * STEPS
    return {
        "seconds": _by_part(workers["seconds"], sum(totals["workers"]), steps),
        "moved": {kind: moved / steps for kind, moved in workers["moved"].items()},
        "num_collectives": workers["num_collectives"] / steps,
    }, _by_part(plain["seconds"], sum(totals["independent"]), steps)


def _by_part(seconds: dict[str, float], total: float, steps: int) -> dict[str, float]:
    parts = {part: spent / steps for part, spent in seconds.items()}
    return parts | {"other": total / steps - sum(parts.values())}


def _link(measured: list[dict[str, float]]) -> Link:
    tiny, big = (fmean(each[name] for each in measured) for name in ("tiny_s", "big_s"))
    return Link(bytes_per_s=4 * _BIG / max(big - tiny, 1e-9), latency_s=tiny / 2)


def _modelled(
    images: int,
    rounds: list[dict[str, float]],
    spread_s: float,
    watched: dict[str, Any],
    plain: dict[str, float],
    link: Link,
    work: dict[str, float],
) -> dict[str, Any]:
    parts = watched["seconds"]
    reduced = watched["moved"].get("all_reduce", 0.0)
    own = sum(parts[part] for part in ("compute", "optimizer")) - sum(plain[part] for part in ("compute", "optimizer"))
    here = RankStep(
        images=images,
        alone_s=2 * images / median(each["independent"] for each in rounds),
        engine_s=max(0.0, own),
        spread_s=spread_s,
        reduced_bytes=reduced,
        gathered_bytes=sum(watched["moved"].values()) - reduced,
        num_collectives=watched["num_collectives"],
    )
    total = sum(parts.values())
    return {
        "breakdown": {part: seconds / total for part, seconds in parts.items()},
        "breakdown_s": parts,
        "breakdown_s_independent": plain,
        "collectives": {"number": here.num_collectives, "bytes": watched["moved"]},
        "link": {"bytes_per_s": link.bytes_per_s, "latency_s": link.latency_s},
        "model_2": predict(here, link, 2),
        "model_8": predict(_gpu_step(here, plain, work), NVLINK, 8),
        "model_64": predict(_gpu_step(here, plain, work), INFINIBAND, 64),
        "work": {"flops_per_image": work["flops"] / images, "operations_per_step": work["operations"]},
    }


def _gpu_step(here: RankStep, plain: dict[str, float], work: dict[str, float]) -> RankStep:
    """The same step with more images, computed by a GPU; the host makes its batches as fast as here."""
    images = IMAGES_PER_GPU
    computing = GPU.step_s(work["flops"] / here.images * images, work["operations"])
    alone = computing + plain["data"] / here.images * images
    return RankStep(
        images=images,
        alone_s=alone,
        engine_s=0.0,
        spread_s=GPU_SPREAD * alone,
        reduced_bytes=here.reduced_bytes,
        gathered_bytes=here.gathered_bytes,
        num_collectives=here.num_collectives,
    )
