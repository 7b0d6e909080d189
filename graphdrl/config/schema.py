"""The configuration: one typed, closed tree. Every field says what it means, in which unit and within which bounds."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, PlainValidator, model_validator

from graphdrl.storage import Place, place

Kept = Annotated[Place, PlainValidator(place), PlainSerializer(str)]
"""A folder, or an address such as s3://bucket/runs."""

_READ_A_FILE = ("sprites", "solids", "mpi3d")
"""Sources whose data.path is a published file, not a folder of images."""


class Section(BaseModel):
    """Closed and immutable: an unknown key is an error, and nothing changes after the check."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class DataConfig(Section):
    """Which images."""

    source: Literal["faces", "avatars", "folder", "photographs", "sprites", "solids", "mpi3d"] = Field(
        "faces", description="where images come from; with a data.path that no other source reads it is folder"
    )
    path: Path | None = Field(
        None, description="folder of image files, for source: folder; published file, for sprites, solids, mpi3d"
    )
    image_size: int = Field(64, ge=32, le=512, description="pixels a side; a power of two")
    num_images: int | None = Field(12_000, ge=8, description="images to draw; null: all that the folder has")
    num_test: int = Field(
        6_000, ge=0, description="independently drawn images to measure on; 0 where factors are unknown"
    )
    parameters: dict[str, Any] = Field(default_factory=dict, description="the source's own settings")

    @model_validator(mode="before")
    @classmethod
    def _path_means_folder(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("path") and values.get("source") not in _READ_A_FILE:
            return {"num_images": None} | values | {"source": "folder", "num_test": 0}
        return values

    @model_validator(mode="after")
    def _check(self) -> "DataConfig":
        if self.image_size & (self.image_size - 1):
            raise ValueError(f"image_size must be a power of two, not {self.image_size}; take 64, 128 or 256")
        if self.source == "folder" and self.path is None:
            raise ValueError("source: folder needs data.path=DIR")
        from graphdrl.images.sources import load_source  # the registries compute; the tree alone does not load them

        load_source(self.source, **self.parameters, **({"path": self.path} if self.path else {}))
        return self


class ModelConfig(Section):
    """The generator's shape."""

    num_latents: int = Field(24, ge=1, le=1024, description="latent dimensions; the first K are the attributes")
    architecture: Literal["conv", "residual"] = Field(
        "conv", description="conv: conv-64 of Locatello et al. 2019; residual: deeper, several times as dear"
    )
    base_channels: int = Field(32, ge=4, le=256, description="width of the outermost convolutions")


class OracleConfig(Section):
    """The multimodal model that scores the images."""

    engine: Literal["vllm", "transformers", "none"] = Field(
        "vllm", description="vllm: on Ray Serve; transformers: in this process (backend local); none: ask nobody"
    )
    model: str = Field("builtin", description="builtin, or any model that vLLM can serve, by name or path")
    scoring: Literal["tokens", "structured"] = Field(
        "tokens", description="tokens: one token an attribute; structured: one JSON answer an image"
    )
    prompts: Path | None = Field(None, description="folder of own NAME.txt, in place of the prompts that come along")
    calibration: Path | None = Field(None, description="what `graphdrl oracle-eval --save` wrote of this model")
    num_replicas: int = Field(1, ge=0, le=64, description="engines; with max_replicas: to begin with")
    min_replicas: int = Field(1, ge=0, le=64, description="fewest engines; 0: none when idle")
    max_replicas: int | None = Field(None, ge=1, le=64, description="most engines, as the queue asks for; null: fixed")
    idle_s: float = Field(300.0, gt=0, description="seconds of a short queue before engines are taken away")
    tensor_parallel_size: int = Field(1, ge=1, le=64, description="GPUs (or CPU processes) that share one engine")
    num_cpus: float = Field(0.5, gt=0, description="CPUs that Ray reserves for each engine")
    num_gpus: float | None = Field(None, ge=0, description="GPUs for each engine; null: what the trainer leaves")
    num_threads: int = Field(1, ge=1, description="threads of each CPU engine")
    score_store: Kept = Field(
        Path("runs/score_store"), description="folder, or s3://, gs:// ..., of everything that was ever scored"
    )
    max_queue: int = Field(20_000, ge=1, description="grades that may wait in the service; beyond it clients wait")
    num_scored: int = Field(2_000, ge=0, description="images of this run to score")
    images_per_question: int = Field(16, ge=1, le=1024, description="images in one question to the service")
    max_in_flight: int = Field(4, ge=1, description="questions in flight from each worker")
    engine_args: dict[str, Any] = Field(default_factory=dict, description="passed to vLLM as they are")


class RelationsConfig(Section):
    """How scores become edges."""

    estimator: str = Field("somers_d", description="which statistic the edges' weights are")
    update_at: tuple[int, ...] = Field(
        (400, 800, 1_400),
        description="numbers of scored images at which the edges are estimated anew; and when all are in",
    )
    num_bootstrap: int = Field(200, ge=20, description="bootstrap draws for the intervals")
    decorrelate: bool = Field(True, description="draw the scored images as if the attributes were independent")
    gamma: float = Field(0.5, ge=0, le=1, description="strength of the decorrelating weights")


class TrainingConfig(Section):
    """How long, how fast, on what."""

    backend: Literal["ray", "local"] = Field("ray", description="Ray Train with DeepSpeed, or one plain process")
    num_workers: int = Field(2, ge=1, description="data-parallel ranks")
    min_workers: int | None = Field(
        None, ge=1, description="go on with so few when nodes are gone, up to num_workers when they are back; null: all"
    )
    max_failures: int = Field(3, ge=0, description="restarts from the last checkpoint before a run is given up")
    zero_stage: Literal[0, 1, 2, 3] = Field(1, description="DeepSpeed's ZeRO stage")
    cpus_per_worker: float = Field(0.5, gt=0, description="CPUs that Ray reserves for each worker")
    threads_per_worker: int = Field(1, ge=1, description="torch threads of each worker, on CPU")
    use_gpu: bool | None = Field(None, description="null: when the machine has one")
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="of the forward pass, weights stay fp32; auto: bf16 where the hardware has it"
    )
    steps: int = Field(1_000, ge=1, description="optimiser steps")
    batch_size: int = Field(32, ge=1, description="plain images of a global step")
    pair_groups: int = Field(2, ge=1, description="groups of scored images in a global step")
    group_size: int = Field(24, ge=2, description="scored images of a group; pairs are formed inside it")
    learning_rate: float = Field(1e-3, gt=0, description="peak of the one-cycle schedule")
    clip_norm: float = Field(0.0, ge=0, description="gradient norm limit; 0: none")
    log_every: int = Field(20, ge=1, description="steps")
    agree_every: int = Field(5, ge=1, description="steps between two looks for a newer relations version")
    checkpoint_every: int = Field(250, ge=1, description="steps")
    keep_checkpoints: int = Field(2, ge=1, description="newest checkpoints to keep")


class NamingConfig(Section):
    """nodes: discovered."""

    at: tuple[float, ...] = Field((0.5, 0.8), description="shares of the steps after which dimensions are named")
    num_images: int = Field(4, ge=1, description="images whose traversals are scored")
    least_slope: float = Field(0.15, ge=0, description="grades per standard deviation below which a node stays unnamed")
    words: bool = Field(False, description="ask for the model's own words for the dimensions that stay unnamed")


class Config(Section):
    """One run, complete."""

    name: str = Field("run", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="the run's folder below runs")
    runs: Kept = Field(Path("runs"), description="folder of all runs, or an address: s3://bucket/runs, gs:// ...")
    seed: int = Field(0, ge=0, le=2**31 - 1)
    method: str = Field("gem", description="which method trains")
    parameters: dict[str, Any] = Field(default_factory=dict, description="the method's own settings")
    nodes: Literal["ranked", "discovered"] = Field("ranked", description="how latent dimensions get their names")
    placement: Literal["shared", "split"] = Field(
        "shared", description="trainers and oracle: on the same nodes, or each on the nodes of its own pool"
    )
    attributes: tuple[str, ...] = Field(
        (), description="what the oracle is asked for; empty: all that the source shows"
    )
    data: DataConfig = Field(default_factory=DataConfig)
    model: ModelConfig = Field(default_factory=ModelConfig)
    oracle: OracleConfig = Field(default_factory=OracleConfig)
    relations: RelationsConfig = Field(default_factory=RelationsConfig)
    training: TrainingConfig = Field(default_factory=TrainingConfig)
    naming: NamingConfig = Field(default_factory=NamingConfig)

    @model_validator(mode="before")
    @classmethod
    def _nobody_named_the_nodes(cls, values: Any) -> Any:
        """Nodes are named as the method does by itself; own images without attributes: nobody said what to look for."""
        if isinstance(values, dict) and "nodes" not in values:
            data = values.get("data")
            own = isinstance(data, dict) and (
                data.get("source") in ("folder", "photographs")
                or (data.get("path") and data.get("source") not in _READ_A_FILE)
            )
            nodes = "discovered" if own and not values.get("attributes") else _nodes_of(values.get("method"))
            return values | ({"nodes": nodes} if nodes else {})
        return values

    @model_validator(mode="after")
    def _check(self) -> "Config":
        from graphdrl.methods import load_method

        if "nodes" in self.parameters:
            raise ValueError("parameters.nodes: write nodes at the top, as in nodes=discovered")
        load_method(self.method, **self.parameters)
        if _nodes_of(self.method) == "discovered" and self.nodes == "ranked":
            raise ValueError(f"method {self.method} uses no scores to order its codes: take nodes=discovered")
        training = self.training
        if training.min_workers is not None and training.min_workers > training.num_workers:
            raise ValueError(
                f"training.min_workers={training.min_workers} is more than training.num_workers="
                f"{training.num_workers}, which is the most: lower the one or raise the other"
            )
        if self.oracle.engine == "transformers" and self.training.backend == "ray":
            raise ValueError(
                "oracle.engine: transformers runs in the training process; it needs training.backend: local"
            )
        if self.oracle.engine == "transformers" and self.oracle.scoring == "structured":
            raise ValueError("oracle.scoring: structured needs oracle.engine: vllm; transformers reads single tokens")
        if self.oracle.engine == "transformers" and self.naming.words:
            raise ValueError(
                "naming.words: true needs oracle.engine: vllm; transformers reads grades and writes nothing"
            )
        if self.oracle.engine == "vllm" and self.training.backend == "local":
            raise ValueError(
                "training.backend: local runs without Ray, and the vLLM oracle runs on it; "
                "take oracle.engine: transformers (built-in model, in this process) or none"
            )
        return self

    @property
    def folder(self) -> Place:
        return self.runs / self.name


def _nodes_of(method: Any) -> str | None:
    """How a method names its nodes unless told otherwise; None where it says nothing, or there is no such method."""
    from graphdrl.methods import method_classes

    known = method_classes().get(method)
    nodes = known.Parameters.model_fields.get("nodes") if known else None
    return nodes.default if nodes else None
