"""The correlation question and the relations that answer it as JSON, beside the oracle's own kinds of question."""

from typing import Annotated, Any, Self

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from graphdrl.oracle.bodies import AS_INTEGER, AnswerBody, Image, QuestionBody, Row, Rows, TwoAttributes, array, numbers
from graphdrl.oracle.pixels import from_base64
from graphdrl.oracle.questions import Scores, ScoreSource
from graphdrl.oracle.wire import CODECS, Codec
from graphdrl.relations.correlate import CorrelateQuestion
from graphdrl.relations.edges import Edges, NodeMap, RelationsVersion
from graphdrl.relations.estimators import estimator_names, load_estimator
from graphdrl.relations.intervals import FEWEST_IMAGES

MOST_IMAGES = 8192
FEWEST_BOOTSTRAP, MOST_BOOTSTRAP = 20, 1000


def _known(estimator: str) -> str:
    load_estimator(estimator)
    return estimator


class CorrelateQuestionBody(QuestionBody):
    """How do the attributes hang together in these images?"""

    images: tuple[Image, ...] = Field(
        min_length=FEWEST_IMAGES, max_length=MOST_IMAGES, description="all of one size; the same ones count once"
    )
    attributes: TwoAttributes
    estimator: Annotated[str, AfterValidator(_known)] = Field(
        "somers_d", description="of the weights", json_schema_extra={"enum": list(estimator_names())}
    )
    num_bootstrap: Annotated[
        int,
        Field(ge=FEWEST_BOOTSTRAP, le=MOST_BOOTSTRAP, description="draws behind the intervals"),
        AS_INTEGER,
    ] = 200
    seed: Annotated[int, Field(ge=0, lt=1 << 32, description="of the bootstrap"), AS_INTEGER] = 0

    def question(self) -> CorrelateQuestion:
        return CorrelateQuestion(
            from_base64(self.images),
            self.attributes,
            estimator=self.estimator,
            num_bootstrap=self.num_bootstrap,
            seed=self.seed,
            client=self.client,
            deadline_s=self.deadline_s,
        )


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, protected_namespaces=())


class EdgesBody(_Part):
    """Entry [i][j] is the edge from attribute i to attribute j."""

    attributes: tuple[str, ...]
    weights: Rows = Field(description="from -1 to 1")
    low: Rows = Field(description="lower ends of the 95 % intervals of the weights")
    high: Rows = Field(description="upper ends")
    resolved: list[list[bool]] = Field(description="intervals that keep clear of 0, false discoveries under control")
    strength: Rows = Field(description="Kendall's tau-b")
    partial: Rows = Field(description="weights given all the other attributes")
    partial_low: Rows | None = Field(None, description="lower ends of the 95 % intervals of the partial weights")
    partial_high: Rows | None = Field(None, description="upper ends")
    partial_resolved: list[list[bool]] | None = Field(None, description="of the partial weights, as `resolved`")
    estimator: str
    num_scored: int

    @classmethod
    def of(cls, edges: Edges) -> Self:
        kept = [name for name in (*_WEIGHTS, *_RESOLVED) if getattr(edges, name) is not None]
        arrays = {name: numbers(getattr(edges, name)) for name in kept}
        return cls(attributes=edges.attributes, estimator=edges.estimator, num_scored=edges.num_scored, **arrays)

    def edges(self) -> Edges:
        shape = len(self.attributes), len(self.attributes)
        matrices: dict[str, Any] = {
            name: array(getattr(self, name), np.bool_ if name in _RESOLVED else np.float32, *shape)
            for name in (*_WEIGHTS, *_RESOLVED)
            if getattr(self, name) is not None
        }
        return Edges(
            attributes=self.attributes,
            estimator=self.estimator,
            num_scored=self.num_scored,
            **matrices,
        )


_WEIGHTS = ("weights", "low", "high", "strength", "partial", "partial_low", "partial_high")
_RESOLVED = ("resolved", "partial_resolved")


class GradedImagesBody(_Part):
    """What the relations were estimated from: distinct images (rows) and attributes (columns)."""

    image_ids: tuple[str, ...]
    attributes: tuple[str, ...]
    expected: Rows
    argmax: list[list[int]]
    entropy: Rows
    inclusion_probability: Row
    flagged: list[bool] = Field(description="images of a kind that the model does not know")
    source: ScoreSource
    model: str
    prompt_version: str

    @classmethod
    def of(cls, scores: Scores) -> Self:
        values = {name: getattr(scores, name) for name in cls.model_fields}
        return cls(**{name: numbers(v) if isinstance(v, np.ndarray) else v for name, v in values.items()})

    def scores(self) -> Scores:
        shape = len(self.image_ids), len(self.attributes)
        return Scores(
            self.image_ids,
            self.attributes,
            expected=array(self.expected, np.float32, *shape),
            argmax=array(self.argmax, np.int8, *shape),
            entropy=array(self.entropy, np.float32, *shape),
            inclusion_probability=array(self.inclusion_probability, np.float32, shape[0]),
            flagged=array(self.flagged, np.bool_, shape[0]),
            source=self.source,
            model=self.model,
            prompt_version=self.prompt_version,
        )


class RelationsBody(AnswerBody):
    """One version of the relations, with all that it was estimated from."""

    version: int = Field(ge=1)
    key: str
    edges: EdgesBody
    scores: GradedImagesBody
    sample_weights: Row = Field(description="how often each image is drawn so that the attributes hang together less")
    dimensions: tuple[int, ...] = Field(description="latent dimension that shows each attribute; -1: none")
    signs: tuple[int, ...]
    effective_sample_size: float
    notes: tuple[str, ...] = Field(description="what a reader must know")

    @classmethod
    def of(cls, answer: RelationsVersion) -> Self:
        return cls(
            version=answer.version,
            key=answer.key,
            edges=EdgesBody.of(answer.edges),
            scores=GradedImagesBody.of(answer.scores),
            sample_weights=numbers(answer.sample_weights),
            dimensions=answer.node_map.dimensions,
            signs=answer.node_map.signs,
            effective_sample_size=answer.effective_sample_size,
            notes=answer.notes,
        )

    def answer(self) -> RelationsVersion:
        scores = self.scores.scores()
        return RelationsVersion(
            version=self.version,
            key=self.key,
            edges=self.edges.edges(),
            scores=scores,
            sample_weights=array(self.sample_weights, np.float32, len(scores)),
            node_map=NodeMap(self.dimensions, self.signs),
            effective_sample_size=self.effective_sample_size,
            notes=self.notes,
        )


CODECS[CorrelateQuestion] = Codec("correlate", CorrelateQuestionBody, RelationsBody)
