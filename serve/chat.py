"""The OpenAI chat door: vLLM's own server code on the oracle's engine, behind checks of what strangers send."""

import asyncio
import base64
import binascii
import contextlib
import json
import logging
import math
from collections.abc import AsyncGenerator, Iterator, Mapping
from typing import Any, NoReturn

from PIL import Image

from graphdrl.images.checks import decode_image
from graphdrl.oracle.pixels import LIMITS
from graphdrl.oracle.protocol import Busy, OracleError
from serve.vllm_engine import VllmEngine

logger = logging.getLogger(__name__)

MOST_MESSAGES, MOST_IMAGES, MOST_CHOICES, MOST_TOKENS = 256, 16, 8, 1024
"""Of one request."""

MOST_OPEN = 32
"""Requests at once: they share the engine with the questions, which are what it is there for."""

_MOST_FORMAT_CHARACTERS, _MOST_REPEATS, _MOST_BIASES, _MOST_STOPS = 8192, 1024, 300, 16

_FIELDS = {
    *("messages", "model", "max_tokens", "max_completion_tokens", "n", "temperature", "top_p", "seed", "stop"),
    *("stream", "stream_options", "logprobs", "top_logprobs", "presence_penalty", "frequency_penalty", "logit_bias"),
    *("response_format", "user"),
}
"""What a request may have; vLLM takes more, with which it trusts whoever asks: templates, processor settings, tools."""

_ROLES = ("system", "user", "assistant")
_REPEATS = ("minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties")


class Chat:
    """Answers the bodies of `/v1/chat/completions` by the model that an engine serves.

    Images come inside the request and are decoded here, within limits; nothing is fetched.
    """

    def __init__(self, engine: VllmEngine, model_name: str) -> None:
        """model_name: by which clients ask for the model."""
        self._name = model_name
        self._serving = _serving(engine, model_name)
        self._num_open = 0

    async def complete(self, body: Any) -> dict[str, Any]:
        """The whole answer, in OpenAI's form.

        Raises ValueError for what is no request, Busy when too many are open, OracleError when there is no answer.
        """
        with self._open():
            response = await self._create(await asyncio.to_thread(check_request, body) | {"stream": False})
            return response.model_dump(mode="json")

    async def stream(self, body: Any) -> AsyncGenerator[str, None]:
        """The answer as server-sent events while it is written; raises as `complete` does, before the first event."""
        with self._open():
            events: AsyncGenerator[str, None] = await self._create(
                await asyncio.to_thread(check_request, body) | {"stream": True}
            )
            async with contextlib.aclosing(events):
                first = await anext(events)
                _raise_if_error(first)
                yield first
                async for event in events:
                    yield event

    def models(self) -> dict[str, Any]:
        """What `/v1/models` answers."""
        from vllm.entrypoints.serve.engine.protocol import ModelCard, ModelList

        longest = self._serving.model_config.max_model_len
        card = ModelCard(id=self._name, root=self._name, owned_by="graphdrl", max_model_len=longest)
        return ModelList(data=[card]).model_dump(mode="json")

    @contextlib.contextmanager
    def _open(self) -> Iterator[None]:
        if self._num_open >= MOST_OPEN:
            raise Busy(f"{MOST_OPEN} chat requests are open: ask again later")
        self._num_open += 1
        try:
            yield
        finally:
            self._num_open -= 1

    async def _create(self, fields: dict[str, Any]) -> Any:
        """vLLM's response, or its generator of events."""
        from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
        from vllm.entrypoints.serve.engine.protocol import ErrorResponse

        messages = fields.pop("messages")
        try:
            request = ChatCompletionRequest(messages=[], **fields)
            request.messages = messages  # they are checked already, and their images decoded
            response = await self._serving.create_chat_completion(request)
        except OracleError:
            raise
        except Exception as error:  # vLLM's server, too, sorts whatever comes up into client's errors and its own
            _raise_as_vllm(error)
        if (task := asyncio.current_task()) is not None and task.cancelling():
            raise asyncio.CancelledError  # which vLLM turns into an answer that nobody waits for
        if isinstance(response, ErrorResponse):
            _raise(response.error.code, response.error.message)
        return response


class _Client:
    """What vLLM's server code needs of an engine, from ours."""

    errored = False  # an engine that broke down says so when it is asked

    def __init__(self, engine: VllmEngine) -> None:
        self._engine = engine
        self.vllm_config = engine.vllm.vllm_config
        self.model_config = engine.vllm.model_config
        self.input_processor = engine.vllm.input_processor
        self.renderer = _Renderer(engine)

    def check_admission(self, n: int = 1, request_id: str | None = None) -> None:
        """All are admitted: `Chat` counts them."""

    def generate(self, prompt: Any, sampling: Any, request_id: str, **_: Any) -> AsyncGenerator[Any, None]:
        return self._engine.stream(prompt, sampling)


class _Renderer:
    """vLLM's renderer, which our engine's questions use too: in the one thread that they use it in."""

    def __init__(self, engine: VllmEngine) -> None:
        self._engine, self._renderer = engine, engine.vllm.renderer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._renderer, name)

    async def render_chat_async(self, *arguments: Any, **options: Any) -> Any:
        return await self._engine.word(lambda: self._renderer.render_chat(*arguments, **options))


def _serving(engine: VllmEngine, model_name: str) -> Any:
    """vLLM's chat server, which trusts nobody with a template and gives no answer longer than the limit."""
    from vllm.entrypoints.openai.chat_completion.serving import OpenAIServingChat
    from vllm.entrypoints.openai.models.protocol import BaseModelPath
    from vllm.entrypoints.openai.models.serving import OpenAIServingModels
    from vllm.renderers.online_renderer import OnlineRenderer

    client: Any = _Client(engine)
    common: dict[str, Any] = {
        "request_logger": None,
        "chat_template": None,
        "chat_template_content_format": "auto",
        "trust_request_chat_template": False,
    }
    serving = OpenAIServingChat(
        client,
        OpenAIServingModels(client, [BaseModelPath(model_name, model_name)]),
        "assistant",
        online_renderer=OnlineRenderer(client.model_config, client.renderer, **common),
        **common,
    )
    serving.override_max_tokens = min(serving.override_max_tokens or MOST_TOKENS, MOST_TOKENS)
    return serving


def check_request(body: Any) -> dict[str, Any]:
    """A stranger's request as the fields of vLLM's, with its images decoded; raises ValueError, in one sentence."""
    if not isinstance(body, Mapping):
        raise ValueError("a chat request is a JSON object with messages")
    fields = {name: value for name, value in body.items() if value is not None}
    unknown = sorted(str(name) for name in fields if name not in _FIELDS)
    if unknown:
        raise ValueError(f"a chat request has no field {unknown[0][:64]!r} here: {', '.join(sorted(_FIELDS))}")
    fields.pop("user", None)  # meant for logs of the asking side
    for name, most in (("n", MOST_CHOICES), ("max_tokens", MOST_TOKENS), ("max_completion_tokens", MOST_TOKENS)):
        value = fields.get(name, 1)
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
            raise ValueError(f"{name} is a whole number from 1 to {most}")
    biases, stops = fields.get("logit_bias", {}), fields.get("stop", [])
    if not isinstance(biases, Mapping) or len(biases) > _MOST_BIASES:
        raise ValueError(f"logit_bias maps at most {_MOST_BIASES} tokens to numbers")
    if not isinstance(stops, str | list) or (isinstance(stops, list) and len(stops) > _MOST_STOPS):
        raise ValueError(f"stop is a text, or a list of at most {_MOST_STOPS}")
    for value in (*fields.values(), *biases.values()):
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError("numbers are finite")
    _check_format(fields.get("response_format"))
    return fields | {"messages": _messages(fields.get("messages"))}


def _messages(messages: Any) -> list[dict[str, Any]]:
    if not isinstance(messages, list) or not 1 <= len(messages) <= MOST_MESSAGES:
        raise ValueError(f"messages is a list of 1 to {MOST_MESSAGES} messages")
    checked = []
    num_images = 0
    for message in messages:
        if not isinstance(message, Mapping) or message.get("role") not in _ROLES or set(message) - {"role", "content"}:
            raise ValueError(f"a message has a role ({', '.join(_ROLES)}) and a content")
        content = message.get("content")
        if isinstance(content, list):
            num_images += sum(isinstance(part, Mapping) and part.get("type") == "image_url" for part in content)
            if num_images > MOST_IMAGES:
                raise ValueError(f"a chat request has at most {MOST_IMAGES} images")
            content = [_part(part) for part in content]
        elif not isinstance(content, str):
            raise ValueError("a message's content is a text, or a list of parts of type text or image_url")
        checked.append({"role": message["role"], "content": content})
    return checked


def _part(part: Any) -> dict[str, Any]:
    kind = part.get("type") if isinstance(part, Mapping) else None
    if kind == "text" and isinstance(part.get("text"), str):
        return {"type": "text", "text": part["text"]}
    if kind == "image_url":
        image = part.get("image_url")
        return {"type": "image_pil", "image_pil": _image(image.get("url") if isinstance(image, Mapping) else image)}
    raise ValueError("a part of a message's content is of type text or image_url, and has it")


def _image(url: Any) -> Image.Image:
    head, comma, text = url.partition(",") if isinstance(url, str) else ("", "", "")
    if not comma or not head.startswith("data:image/") or not head.endswith(";base64"):
        raise ValueError("an image is inside the request, as data:image/...;base64,...: nothing is fetched from a URL")
    if len(text) > LIMITS.file_bytes * 4 // 3 + 4:
        raise ValueError(f"an image is larger than the limit of {LIMITS.file_bytes:,} bytes")
    try:
        content = base64.b64decode(text, validate=True)
    except binascii.Error:
        raise ValueError("an image is not base64") from None
    try:
        return Image.fromarray(decode_image(content, None, LIMITS))
    except ValueError as error:
        raise ValueError(f"an image {error}") from None


def _check_format(wanted: Any) -> None:
    """A schema is made into a grammar in the engine's thread: one that takes long would stop everyone else."""
    if wanted is None:
        return
    if not isinstance(wanted, Mapping) or wanted.get("type") not in ("text", "json_object", "json_schema"):
        raise ValueError("response_format is of type text, json_object or json_schema")
    try:
        num_characters = len(json.dumps(wanted))
    except RecursionError:
        num_characters = _MOST_FORMAT_CHARACTERS + 1
    if num_characters > _MOST_FORMAT_CHARACTERS:
        raise ValueError(f"response_format is longer than the limit of {_MOST_FORMAT_CHARACTERS:,} characters")
    rest: list[Any] = [wanted]
    while rest:
        node = rest.pop()
        if isinstance(node, Mapping):
            _check_schema(node)
        if isinstance(node, Mapping | list):
            rest.extend(node.values() if isinstance(node, Mapping) else node)


def _check_schema(node: Mapping[str, Any]) -> None:
    if isinstance(node.get("pattern"), str) or "patternProperties" in node:
        raise ValueError("a schema here has no regular expressions: name the values in an enum, the properties by name")
    for word in _REPEATS:
        if isinstance(value := node.get(word), int | float) and value > _MOST_REPEATS:
            raise ValueError(f"{word} is at most {_MOST_REPEATS:,} in a schema here")


def _raise_if_error(event: str) -> None:
    """vLLM's first event is an error when the request came to nothing."""
    data = event.removeprefix("data: ").strip()
    error = json.loads(data).get("error") if data.startswith("{") else None
    if error is not None:
        _raise(error["code"], error["message"])


def _raise_as_vllm(error: Exception) -> NoReturn:
    from pydantic import ValidationError
    from vllm.entrypoints.serve import create_error_response

    if isinstance(error, ValidationError):
        first = error.errors()[0]
        raise ValueError(f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}") from None
    sorted_out = create_error_response(error).error
    try:
        _raise(sorted_out.code, sorted_out.message)
    except OracleError:
        logger.exception("vLLM's chat server failed")
        raise


def _raise(code: int, message: str) -> NoReturn:
    """vLLM's error as ours, in one line."""
    sentence = " ".join(message.split())
    raise ValueError(sentence) if code < 500 else OracleError(f"the model gave no answer: {sentence}")
