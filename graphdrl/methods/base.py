"""What a method is, what it is given at every step, and how it is found by name."""

import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from typing import Any, ClassVar, Protocol, TypeVar

from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from graphdrl.models.gem import GEM, Architecture, GEMConfig, Outputs
from graphdrl.relations.edges import RelationsVersion


class MethodParameters(BaseModel):
    """Base of a method's own parameters: closed and immutable."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tie_margin: float = Field(default=0.5, ge=0, le=5, description="grades that differ by less are a tie")


@dataclass(frozen=True)
class ModelShape:
    """What all methods share, so that they differ in nothing but the method."""

    image_size: int
    attributes: tuple[str, ...]
    num_latents: int = 24
    base_channels: int = 32
    architecture: Architecture = "conv"

    def config(self, **options: Any) -> GEMConfig:
        """The configuration of a model of this shape."""
        return GEMConfig(
            image_size=self.image_size,
            attributes=self.attributes,
            num_latents=self.num_latents,
            base_channels=self.base_channels,
            architecture=self.architecture,
            **options,
        )


@dataclass(frozen=True)
class Batch:
    """One rank's share of a global step: losses are functions of the weights and of this.

    plain: images in [0, 1]. scored: G groups of `group_size` scored images, paired inside their group only; 0 rows
    while there are no scores; group_size 0: they are one group. scored_grades: expected grades 0..5.
    pair_scale: 1 / expected share of untied pairs, a constant of the relations version.
    noise_plain, noise_scored, prior: standard normal. progress: share of the steps done, for warm-ups.
    """

    plain: Float[Tensor, "B 3 S S"]
    scored: Float[Tensor, "N 3 S S"]
    scored_grades: Float[Tensor, "N K"]
    pair_scale: Float[Tensor, " K"]
    noise_plain: Float[Tensor, "B Z"]
    noise_scored: Float[Tensor, "N Z"]
    prior: Float[Tensor, "B Z"]
    progress: float
    group_size: int = 0


class Method(Protocol):
    """A way of training: what is built, and what its losses are."""

    name: ClassVar[str]
    Parameters: ClassVar[type[MethodParameters]]
    parameters: MethodParameters
    pairs: ClassVar[bool]
    """Whether plain images come as pairs that share most factors: 2i and 2i + 1 are one."""

    def build(self, shape: ModelShape) -> tuple[GEM, nn.Module | None]:
        """Generator and critic; no critic, no second engine."""
        ...

    def wants_critic(self, step: int) -> bool:
        """Whether the critic plays at this step."""
        ...

    def generator_loss(
        self, generator: Callable[..., Outputs], critic: nn.Module | None, batch: Batch
    ) -> tuple[dict[str, Tensor], Outputs]:
        """Losses by name, among them "total", and the outputs for the critic.

        generator: module or engine, called once. critic: the plain frozen critic when it plays, else None.
        """
        ...

    def critic_loss(self, critic: Callable[..., Tensor], batch: Batch, outputs: Outputs) -> dict[str, Tensor]:
        """The critic's losses, among them "total", from one forward of it on detached outputs."""
        ...

    def set_relations(self, generator: nn.Module, version: RelationsVersion) -> None:
        """Take a new version; called on all ranks at the same step, with the plain module."""
        ...


_METHODS: dict[str, type[Any]] = {}
MethodClass = TypeVar("MethodClass", bound=type[Any])


def register(method: MethodClass) -> MethodClass:
    """Class decorator: make a method known under its `name`."""
    _METHODS[method.name] = method
    return method


def method_classes() -> dict[str, type[Any]]:
    """All methods by name: every file of this folder is read, so a new method is one new file."""
    import graphdrl.methods as room

    for module in pkgutil.iter_modules(room.__path__):
        import_module(f"{room.__name__}.{module.name}")
    return dict(sorted(_METHODS.items()))


def load_method(name: str, **parameters: Any) -> Method:
    """A method by name; raises ValueError with the nearest match, or pydantic's error for a wrong parameter."""
    methods = method_classes()
    if name not in methods:
        near = get_close_matches(name, methods, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"unknown method {name!r}; {hint}there are: {', '.join(methods)}")
    return methods[name](methods[name].Parameters(**parameters))
