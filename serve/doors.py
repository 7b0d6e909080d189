"""The HTTP door: JSON in, JSON out, a key for everyone, and limits before anything is parsed."""

import asyncio
import hmac
import json
from typing import Any, Protocol

from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse

from graphdrl.oracle.protocol import Busy, OracleError
from graphdrl.oracle.questions import Answer, Question
from graphdrl.oracle.wire import MOST_BYTES, answer_to_json, question_from_json

_RETRY_AFTER_S = "1"


class _TooLarge(ValueError):  # noqa: N818 - it names the body
    pass


class Answering(Protocol):
    async def answer(self, question: Question) -> Answer: ...

    async def stats(self) -> dict[str, Any]: ...


async def answer_http(request: HttpRequest, oracle: Answering, key: str) -> JSONResponse:
    """POST .../answer: a question as `graphdrl.oracle.wire` writes it; GET .../stats: the front's counts.

    401 without the key as a bearer token, 400 what is no question, 413 what is too large, 429 when the queue is full,
    503 when there is no answer; each with the reason in `error`.
    """
    if not _has_key(request, key):
        return _refusal(401, "send the oracle's key as 'Authorization: Bearer KEY'", {"WWW-Authenticate": "Bearer"})
    route = (request.method, request.url.path.rstrip("/").rsplit("/", 1)[-1])
    if route == ("GET", "stats"):
        return JSONResponse(await oracle.stats())
    if route != ("POST", "answer"):
        return _refusal(404, "there are two routes here: POST .../answer and GET .../stats")
    try:
        question = await asyncio.to_thread(_parse, await _body(request))
        return JSONResponse(answer_to_json(await oracle.answer(question)))
    except _TooLarge as error:
        return _refusal(413, str(error))
    except ValueError as error:
        return _refusal(400, str(error))
    except Busy as error:
        return _refusal(429, str(error), {"Retry-After": _RETRY_AFTER_S})
    except OracleError as error:
        return _refusal(503, str(error))


def _has_key(request: HttpRequest, key: str) -> bool:
    given = request.headers.get("authorization", "")
    return hmac.compare_digest(given.encode(), f"Bearer {key}".encode())


async def _body(request: HttpRequest) -> bytes:
    too_large = _TooLarge(f"a question is {MOST_BYTES:,} bytes at most: ask about fewer images at once")
    announced = request.headers.get("content-length", "0")
    if not announced.isdigit() or int(announced) > MOST_BYTES:
        raise too_large
    parts, num_bytes = [], 0
    async for part in request.stream():
        num_bytes += len(part)
        if num_bytes > MOST_BYTES:
            raise too_large
        parts.append(part)
    return b"".join(parts)


def _parse(body: bytes) -> Question:
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        raise ValueError("the body is not JSON") from None
    return question_from_json(data)


def _refusal(status: int, reason: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"error": reason}, status, headers)
