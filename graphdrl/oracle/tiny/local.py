"""The oracle inside the training process: transformers in one background thread, without Ray and without vLLM."""

import queue
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from graphdrl.images.ids import image_ids
from graphdrl.oracle.doubt import load_calibration
from graphdrl.oracle.identity import model_folder, model_key
from graphdrl.oracle.prompts import SECOND_WORDING, Prompt, check_attribute, load_prompt
from graphdrl.oracle.protocol import Busy, OracleError
from graphdrl.oracle.questions import NUM_GRADES, A, Answer, Ask, Question
from graphdrl.oracle.scores import ScoreStore, grades_of
from graphdrl.oracle.tiny.packing import ask_packed, pack

_PACKABLE = ("idefics3", "smolvlm")
_CLOSING_S = 30.0


class TransformersOracle:
    """An `Oracle` over any image-text-to-text model that transformers loads; the built-in one by default.

    model: "builtin", a folder in Hugging Face format, or a hub name.
    store: where grades are kept before they are answered and looked up before they are asked; None keeps none.
    max_queue: questions that may wait; one more raises Busy.
    batch_size: images in one forward pass.
    """

    def __init__(
        self,
        model: str = "builtin",
        prompt: Prompt | None = None,
        *,
        store: ScoreStore | None = None,
        max_queue: int = 64,
        batch_size: int = 32,
        device: str = "cpu",
    ) -> None:
        """Raises OracleError, in one sentence, when the model cannot be loaded."""
        self._prompts = {"usual": prompt or load_prompt("score"), "second": load_prompt(SECOND_WORDING)}
        self._calibration = load_calibration(model, prompt_version=self._prompts["usual"].version)
        self._grader = Grader(model, device, batch_size)
        self.model = model_key(model)
        self._store = store
        self._queue: queue.Queue[tuple[Question, float, Future[Answer]] | None] = queue.Queue(max_queue)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._work, name="local oracle", daemon=True)
        self._thread.start()

    def submit(self, question: Ask[A]) -> "Future[A]":
        """Ask without waiting; raises Busy when the queue is full, ValueError for what cannot be an attribute.

        Questions of other kinds raise OracleError: they are the served oracle's.
        """
        if not isinstance(question, Question):
            kind = type(question).__name__
            raise OracleError(f"the local oracle answers no {kind}, only scores: take oracle.engine=vllm for it")
        for attribute in question.attributes:
            check_attribute(attribute)
        if self._closed.is_set():
            raise OracleError("this oracle was closed: open another one")
        future: Future[Any] = Future()
        try:
            self._queue.put_nowait((question, time.monotonic(), future))
        except queue.Full:
            raise Busy(f"{self._queue.maxsize} questions are waiting for the local oracle: ask again later") from None
        return future

    def close(self) -> None:
        """Cancel what waits, let the question at hand finish."""
        self._closed.set()
        while True:
            try:
                waiting = self._queue.get_nowait()
            except queue.Empty:
                break
            if waiting is not None:
                waiting[2].cancel()
        self._queue.put(None)
        self._thread.join(_CLOSING_S)

    def _work(self) -> None:
        while (waiting := self._queue.get()) is not None:
            question, asked_at, future = waiting
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(self._answer(question, asked_at))
            except Exception as error:  # the asker's to handle: the thread goes on with the next question
                future.set_exception(error)

    def _answer(self, question: Question, asked_at: float) -> Answer:
        if question.deadline_s is not None and time.monotonic() - asked_at > question.deadline_s:
            raise OracleError(f"the local oracle did not come to this question within its {question.deadline_s} s")
        ids, prompt = image_ids(question.images), self._prompts[question.wording]
        probabilities = self._known(ids, question.attributes, prompt)
        rows = np.flatnonzero(np.isnan(probabilities[..., 0]).any(axis=1))
        if len(rows):
            texts = [prompt.render(attribute) for attribute in question.attributes]
            probabilities[rows] = self._grader.probabilities(question.images[rows], texts)
            self._keep([ids[row] for row in rows], question.attributes, probabilities[rows], prompt)
        grades = grades_of(probabilities)
        num_asked = len(rows) * len(question.attributes)
        flagged = np.zeros(len(ids), bool)
        if self._calibration is not None and question.wording == "usual":
            flagged = self._calibration.flags(grades.expected, grades.entropy, question.attributes)
        return Answer(ids, question.attributes, *grades, flagged, self.model, prompt.version, num_asked)

    def _known(self, ids: Sequence[str], attributes: tuple[str, ...], prompt: Prompt) -> np.ndarray:
        """Probabilities float32 [B, K, 6] that the store has, NaN elsewhere."""
        if self._store is None:
            return np.full((len(ids), len(attributes), NUM_GRADES), np.nan, np.float32)
        return self._store.lookup(ids, attributes, self.model, prompt.version)

    def _keep(self, ids: Sequence[str], attributes: tuple[str, ...], probabilities: np.ndarray, prompt: Prompt) -> None:
        if self._store is None:
            return
        images, names = [i for i in ids for _ in attributes], list(attributes) * len(ids)
        self._store.append(images, names, probabilities.reshape(-1, NUM_GRADES), self.model, prompt.version)
        self._store.flush()


class Grader:
    """A model that grades images: probabilities of the six digits after a question about an image."""

    def __init__(self, model: str, device: str = "cpu", batch_size: int = 32) -> None:
        """Raises OracleError when the model cannot be loaded or has no single tokens for the digits."""
        from transformers import AutoModelForImageTextToText, AutoProcessor

        folder = model_folder(model)
        try:
            self._processor = AutoProcessor.from_pretrained(folder)
            self._model = AutoModelForImageTextToText.from_pretrained(folder).eval().to(device)
        except (OSError, ValueError, ImportError) as error:
            cause = str(error).strip().splitlines()[0]
            raise OracleError(f"transformers cannot load the oracle's model {model!r}: {cause}") from error
        self._device, self._batch_size = device, batch_size
        self._packable = self._model.config.model_type in _PACKABLE
        self._template = lru_cache(maxsize=256)(self._chat)
        self._digits = self._digit_tokens()

    @torch.inference_mode()
    def probabilities(self, images: np.ndarray, questions: Sequence[str]) -> np.ndarray:
        """float32 [B, K, 6] for images uint8 [B, H, W, 3] and K questions, each about one image."""
        ask = self._ask_packed if self._packable else self._ask_plainly
        starts = range(0, len(images), self._batch_size)
        logits = [ask(images[start : start + self._batch_size], questions) for start in starts]
        return torch.cat(logits).float().softmax(-1).cpu().numpy()

    def _ask_packed(self, images: np.ndarray, questions: Sequence[str]) -> torch.Tensor:
        """Digit logits [B, K, 6]; each image goes through the vision tower once for all its questions."""
        tokens = [self._inputs(images[:1], question)["input_ids"][0].tolist() for question in questions]
        vision = self._processor.image_processor([[image] for image in images], return_tensors="pt")
        tensors = {name: vision[name].to(self._device) for name in ("pixel_values", "pixel_attention_mask")}
        return ask_packed(self._model, pack(tokens, self._device), len(images), **tensors).logits[..., self._digits]

    def _ask_plainly(self, images: np.ndarray, questions: Sequence[str]) -> torch.Tensor:
        """Digit logits [B, K, 6]; one sequence an image and question, for any architecture."""
        columns = []
        for question in questions:
            inputs = self._inputs(images, question).to(self._device)
            columns.append(self._model(**inputs, logits_to_keep=1).logits[:, -1, self._digits])
        return torch.stack(columns, dim=1)

    def _inputs(self, images: np.ndarray, question: str) -> Any:
        """The processor's tensors for the same question about each of B images of one size."""
        return self._processor(
            text=[self._template(question)] * len(images),
            images=[[image] for image in images],
            return_tensors="pt",
        )

    def _chat(self, question: str) -> str:
        """The question about one image up to its answer, by the model's chat template or, if none, image first."""
        if getattr(self._processor, "chat_template", None) is None:
            return f"{getattr(self._processor, 'image_token', '<image>')}{question}\n"
        content = [{"type": "image"}, {"type": "text", "text": question}]
        return self._processor.apply_chat_template(
            [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
        )

    def _digit_tokens(self) -> list[int]:
        """The token that each of "0" to "5" adds to a question."""
        tokenizer, stem = self._processor.tokenizer, self._chat("?")
        tokens = [tokenizer(stem + str(grade), add_special_tokens=False)["input_ids"] for grade in range(NUM_GRADES)]
        if len({tuple(one[:-1]) for one in tokens}) > 1 or len({one[-1] for one in tokens}) < NUM_GRADES:
            raise OracleError(
                f"model {self._model.name_or_path!r} does not write the digits 0 to 5 as single tokens: "
                "use a model whose tokenizer keeps single digits apart"
            )
        return [one[-1] for one in tokens]
