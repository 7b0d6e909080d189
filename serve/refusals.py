"""What goes wrong at the HTTP door, as status, type and sentence: one shape for all routes."""

import json
import logging
import math
from typing import Any, Literal

from pydantic import BaseModel, Field
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse

from graphdrl.oracle.pixels import TooLarge
from graphdrl.oracle.protocol import Busy, Late, OracleError
from serve.engine import EngineLost

logger = logging.getLogger(__name__)

Kind = Literal["not_a_question", "unauthorised", "no_route", "too_large", "busy", "failed", "unavailable", "late"]

KINDS: dict[int, tuple[Kind, str]] = {
    400: ("not_a_question", "What was sent is no question; the message says why."),
    401: ("unauthorised", "The key is missing or wrong."),
    404: ("no_route", "There is no such route."),
    405: ("no_route", "The route is there for another method."),
    413: ("too_large", "The question is larger than one may be: ask about less at once."),
    429: ("busy", "The queue is full: ask again after Retry-After seconds."),
    500: ("failed", "The oracle itself went wrong; its log says how."),
    503: ("unavailable", "There is no answer. Where Retry-After is given, asking again helps."),
    504: ("late", "The question's deadline passed before its answer was there."),
}
"""Status -> the type of its error, and what it means."""

_RETRY_AFTER_S = 1.0


class Problem(BaseModel):
    type: Kind
    message: str = Field(description="what is wrong, and the way out")


class Refusal(BaseModel):
    """The shape of every error."""

    error: Problem


class OpenAiProblem(Problem):
    param: None
    code: Kind


class OpenAiRefusal(BaseModel):
    """The shape of every error below /v1, which is OpenAI's."""

    error: OpenAiProblem


def refusal(request: HttpRequest, status: int, message: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """The response that says no."""
    return JSONResponse(document(status, message, is_below_v1(request)), status, headers)


def refusal_of(request: HttpRequest, error: Exception) -> JSONResponse:
    """The response to what a question ended in."""
    status, message = _read(error)
    headers = {}
    if status == 429 or isinstance(error, EngineLost):
        headers["Retry-After"] = str(math.ceil(_RETRY_AFTER_S))
    return refusal(request, status, message, headers)


def event_of(error: Exception) -> str:
    """The same as a server-sent event, for an answer that has begun already."""
    return f"data: {json.dumps(document(*_read(error), for_openai=True))}\n\n"


def document(status: int, message: str, for_openai: bool) -> dict[str, Any]:
    kind = KINDS[status][0]
    problem = {"type": kind, "message": message}
    return {"error": problem | ({"param": None, "code": kind} if for_openai else {})}


def is_below_v1(request: HttpRequest) -> bool:
    """Whether a client of OpenAI's interface asks."""
    path = request.scope["path"].removeprefix(request.scope.get("root_path", ""))
    return path == "/v1" or path.startswith("/v1/")


def _read(error: Exception) -> tuple[int, str]:
    match error:
        case TooLarge():
            return 413, str(error)
        case ValueError():
            return 400, str(error)
        case Busy():
            return 429, str(error)
        case Late():
            return 504, str(error)
        case OracleError():
            return 503, str(error)
    logger.error("a question through the HTTP door failed", exc_info=error)
    return 500, "the oracle failed on this question: its log says how"
