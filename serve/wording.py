"""From a question in words to the tokens that a vLLM model reads, and back from those that it wrote."""

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image

from graphdrl.images.ids import image_id
from graphdrl.oracle.protocol import OracleError
from serve.engine import Request, Written

_QUESTION, _ANSWER = "QUESTION-GOES-HERE", "0"
_MOST_KEPT = 4096


@dataclass(frozen=True)
class Worded:
    """A question as tokens, before its images are put in.

    allowed: the tokens that may answer it. lead: white space with which the model begins what it writes.
    """

    tokens: tuple[int, ...]
    allowed: tuple[int, ...]
    lead: str = ""


@dataclass(frozen=True, eq=False)
class Prepared:
    """A question as vLLM takes it: its engine input, its sampling parameters, the tokens to weigh."""

    prompt: dict[str, Any]
    sampling: Any
    allowed: tuple[int, ...]


@lru_cache(maxsize=256)
def _weighing(allowed: tuple[int, ...]) -> Any:
    """Sampling parameters of a question whose answer is the distribution over the allowed tokens."""
    from vllm.sampling_params import RequestOutputKind, SamplingParams

    return SamplingParams(
        max_tokens=1,
        allowed_token_ids=list(allowed),
        logprob_token_ids=list(allowed),
        temperature=0.0,
        detokenize=False,
        output_kind=RequestOutputKind.FINAL_ONLY,
        skip_clone=True,
    )


@lru_cache(maxsize=256)
def _writing(allowed: tuple[int, ...], pattern: str, most_tokens: int) -> Any:
    """Sampling parameters of an answer in text, the same at every asking."""
    from vllm.sampling_params import RequestOutputKind, SamplingParams, StructuredOutputsParams

    return SamplingParams(
        max_tokens=most_tokens,
        structured_outputs=StructuredOutputsParams(regex=pattern) if pattern else None,
        logprob_token_ids=list(allowed) or None,
        flat_logprobs=True,  # they are read at few of the places: numbers in lists cost less than an object for each
        temperature=0.0,
        detokenize=False,
        output_kind=RequestOutputKind.FINAL_ONLY,
        skip_clone=True,
    )


class Wording:
    """Turns requests into vLLM's engine inputs.

    What an image adds to a prompt depends on its size alone, so a prompt is worded once for each size, and an image
    goes through the model's processor once for all the questions of a call.
    """

    def __init__(self, renderer: Any, model: str) -> None:
        self._renderer, self._model = renderer, model
        self._templates: dict[int, tuple[str, str, bool]] = {}
        self._worded: dict[tuple, Worded] = {}
        self._placed: dict[tuple, tuple[list[int], Any]] = {}

    def prepare(self, requests: Sequence[Request], writes: bool) -> list[Prepared | Exception]:
        """Each request as vLLM takes it, to be answered in text or by a distribution; or what is wrong with it."""
        processed: dict[tuple, dict[str, Any]] = {}
        names: dict[int, str] = {}
        return [self._one(request, writes, processed, names) for request in requests]

    def _one(self, request: Request, writes: bool, processed: dict, names: dict[int, str]) -> Prepared | Exception:
        try:
            worded = self.word(request.prompt, len(request.images), request.allowed_tokens, request.stem, writes)
            images = tuple(_name(image, names) for image in request.images)
            prompt = self._place(request, worded, images, processed)
            if not writes:
                return Prepared(prompt, _weighing(worded.allowed), worded.allowed)
            pattern = f"{re.escape(worded.lead)}({request.pattern})" if request.pattern else ""
            return Prepared(prompt, _writing(worded.allowed, pattern, request.most_tokens), worded.allowed)
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

    def word(
        self, prompt: str, num_images: int, allowed: tuple[str, ...], stem: str = "", writes: bool = False
    ) -> Worded:
        """The prompt's tokens, and the one token that each allowed answer is behind the prompt and the stem.

        writes: the model writes its whole answer; otherwise the tokens end where the allowed ones begin.
        Raises OracleError when an answer is not one token for this model.
        """
        key = (prompt, num_images, allowed, stem, writes)
        if key not in self._worded:
            if len(self._worded) >= _MOST_KEPT:
                self._worded.clear()
            self._worded[key] = self._word(*key)
        return self._worded[key]

    def _word(self, prompt: str, num_images: int, allowed: tuple[str, ...], stem: str, writes: bool) -> Worded:
        template, lead, is_chat = self._template(num_images)
        text = template.replace(_QUESTION, prompt)
        answered = [self._tokenise(text + lead + stem + answer, is_chat) for answer in allowed]
        for answer, tokens in zip(allowed, answered, strict=True):
            if tokens[:-1] != answered[0][:-1]:
                raise OracleError(
                    f"model {self._model!r} does not write the answer {answer!r} as one token, so its probability "
                    "cannot be read: use a model whose tokenizer keeps single digits apart"
                )
        tokens = self._tokenise(text, is_chat) if writes or not answered else answered[0][:-1]
        return Worded(tokens, tuple(one[-1] for one in answered), lead)

    def _tokenise(self, text: str, is_chat: bool) -> tuple[int, ...]:
        parameters = self._renderer.default_cmpl_tok_params
        if is_chat:  # the template has already written them
            parameters = parameters.with_kwargs(add_special_tokens=False)
        return tuple(self._renderer.tokenize_prompt({"prompt": text}, parameters)["prompt_token_ids"])

    def _template(self, num_images: int) -> tuple[str, str, bool]:
        """The text around a question with so many images, up to where the model writes; the white space that it then
        writes first; and whether the text is a chat template's."""
        if num_images not in self._templates:
            self._templates[num_images] = self._find_template(num_images)
        return self._templates[num_images]

    def _find_template(self, num_images: int) -> tuple[str, str, bool]:
        from vllm.renderers.chat_utils import ChatTemplateResolutionError

        if num_images and self._renderer.mm_processor is None:
            raise OracleError(f"model {self._model!r} sees no images: name one that does in oracle.model")
        blank = Image.new("RGB", (64, 64))
        pictures = [{"type": "image_pil", "image_pil": blank} for _ in range(num_images)]
        question = {"role": "user", "content": [*pictures, {"type": "text", "text": _QUESTION}]}
        try:
            asked = self._chat([question], add_generation_prompt=True)
        except ChatTemplateResolutionError:
            return self._plain_template(num_images), "", False
        return *self._split_gap(question, asked), True

    def _split_gap(self, question: dict[str, Any], asked: str) -> tuple[str, str]:
        """The asked text, and the white space that the template then puts before an assistant's words: the model
        expects it there.

        What of that space the asked text has already is left there, unless the template would write another.
        """
        stem = asked.rstrip()
        answered = self._chat([question, {"role": "assistant", "content": _ANSWER}], add_generation_prompt=False)
        rest = answered.removeprefix(stem)
        if len(rest) == len(answered) or not rest.lstrip().startswith(_ANSWER):
            return asked, ""
        gap = rest[: len(rest) - len(rest.lstrip())]
        return (asked, gap[len(asked) - len(stem) :]) if gap.startswith(asked[len(stem) :]) else (stem, gap)

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


def read_distribution(completion: Any, allowed: tuple[int, ...]) -> np.ndarray:
    """Float [T], the answer's distribution over the allowed tokens; NaN when the engine failed at it."""
    if not completion.logprobs:
        return np.full(len(allowed), np.nan)
    return _softmax(_logs(completion.logprobs[0], allowed))


def read_written(
    request: Request, prepared: Prepared | Exception, completion: Any, decode: Callable[[list[int]], str]
) -> Written:
    """The text, and the distributions where it has an allowed token.

    An answer that does not match the whole pattern, such as one that was cut off, is empty.
    """
    num_allowed = len(request.allowed_tokens)
    nothing = Written("", np.zeros((0, num_allowed), np.float32))
    if completion is None or isinstance(prepared, Exception) or completion.finish_reason not in ("stop", "length"):
        return nothing
    tokens = list(completion.token_ids)
    text = decode(tokens[:-1] if completion.finish_reason == "stop" else tokens).strip()
    if request.pattern and not re.fullmatch(request.pattern, text):
        return nothing
    places = [place for place, token in enumerate(tokens) if token in prepared.allowed]
    weights = [_softmax(_logs(completion.logprobs[place], prepared.allowed)) for place in places]
    return Written(text, np.array(weights, np.float32).reshape(len(places), num_allowed))


def _logs(position: Any, allowed: tuple[int, ...]) -> np.ndarray:
    return np.array([position[token].logprob for token in allowed])


def _softmax(logs: np.ndarray) -> np.ndarray:
    weights = np.exp(logs - logs.max())
    return weights / weights.sum()
