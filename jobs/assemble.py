"""Puts one rank's training together from the configuration; the same for Ray and for a single process."""

import ctypes
import os
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from graphdrl.config import Config
from graphdrl.images import ImageSet, Loader, load_source, prepare
from graphdrl.methods import Method, ModelShape, load_method, method_classes
from graphdrl.oracle import Oracle, load_prompt, model_key
from graphdrl.oracle.prompts import SCORE_PROMPTS
from graphdrl.oracle.tiny.data import ATTRIBUTES as BUILTIN_ATTRIBUTES
from graphdrl.relations import NodeMap, Updater, relations_key
from graphdrl.storage import Place
from graphdrl.training import (
    Asker,
    Batches,
    Engine,
    Engines,
    JsonLines,
    LiveSchedule,
    LoopSettings,
    Namer,
    NodeNamer,
    OptimizerSettings,
    Parts,
    RecordedRelations,
    RecordedSchedule,
    RelationsSource,
    Run,
    StepShape,
    TensorBoard,
    TrainContext,
    Training,
    choose_for_scoring,
)

_MMAP_THRESHOLD, _TRIM_THRESHOLD, _TOP_PAD = -3, -1, -2
_KEEP = {_MMAP_THRESHOLD: 32 << 20, _TRIM_THRESHOLD: (1 << 31) - 1, _TOP_PAD: 64 << 20}
"""Of malloc.h: the most that glibc takes, and a thread's heap as a whole."""

MakeEngine = Callable[[nn.Module, OptimizerSettings, int], Engine]
"""(module, optimiser, images of one rank's step) -> engine."""


@dataclass(frozen=True)
class Identity:
    """Who answers, as the score store knows it: scores of another model or prompt never mix."""

    model: str
    prompt_version: str


def identity_of(config: Config) -> Identity:
    """The model and the prompt that this run's scores come from."""
    oracle = config.oracle
    prompt = load_prompt(SCORE_PROMPTS[oracle.scoring], oracle.prompts)
    return Identity(model_key(oracle.model, oracle.engine_args.get("revision")), prompt.version)


def attributes_of(config: Config) -> tuple[str, ...]:
    """What the oracle is asked for: as configured, else what the source shows, else what the built-in model knows."""
    if config.attributes:
        return config.attributes
    return load_source(config.data.source, **source_parameters(config)).attributes or BUILTIN_ATTRIBUTES


def source_parameters(config: Config) -> dict[str, object]:
    """The source's own settings, with the folder of a folder source among them."""
    return dict(config.data.parameters) | ({"path": config.data.path} if config.data.path else {})


def training_images(config: Config) -> ImageSet:
    """The run's images: drawn or read once, kept as shards below the runs, and read from there by every rank."""
    data = config.data
    parameters = source_parameters(config)
    return prepare(data.source, parameters, data.num_images, data.image_size, config.seed, config.runs / ".data")


def make_updater(config: Config, images: ImageSet, identity: Identity) -> Updater:
    """The relations updater of this run's data, attributes, model, prompt and estimator."""
    attributes, relations = attributes_of(config), config.relations
    num_scored = min(config.oracle.num_scored, len(images))
    node_map = NodeMap.ranked if config.nodes == "ranked" else NodeMap.unnamed
    return Updater(
        key=relations_key(images.ids, attributes, identity.model, identity.prompt_version, relations.estimator),
        node_map=node_map(len(attributes)),
        estimator=relations.estimator,
        update_at=tuple(at for at in relations.update_at if at < num_scored) + ((num_scored,) if num_scored else ()),
        num_bootstrap=relations.num_bootstrap,
        gamma=relations.gamma if relations.decorrelate else 0.0,
        seed=config.seed,
    )


def make_method(config: Config) -> Method:
    takes_nodes = "nodes" in method_classes()[config.method].Parameters.model_fields
    return load_method(config.method, **config.parameters, **({"nodes": config.nodes} if takes_nodes else {}))


def assemble(
    config: Config,
    context: TrainContext,
    images: ImageSet,
    make_engine: MakeEngine,
    relations: RelationsSource,
    oracle: Oracle | None,
    *,
    replay: Place | None = None,
    measure: Callable[[nn.Module], dict[str, float]] | None = None,
    scores_images: bool = True,
    namer: NodeNamer | None = None,
) -> Training:
    """One rank, ready to run on the run's images.

    replay: folder of a run whose schedule of relations versions is taken again.
    measure: figures of the model at every checkpoint; scores_images: False asks the oracle about nodes alone.
    namer: who names discovered nodes where the oracle does not.
    """
    run, method = Run(config.folder), make_method(config)
    recorded = Run(replay) if replay is not None else None
    settings, attributes = config.training, attributes_of(config)
    engines = _engines(config, context, method, attributes, make_engine)
    rank0 = context.rank == 0
    if recorded is not None:
        recorded.fetch()
        relations = RecordedRelations(recorded)
    parts = Parts(
        context=context,
        method=method,
        engines=engines,
        batches=Batches(
            images.images,
            Loader(
                images,
                settings.batch_size,
                config.seed,
                context.rank,
                context.world_size,
                together=2 if method.pairs else 1,
            ),
            StepShape(settings.batch_size, settings.pair_groups, settings.group_size),
            num_latents=config.model.num_latents,
            num_attributes=len(attributes),
            seed=config.seed,
            rank=context.rank,
            world_size=context.world_size,
            device=context.device,
        ),
        relations=relations,
        schedule=RecordedSchedule(recorded.read_schedule())
        if recorded
        else LiveSchedule(context, relations, settings.agree_every),
        row_of={image: row for row, image in enumerate(images.ids)},
        tie_margin=method.parameters.tie_margin,
        run=run,
        loggers=(JsonLines(run.metrics), TensorBoard(run.tensorboard)) if rank0 else (),
        asker=_asker(config, context, images, attributes, oracle) if oracle and scores_images and not replay else None,
        namer=_namer(config, context, run, images, attributes, oracle) if oracle and not replay else namer,
        measure=measure,
    )
    return Training(
        parts,
        LoopSettings(
            steps=settings.steps,
            log_every=settings.log_every,
            checkpoint_every=settings.checkpoint_every,
            keep_checkpoints=settings.keep_checkpoints,
        ),
    )


def shape_of(config: Config, attributes: tuple[str, ...]) -> ModelShape:
    """The shape of this run's model."""
    return ModelShape(image_size=config.data.image_size, attributes=attributes, **config.model.model_dump())


def _engines(
    config: Config, context: TrainContext, method: Method, attributes: tuple[str, ...], make_engine: MakeEngine
) -> Engines:
    settings = config.training
    torch.manual_seed(config.seed)  # the same first weights on every rank
    generator, critic = method.build(shape_of(config, attributes))
    generator.mixed_precision = settings.precision == "bf16" or (
        settings.precision == "auto" and has_bf16(context.device)
    )
    optimizer = OptimizerSettings(settings.learning_rate, settings.steps, clip_norm=settings.clip_norm)
    images = (settings.batch_size + settings.pair_groups * settings.group_size) // context.world_size
    return Engines(
        make_engine(generator.to(context.device), optimizer, images),
        make_engine(critic.to(context.device), optimizer, images) if critic is not None else None,
    )


def _asker(
    config: Config, context: TrainContext, images: ImageSet, attributes: tuple[str, ...], oracle: Oracle
) -> Asker:
    chosen = choose_for_scoring(len(images), config.oracle.num_scored, config.seed)
    return Asker(
        oracle,
        images.images,
        chosen[context.rank :: context.world_size],
        attributes,
        client=config.name,
        inclusion_probability=len(chosen) / len(images),
        images_per_question=config.oracle.images_per_question,
        max_in_flight=config.oracle.max_in_flight,
    )


def _namer(
    config: Config,
    context: TrainContext,
    run: Run,
    images: ImageSet,
    attributes: tuple[str, ...],
    oracle: Oracle,
) -> Namer | None:
    if config.nodes == "ranked":
        return None
    steps, naming = config.training.steps, config.naming
    return Namer(
        context,
        oracle,
        run,
        images.images[: naming.num_images],
        attributes,
        at_steps=frozenset(max(1, int(share * steps)) for share in naming.at),
        least_slope=naming.least_slope,
        words=naming.words,
        client=config.name,
    )


def has_bf16(device: torch.device) -> bool:
    """Whether the hardware multiplies in bfloat16; where it does not, bf16 is emulated and slower than fp32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def prepare_process(config: Config) -> None:
    """Hold torch to the threads of one worker, and the process to its memory.

    Two ranks that both take every core fight over them.
    """
    torch.set_num_threads(config.training.threads_per_worker)
    os.environ.setdefault("OMP_NUM_THREADS", str(config.training.threads_per_worker))
    keep_freed_memory()


def keep_freed_memory() -> None:
    """Let this process keep the memory of freed tensors instead of asking the kernel for it again at every step."""
    c_library = ctypes.CDLL(None)
    if hasattr(c_library, "mallopt"):  # glibc's
        for option, most in _KEEP.items():
            c_library.mallopt(option, most)


def carry_out(training: Training, oracle: Oracle | None) -> None:
    """Train to the end and write the model; the oracle's client is closed whatever happens."""
    try:
        training.run()
        training.save_model()
    finally:
        if oracle is not None:
            oracle.close()
