"""What an item is (a grade, or any other single answer): how it is asked for, read, kept and found again."""

import hashlib
from collections.abc import Hashable, Sequence
from typing import Any, Protocol

import numpy as np

from graphdrl.images.ids import image_id
from graphdrl.oracle.answers import AnswerStore, Kept
from graphdrl.oracle.prompts import Prompt
from graphdrl.oracle.scores import ScoreStore
from serve.engine import Request, Written
from serve.scoring import WRITE, Scoring

Key = tuple[str, str, str]
"""Of an item: (image id, attribute, prompt version) of a grade, ("", hash of the question, "") of any other answer."""


class Sheet(Protocol):
    """One kind of item. Jobs of one lane can share a call to the engine."""

    @property
    def lane(self) -> Hashable: ...

    def requests(self, keys: Sequence[Key], content: Any, deadline_s: float | None) -> list[Request]:
        """What the engine is asked for a job's items; content: what the job was made with."""
        ...

    def read(self, replies: Sequence[Any], num_items: int) -> list[Any]:
        """A job's items from the replies to its requests; None where one is malformed."""
        ...

    def keep(self, keys: Sequence[Key], items: Sequence[Any]) -> None:
        """Take items that are whole; they are on disk after the store's next flush."""
        ...


class GradeSheet:
    """Grades: rows float32 [6], the probabilities; a job is one image's, its content the image uint8 [H, W, 3]."""

    def __init__(self, scoring: Scoring, store: ScoreStore, model: str) -> None:
        self._scoring, self._store, self._model = scoring, store, model
        self.prompt = scoring.prompt
        self.lane = scoring.lane

    def lookup(self, image_ids: Sequence[str], attributes: Sequence[str]) -> np.ndarray:
        """Probabilities float32 [B, K, 6], NaN where a grade was never asked."""
        return self._store.lookup(image_ids, attributes, self._model, self.prompt.version)

    def requests(self, keys: Sequence[Key], content: np.ndarray, deadline_s: float | None) -> list[Request]:
        return self._scoring.requests(content, [attribute for _, attribute, _ in keys], deadline_s)

    def read(self, replies: Sequence[Any], num_items: int) -> list[np.ndarray | None]:
        rows = self._scoring.read(replies, num_items)
        whole = ~np.isnan(rows).any(axis=1)
        return [row if is_whole else None for row, is_whole in zip(rows, whole, strict=True)]

    def keep(self, keys: Sequence[Key], items: Sequence[np.ndarray]) -> None:
        images, attributes, _ = zip(*keys, strict=True)
        self._store.append(images, attributes, np.stack(items), self._model, self.prompt.version)


class AnswerSheet:
    """Any other answer, in weights or in words (`Kept`); a job is one question, its content the request."""

    def __init__(self, prompt: Prompt, store: AnswerStore, model: str, num_tokens: int) -> None:
        """num_tokens: allowed ones, between which the model weighs; 0: it writes."""
        self._prompt, self._store, self._model = prompt, store, model
        self.lane: Hashable = num_tokens or WRITE

    def lookup(self, keys: Sequence[Key]) -> list[Kept | None]:
        return self._store.lookup([name for _, name, _ in keys], self._model, self._prompt.version)

    def requests(self, keys: Sequence[Key], content: Request, deadline_s: float | None) -> list[Request]:
        return [content.due(deadline_s)]

    def read(self, replies: Sequence[Any], num_items: int) -> list[Kept | None]:
        return [self._read(reply) for reply in replies]

    def keep(self, keys: Sequence[Key], items: Sequence[Kept]) -> None:
        names = [name for _, name, _ in keys]
        self._store.append(names, items, self._prompt.name, self._model, self._prompt.version)

    @staticmethod
    def _read(reply: Written | np.ndarray) -> Kept | None:
        if isinstance(reply, Written):
            return Kept(reply.text, ()) if reply.text else None
        return None if np.isnan(reply).any() else Kept("", tuple(map(float, reply)))


def key_of(request: Request) -> Key:
    """The same for the same words about the same images with the same choice of answers."""
    digest = hashlib.blake2b(digest_size=16)
    for part in (request.prompt, *request.allowed_tokens, request.pattern, str(request.most_tokens)):
        digest.update(f"{len(part)}:{part}".encode())
    for image in request.images:
        digest.update(image_id(image).encode())
    return "", digest.hexdigest(), ""
