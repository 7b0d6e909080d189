"""The published schema of the HTTP door: which routes there are, what each takes and gives, how each can say no."""

from dataclasses import dataclass, fields
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel, ConfigDict, Field, create_model
from pydantic.json_schema import models_json_schema
from starlette.responses import JSONResponse, PlainTextResponse, Response

from graphdrl.oracle.wire import MOST_BYTES, Codec
from serve.chat_schema import ChatBody, ChatCompletion, ModelList
from serve.counts import ClientCounts
from serve.refusals import KINDS, OpenAiRefusal, Refusal

_COMMON, _ASKED = (401, 405, 500, 503), (400, 413, 429, 504)

_ABOUT = (
    f"Every request carries the key as a bearer token. A question is {MOST_BYTES:,} bytes at most. Every error has the "
    "shape of `Refusal`; a path that is not listed here is a 404 of type `no_route`."
)

_EVENT = {"type": "object", "properties": {"data": {"type": "string"}}, "required": ["data"]}
_EVENTS: dict[str, Any] = {"text/event-stream": {"schema": _EVENT}}

_COUNTS: dict[str, Any] = {
    count.name: (float if count.type is float else int, ...)
    for count in fields(ClientCounts)
    if count.name != "latencies"
}


class _Now(BaseModel):
    model_config = ConfigDict(extra="allow", protected_namespaces=())

    model: str
    queued: int = Field(description="items that wait for their turn")
    in_flight: int = Field(description="items that the engines have now")
    stored: int = Field(description="grades in the score store")


Stats = create_model("Stats", __base__=_Now, __doc__="Counts over all clients since the oracle started.", **_COUNTS)


@dataclass(frozen=True)
class Route:
    """One way through the door."""

    method: str
    path: str
    summary: str
    body: type[BaseModel] | None
    gives: type[BaseModel] | None
    response: type[Response] = JSONResponse

    @property
    def name(self) -> str:
        return self.path.strip("/").replace("/", "_")

    def describe(self) -> dict[str, Any]:
        """How FastAPI is told of it."""
        extra = {}
        if self.body is not None:
            extra["requestBody"] = {"required": True, "content": _json(self.body)}
        return {
            "methods": [self.method],
            "summary": self.summary,
            "operation_id": self.name,
            "response_class": self.response,
            "response_model": None,
            "responses": self._responses(),
            "openapi_extra": extra,
        }

    def models(self) -> list[type[BaseModel]]:
        """All documents that its description names."""
        return [model for model in (self.body, self.gives, self._refusal) if model is not None]

    @property
    def _refusal(self) -> type[BaseModel]:
        return OpenAiRefusal if self.path.startswith("/v1/") else Refusal

    def _responses(self) -> dict[int | str, dict[str, Any]]:
        statuses = sorted(_COMMON + (_ASKED if self.body else ()))
        found: dict[int | str, dict[str, Any]] = {
            status: {"description": KINDS[status][1], "content": _json(self._refusal)} | _headers(status)
            for status in statuses
        }
        found[200] = {"description": "The answer.", "content": _json(self.gives) if self.gives else {}}
        if self.body is ChatBody:
            found[200]["content"] |= _EVENTS
        return found


def _json(model: type[BaseModel]) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{model.__name__}"}}}


def _headers(status: int) -> dict[str, Any]:
    if status not in (429, 503):
        return {}
    after = {"description": "seconds to wait before asking again", "schema": {"type": "integer", "minimum": 0}}
    return {"headers": {"Retry-After": after | {"required": status == 429}}}


def questions(codec: Codec) -> list[Route]:
    """The routes of one kind of question: one, or more names for it."""
    summary = (codec.question.__doc__ or "").strip()
    return [Route("POST", f"/{path}", summary, codec.question, codec.answer) for path in (codec.route, *codec.also)]


STATS = Route("GET", "/stats", "What was asked, and what became of it.", None, Stats)
METRICS = Route("GET", "/metrics", "Counts for Prometheus.", None, None, PlainTextResponse)
CHAT = Route("POST", "/v1/chat/completions", "A chat, as OpenAI's interface has it.", ChatBody, ChatCompletion)
MODELS = Route("GET", "/v1/models", "The model that answers, as OpenAI's interface has it.", None, ModelList)


def publish(app: FastAPI, routes: list[Route]) -> dict[str, Any]:
    """The OpenAPI document of the door."""
    if app.openapi_schema is None:
        schema = get_openapi(title=app.title, version=version("graphdrl"), description=_ABOUT, routes=app.routes)
        models = dict.fromkeys(model for route in routes for model in route.models())
        _, defined = models_json_schema(
            [(model, "validation") for model in models], ref_template="#/components/schemas/{model}"
        )
        schema["components"] = {
            "schemas": defined["$defs"],
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        }
        app.openapi_schema = schema | {"security": [{"key": []}]}
    return app.openapi_schema
