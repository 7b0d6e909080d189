"""The HTTP door: every kind of question, an OpenAI-compatible chat, counts; a key for all, limits before parsing."""

import asyncio
import hmac
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

import numpy as np
from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import ASGIApp, Receive, Scope, Send

import graphdrl.relations  # noqa: F401 - its kind of question goes through the door too
from graphdrl.oracle.pixels import TooLarge
from graphdrl.oracle.protocol import Busy
from graphdrl.oracle.questions import A, Ask
from graphdrl.oracle.wire import CODECS, MOST_BYTES, Codec, parsed
from serve.chat_schema import ChatBody
from serve.door_schema import CHAT, METRICS, MODELS, STATS, publish, questions
from serve.refusals import event_of, refusal, refusal_of

MOST_HELD_BYTES = 1 << 30
"""Of all questions that are being read or answered at one time; beyond it the next are refused as busy."""

_EVENTS_TYPE, _METRICS_TYPE = "text/event-stream", "text/plain; version=0.0.4; charset=utf-8"

R = TypeVar("R")
Handler = Callable[[HttpRequest], Awaitable[Response]]


class Answering(Protocol):
    """What the door opens on."""

    async def answer(self, question: Ask[A]) -> A: ...

    async def stats(self) -> dict[str, Any]:
        """Counts, named as `serve.door_schema.Stats` names them."""
        ...

    async def metrics(self) -> bytes:
        """The same and more, as Prometheus reads them."""
        ...

    async def chat(self, body: dict[str, Any]) -> dict[str, Any]: ...

    def chat_stream(self, body: dict[str, Any]) -> AsyncIterator[str]:
        """Whole server-sent events, as OpenAI's interface has them."""
        ...

    async def models(self) -> dict[str, Any]: ...


class _Gone(Exception):  # noqa: N818 - it names what happened
    """Whoever asked is there no more."""


def make_app(oracle: Answering, key: str) -> FastAPI:
    """The door to an oracle, as an ASGI application; GET /openapi.json says what goes through it.

    key: what comes with every request as `Authorization: Bearer KEY`.
    """
    app = FastAPI(title="graphdrl oracle", docs_url=None, redoc_url=None)
    app.add_middleware(_Gate, key=key)
    app.add_exception_handler(HTTPException, _no_route)
    memory = _Memory(MOST_HELD_BYTES)
    handlers = {route: _asked(oracle, codec, memory) for codec in CODECS.values() for route in questions(codec)}
    handlers |= {
        STATS: lambda _: _as_response(oracle.stats(), JSONResponse),
        METRICS: lambda _: _as_response(oracle.metrics(), _metrics),
        CHAT: _chatted(oracle, memory),
        MODELS: lambda _: _as_response(oracle.models(), JSONResponse),
    }
    for route, handler in handlers.items():
        app.add_api_route(route.path, _guarded(handler), **route.describe())
    app.openapi = lambda: publish(app, list(handlers))  # type: ignore[method-assign]
    return app


class _Gate:
    """Whoever has no key is turned away before anything is read."""

    def __init__(self, app: ASGIApp, key: str) -> None:
        self._app, self._expected = app, f"bearer {key}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not self._has_key(HttpRequest(scope)):
            message = "send the oracle's key as 'Authorization: Bearer KEY'"
            response = refusal(HttpRequest(scope), 401, message, {"WWW-Authenticate": "Bearer"})
            await response(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _has_key(self, request: HttpRequest) -> bool:
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        return hmac.compare_digest(f"{scheme.lower()} {given}".encode(), self._expected)


class _Memory:
    """Counts the bytes that questions hold, so that many large ones cannot fill the memory together."""

    def __init__(self, most: int) -> None:
        self._most, self._total = most, 0

    @contextmanager
    def share(self) -> "Iterator[_Share]":
        """One question's part; it is given back at the end."""
        share = _Share(self)
        try:
            yield share
        finally:
            share.hold(0)

    def change(self, by: int) -> None:
        if by > 0 and self._total + by > self._most:
            raise Busy(f"{self._total:,} bytes of questions are being answered: ask again later")
        self._total += by


class _Share:
    def __init__(self, memory: _Memory) -> None:
        self._memory, self._num_bytes = memory, 0

    def hold(self, num_bytes: int) -> None:
        """So many bytes from now on; raises Busy when there is no room for them."""
        self._memory.change(num_bytes - self._num_bytes)
        self._num_bytes = num_bytes


def _guarded(handler: Handler) -> Handler:
    """The handler; what goes wrong in it becomes a response."""

    async def handle(request: HttpRequest) -> Response:
        try:
            return await handler(request)
        except (_Gone, ClientDisconnect):
            return Response(status_code=499)  # as proxies note it; nobody reads it
        except Exception as error:
            return refusal_of(request, error)

    return handle


def _asked(oracle: Answering, codec: Codec, memory: _Memory) -> Handler:
    async def handle(request: HttpRequest) -> Response:
        with memory.share() as share:
            question = await asyncio.to_thread(codec.question_from_json, await _body(request, share))
            share.hold(sum(value.nbytes for value in vars(question).values() if isinstance(value, np.ndarray)))
            answer = await _unless_gone(request, oracle.answer(question))
            content = await asyncio.to_thread(codec.answer_to_json, answer)
        return Response(content, media_type="application/json")

    return handle


def _chatted(oracle: Answering, memory: _Memory) -> Handler:
    async def handle(request: HttpRequest) -> Response:
        with memory.share() as share:
            body = await asyncio.to_thread(parsed, ChatBody, await _body(request, share))
            given = body.model_dump(mode="json", exclude_unset=True)
            if not body.stream:
                return JSONResponse(await _unless_gone(request, oracle.chat(given)))
            events = oracle.chat_stream(given)
            first = await _unless_gone(request, anext(events, ""))
        return StreamingResponse(_told(first, events), media_type=_EVENTS_TYPE)

    return handle


async def _told(first: str, events: AsyncIterator[str]) -> AsyncIterator[str]:
    """All events; what goes wrong on the way is one more, since the status has been sent."""
    try:
        yield first
        async for event in events:
            yield event
    except Exception as error:
        yield event_of(error)


async def _as_response(value: Awaitable[R], kind: Callable[[R], Response]) -> Response:
    return kind(await value)


def _metrics(text: bytes) -> Response:
    return Response(text, headers={"Content-Type": _METRICS_TYPE})


async def _unless_gone(request: HttpRequest, answer: Awaitable[R]) -> R:
    """The answer; when the client goes away meanwhile, the question is cancelled and this raises _Gone."""
    answering = asyncio.ensure_future(answer)
    leaving = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({answering, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not answering.done():
            raise _Gone
        return answering.result()
    finally:
        answering.cancel()
        leaving.cancel()
        await asyncio.gather(answering, leaving, return_exceptions=True)


async def _gone(request: HttpRequest) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _body(request: HttpRequest, share: _Share) -> bytes:
    too_large = TooLarge(f"a question is {MOST_BYTES:,} bytes at most: ask about fewer images at once")
    announced = request.headers.get("content-length", "0")
    if not announced.isdecimal() or int(announced) > MOST_BYTES:
        raise too_large
    parts, num_bytes = [], 0
    async for part in request.stream():
        num_bytes += len(part)
        if num_bytes > MOST_BYTES:
            raise too_large
        share.hold(num_bytes)
        parts.append(part)
    return b"".join(parts)


async def _no_route(request: HttpRequest, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    method, path = request.method, request.url.path
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "another method")
        return refusal(request, 405, f"{path} is there for {allowed}, not for {method}", dict(error.headers or {}))
    return refusal(request, 404, f"there is no route {path}: GET /openapi.json lists those that there are")
