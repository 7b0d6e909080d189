"""What the built-in model is taught to answer: one method a prompt, from the values of images to tokens and targets."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import torch
from transformers import Idefics3Processor

from graphdrl.oracle.prompts import as_words, load_prompt
from graphdrl.oracle.questions import HIGHEST_GRADE, NUM_GRADES
from graphdrl.oracle.tiny.data import ATTRIBUTES
from graphdrl.oracle.tiny.packing import chat_tokens

WORDS = tuple(as_words(name) for name in ATTRIBUTES)
NOTHING = "nothing"
SHOWN = 0.5
"""From this value on an attribute belongs into a description."""

LEAST_LEAD = 0.1
"""By so much an attribute must differ more than every other to be the one that differs most."""

_MOST_KEPT = 1024  # tokenised texts


@dataclass(frozen=True)
class Target:
    """What the token after `place` should be: shares [B, C] of the tokens [B, C]; rows of zeros are not taught."""

    task: str
    place: int
    tokens: torch.Tensor
    shares: torch.Tensor


@dataclass(frozen=True)
class Branch:
    """A question with what its answer teaches.

    tokens: the question's, up to the last token of the answer that another one follows.
    written: place among them -> int64 [B], where each row has a token of its own.
    """

    tokens: list[int]
    targets: list[Target]
    written: dict[int, torch.Tensor] = field(default_factory=dict)


def two_hot(values: torch.Tensor) -> torch.Tensor:
    """Distributions over the six grades [..., 6] whose mean is 5 v, for values v in [0, 1]; NaN gives zeros."""
    place = values.nan_to_num(0.0).unsqueeze(-1) * HIGHEST_GRADE
    shares = (1 - (place - torch.arange(NUM_GRADES)).abs()).clamp(min=0)
    return shares * ~values.isnan().unsqueeze(-1)


def first_shows_more(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Shares [..., 2] of the answers "1" and "2": halves where both show the same, zeros where either is NaN."""
    difference = first - second
    share = (difference.sign() + 1) / 2
    return torch.stack([share, 1 - share], -1) * ~difference.isnan().unsqueeze(-1)


def differs_most(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """The column of values [B, K] in which two images differ most; -1 where none leads by `LEAST_LEAD`."""
    most = (first - second).abs().nan_to_num(0.0).topk(2, dim=1)
    leads = most.values[:, 0] - most.values[:, 1] >= LEAST_LEAD
    return torch.where(leads, most.indices[:, 0], -1)


def description(values: Sequence[float]) -> str:
    """The attributes of one image's values [K] that it shows, by commas; NaN counts as not shown."""
    return ", ".join(word for word, value in zip(WORDS, values, strict=True) if value >= SHOWN) or NOTHING


def question(prompt: str, columns: Sequence[int] = ()) -> str:
    """A prompt about the attributes of these columns."""
    words = [WORDS[k] for k in columns]
    return load_prompt(prompt).fill(attribute=words[0] if words else "", attributes=", ".join(words))


def corpus() -> Iterator[str]:
    """Every piece of text that is asked or answered, for the tokenizer."""
    everything = range(len(WORDS))
    for k in everything:
        yield from (question(prompt, [k]) for prompt in ("score", "score_again", "rank"))
        others = [other for other in everything if other != k]
        yield question("score_all", [*others, k])
        yield json.dumps({WORDS[k]: 0, **{WORDS[other]: 0 for other in others}}, separators=(",", ":"))
        yield f"{WORDS[k]}, {NOTHING}"
        yield WORDS[k]
        yield ", ".join(WORDS[other] for other in [*others, k])
    yield from (question("name"), question("describe"), NOTHING)


class Tasks:
    """Branches for batches of images, worded by one processor."""

    def __init__(self, processor: Idefics3Processor) -> None:
        self._processor, self._tokenizer = processor, processor.tokenizer
        self.digits = torch.tensor(self._tokenizer.convert_tokens_to_ids([str(grade) for grade in range(NUM_GRADES)]))
        self.image_length = processor.image_seq_len + 3  # its edges, and the mark of a whole image
        self.end = int(self._tokenizer.eos_token_id)
        self._blank = int(self._tokenizer.pad_token_id)
        self.tokens = lru_cache(_MOST_KEPT)(self._tokens)
        self.asked = lru_cache(_MOST_KEPT)(self._asked)

    def score(self, values: torch.Tensor, columns: Sequence[int], prompt: str = "score") -> list[Branch]:
        """One digit an attribute, of values [B, K]."""
        digits, shares = self.digits.expand(len(values), -1), two_hot(values)
        branches = []
        for k in columns:
            asked = self.asked(prompt, (k,))
            branches.append(Branch(asked, [Target(prompt, len(asked) - 1, digits, shares[:, k])]))
        return branches

    def rank(self, first: torch.Tensor, second: torch.Tensor, columns: Sequence[int]) -> list[Branch]:
        """Which of two images with values [B, K] shows more of each attribute."""
        digits, shares = self.digits[1:3].expand(len(first), -1), first_shows_more(first, second)
        branches = []
        for k in columns:
            asked = self.asked("rank", (k,), 2)
            branches.append(Branch(asked, [Target("rank", len(asked) - 1, digits, shares[:, k])]))
        return branches

    def ending(self, prompt: str, column: int, digit: int, num_rows: int, num_images: int = 1) -> Branch:
        """After an answer of one digit nothing follows."""
        tokens = [*self.asked(prompt, (column,), num_images), int(self.digits[digit])]
        end = torch.full((num_rows,), self.end)
        return Branch(tokens, [self._certain(f"{prompt}_end", len(tokens) - 1, end)])

    def score_all(self, values: torch.Tensor, orders: torch.Tensor, context: torch.Tensor) -> Branch:
        """Digits of values [B, K] as compact JSON.

        orders: int64 [B, n], for each row the same n columns in the order in which they are asked and answered.
        context: int64 [B, K], the grades that stand before the next.
        """
        asked = torch.tensor([self._listed(order) for order in orders.tolist()])
        length, num = asked.shape[1], orders.shape[1]
        first, next_ = (torch.tensor([self._single(f'{mark}"{word}":') for word in WORDS]) for mark in "{,")
        shares, digits = two_hot(values), self.digits.expand(len(values), -1)
        tokens, targets = asked[0].tolist(), []
        written = {place: asked[:, place] for place in range(length) if (asked[:, place] != asked[0, place]).any()}
        for place in range(num):
            column = orders[:, place]
            key, grade = (next_ if place else first)[column], self.digits[context.gather(1, column[:, None])[:, 0]]
            targets.append(self._certain("keys", len(tokens) - 1, key))
            written |= {len(tokens): key, len(tokens) + 1: grade}
            tokens += [self._blank, self._blank]
            share = shares.gather(1, column[:, None, None].expand(-1, -1, NUM_GRADES))[:, 0]
            targets.append(Target("score_all", len(tokens) - 2, digits, share))
        for last in (self._single("}"), self.end):
            targets.append(self._certain("keys", len(tokens) - 1, torch.full((len(values),), last)))
            tokens.append(last)
        return Branch(tokens[:-1], targets, written)

    def describe(self, values: torch.Tensor) -> Branch:
        """The attributes that images with values [B, K] show."""
        return self._written("describe", 1, [self.tokens(description(row)) for row in values.tolist()])

    def name(self, first: torch.Tensor, second: torch.Tensor) -> Branch:
        """The attribute in which two images with values [B, K] differ most, where one leads."""
        chosen = differs_most(first, second).tolist()
        return self._written("name", 2, [self.tokens(WORDS[k]) if k >= 0 else () for k in chosen])

    def texts(self, rows: torch.Tensor) -> list[str]:
        """Rows of tokens [B, T] as text, without the marks of their end."""
        return self._tokenizer.batch_decode(rows, skip_special_tokens=True)

    def _written(self, task: str, num_images: int, answers: Sequence[Sequence[int]]) -> Branch:
        """A row's own words and the end after them; a row without any is not taught."""
        length = max(len(answer) for answer in answers) + 1
        rows = [[*answer, self.end] if answer else [] for answer in answers]
        following = torch.tensor([[*row, *[self._blank] * (length - len(row))] for row in rows])
        asked = self.asked(task, (), num_images)
        targets = [self._certain(task, len(asked) - 1 + step, following[:, step]) for step in range(length)]
        written = {len(asked) + step: following[:, step] for step in range(length - 1)}
        return Branch([*asked, *[self._blank] * (length - 1)], targets, written)

    def _certain(self, task: str, place: int, tokens: torch.Tensor) -> Target:
        """One token [B] for sure; a blank is not taught."""
        return Target(task, place, tokens[:, None], (tokens != self._blank).float()[:, None])

    def _asked(self, prompt: str, columns: tuple[int, ...] = (), num_images: int = 1) -> list[int]:
        return chat_tokens(self._processor, question(prompt, columns), num_images)

    def _listed(self, columns: Sequence[int]) -> list[int]:
        """The JSON question's tokens about these columns, put together from its words': there are too many to keep."""
        head = self.asked("score_all", (columns[0],))[: -1 - len(self.tokens(f" {WORDS[columns[0]]}"))]
        words = [token for k in columns[:-1] for token in self.tokens(f" {WORDS[k]},")]
        return [*head, *words, *self.tokens(f" {WORDS[columns[-1]]}"), self.end]

    def _tokens(self, text: str) -> tuple[int, ...]:
        return tuple(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def _single(self, piece: str) -> int:
        (token,) = self.tokens(piece)
        return token
