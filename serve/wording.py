"""From a question in words to the tokens that a vLLM model reads: its chat template, its image marks, its digits."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from graphdrl.images.ids import image_id
from graphdrl.oracle.protocol import OracleError
from serve.engine import Request

_QUESTION, _ANSWER = "QUESTION-GOES-HERE", "0"
_MOST_KEPT = 4096


@dataclass(frozen=True)
class Worded:
    """A question as tokens, before its images are put in; `allowed` are the tokens that may answer it."""

    tokens: tuple[int, ...]
    allowed: tuple[int, ...]


class Wording:
    """Turns requests into vLLM's engine inputs.

    What an image adds to a prompt depends on its size alone, so a prompt is worded once for each size, and an image
    goes through the model's processor once for all the questions of a call.
    """

    def __init__(self, renderer: Any, model: str) -> None:
        self._renderer, self._model = renderer, model
        self._templates: dict[int, tuple[str, bool]] = {}
        self._worded: dict[tuple, Worded] = {}
        self._placed: dict[tuple, tuple[list[int], Any]] = {}

    def engine_inputs(self, requests: Sequence[Request]) -> list[tuple[dict[str, Any], tuple[int, ...]] | Exception]:
        """For each request vLLM's input and the ids of its allowed tokens, or what is wrong with it."""
        processed: dict[tuple, dict[str, Any]] = {}
        names: dict[int, str] = {}
        return [self._one(request, processed, names) for request in requests]

    def _one(self, request: Request, processed: dict, names: dict[int, str]):
        try:
            worded = self.word(request.prompt, len(request.images), request.allowed_tokens)
            images = tuple(_name(image, names) for image in request.images)
            return self._place(request, worded, images, processed), worded.allowed
        except OracleError:
            raise
        except Exception as error:  # processors refuse images with errors of every kind: the others' answers stand
            return error

    def _place(self, request: Request, worded: Worded, images: tuple[str, ...], processed: dict) -> dict[str, Any]:
        key = (worded, tuple(image.shape for image in request.images))
        if images and images in processed and key in self._placed:
            tokens, placeholders = self._placed[key]
            return {**processed[images], "prompt_token_ids": tokens, "mm_placeholders": placeholders}
        prompt: dict[str, Any] = {"prompt_token_ids": list(worded.tokens)}
        if images:
            prompt["multi_modal_data"] = {"image": list(request.images)}
            prompt["multi_modal_uuids"] = {"image": list(images)}
        rendered = self._renderer.process_for_engine(prompt, time.time())
        if rendered["type"] == "multimodal" and "encoder_prompt_token_ids" not in rendered:
            if len(self._placed) >= _MOST_KEPT:
                self._placed.clear()
            self._placed[key] = rendered["prompt_token_ids"], rendered["mm_placeholders"]
            processed[images] = rendered
        return rendered

    def word(self, prompt: str, num_images: int, allowed: tuple[str, ...]) -> Worded:
        """The prompt's tokens up to its answer, and the one token that each allowed answer adds to them.

        Raises OracleError when an answer is not one token for this model.
        """
        key = (prompt, num_images, allowed)
        if key not in self._worded:
            if len(self._worded) >= _MOST_KEPT:
                self._worded.clear()
            self._worded[key] = self._word(*key)
        return self._worded[key]

    def _word(self, prompt: str, num_images: int, allowed: tuple[str, ...]) -> Worded:
        template, is_chat = self._template(num_images)
        text = template.replace(_QUESTION, prompt)
        if not allowed:
            return Worded(self._tokenise(text, is_chat), ())
        answered = [self._tokenise(text + answer, is_chat) for answer in allowed]
        stem = answered[0][:-1]
        for answer, tokens in zip(allowed, answered, strict=True):
            if tokens[:-1] != stem:
                raise OracleError(
                    f"model {self._model!r} does not write the answer {answer!r} as one token, so its probability "
                    "cannot be read: use a model whose tokenizer keeps single digits apart"
                )
        return Worded(stem, tuple(tokens[-1] for tokens in answered))

    def _tokenise(self, text: str, is_chat: bool) -> tuple[int, ...]:
        parameters = self._renderer.default_cmpl_tok_params
        if is_chat:  # the template has already written them
            parameters = parameters.with_kwargs(add_special_tokens=False)
        return tuple(self._renderer.tokenize_prompt({"prompt": text}, parameters)["prompt_token_ids"])

    def _template(self, num_images: int) -> tuple[str, bool]:
        """The text around a question with so many images, up to its answer; and whether it is a chat template's."""
        if num_images not in self._templates:
            self._templates[num_images] = self._find_template(num_images)
        return self._templates[num_images]

    def _find_template(self, num_images: int) -> tuple[str, bool]:
        from vllm.renderers.chat_utils import ChatTemplateResolutionError

        blank = Image.new("RGB", (64, 64))
        pictures = [{"type": "image_pil", "image_pil": blank} for _ in range(num_images)]
        question = {"role": "user", "content": [*pictures, {"type": "text", "text": _QUESTION}]}
        try:
            asked = self._chat([question], add_generation_prompt=True)
        except ChatTemplateResolutionError:
            return self._plain_template(num_images), False
        return asked.rstrip() + self._gap(question, asked), True

    def _gap(self, question: dict[str, Any], asked: str) -> str:
        """The white space that the template writes before an assistant's words: the model expects it there."""
        stem = asked.rstrip()
        answered = self._chat([question, {"role": "assistant", "content": _ANSWER}], add_generation_prompt=False)
        rest = answered.removeprefix(stem)
        if len(rest) == len(answered) or not rest.lstrip().startswith(_ANSWER):
            return asked[len(stem) :]
        return rest[: len(rest) - len(rest.lstrip())]

    def _chat(self, messages: list[dict[str, Any]], add_generation_prompt: bool) -> str:
        from vllm.renderers import ChatParams

        options = {"tokenize": False, "add_generation_prompt": add_generation_prompt}
        _, prompt = self._renderer.render_messages(messages, ChatParams(chat_template_kwargs=options))
        return prompt["prompt"]

    def _plain_template(self, num_images: int) -> str:
        """vLLM's own mark of an image in this model's prompts (none: the model puts images first by itself)."""
        from vllm.model_executor.model_loader import get_model_cls

        model = get_model_cls(self._renderer.model_config)
        marks = [model.get_placeholder_str("image", number + 1) for number in range(num_images)]
        return "\n".join([*filter(None, marks), _QUESTION, ""])


def _name(image: np.ndarray, names: dict[int, str]) -> str:
    """The image's content hash, computed once for each array: vLLM trusts it to tell images apart."""
    if id(image) not in names:
        names[id(image)] = image_id(image)
    return names[id(image)]
