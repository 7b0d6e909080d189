"""How well the built-in model answers each of its prompts about held-out pictures."""

import json
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from transformers import Idefics3ForConditionalGeneration

from graphdrl.oracle.questions import HIGHEST_GRADE, NUM_GRADES
from graphdrl.oracle.tiny.data import ATTRIBUTES, Pictures, to_pixels
from graphdrl.oracle.tiny.evaluate import agreement
from graphdrl.oracle.tiny.packing import ask_packed, pack
from graphdrl.oracle.tiny.tasks import SHOWN, WORDS, Tasks

Pairs: TypeAlias = tuple[Pictures, Pictures]
Model: TypeAlias = Idefics3ForConditionalGeneration

_ROWS = 100  # images, or pairs of them, in one forward pass
_GRADES = torch.arange(NUM_GRADES, dtype=torch.float32)
_LONGEST_ANSWER = 40


def measure(model: Model, tasks: Tasks, held_out: dict[str, Pictures], changes: dict[str, Pairs]) -> dict[str, dict]:
    """Agreement of the scores on each kind of picture, and under "tasks" a figure or two for each other prompt.

    Faces are graded, avatars come in ordered categories. The other prompts are asked about the faces; name about all
    kinds of `changes`, pairs that differ in one attribute.
    """
    model.eval()
    with torch.inference_mode():
        figures = {
            kind: agreement(
                expected_scores(model, tasks, pictures.images), pictures.values, kind == "faces", ATTRIBUTES
            )
            for kind, pictures in held_out.items()
        }
        figures["tasks"] = _other_tasks(model, tasks, held_out["faces"], changes)
    model.train()
    return figures


def expected_scores(model: Model, tasks: Tasks, images: np.ndarray, prompt: str = "score") -> np.ndarray:
    """Expected grades float32 [N, K] of images uint8 [N, 64, 64, 3]."""
    packed = pack([tasks.asked(prompt, (k,)) for k in range(len(ATTRIBUTES))])
    parts = []
    for start in range(0, len(images), _ROWS):
        pixels = to_pixels(images[start : start + _ROWS])[:, None]
        logits = ask_packed(model, packed, len(pixels), pixel_values=pixels).logits
        parts.append(logits[..., tasks.digits].softmax(-1) @ _GRADES)
    return torch.cat(parts).numpy()


def _other_tasks(model: Model, tasks: Tasks, faces: Pictures, changes: dict[str, Pairs]) -> dict[str, Any]:
    again = agreement(expected_scores(model, tasks, faces.images, "score_again"), faces.values, True, ATTRIBUTES)
    together = agreement(scores_together(model, tasks, faces), faces.values, True, ATTRIBUTES)
    figures: dict[str, Any] = {
        "score_again_spearman_mean": again["spearman_mean"],
        "score_again_spearman_min": again["spearman_min"],
        "score_all_spearman_mean": together["spearman_mean"],
        "score_all_spearman_min": together["spearman_min"],
        "score_all_well_formed": well_formed(model, tasks, faces.images[:_ROWS]),
        "rank_accuracy": rank_accuracy(model, tasks, faces),
    }
    figures["name_accuracy"] = {kind: name_accuracy(model, tasks, *pairs) for kind, pairs in changes.items()}
    texts = [write(model, tasks, tasks.asked("describe"), part) for part in _portions(faces.images[:, None])]
    figures["describe_f1"] = described_f1([text for part in texts for text in part], faces.values)
    return figures


def scores_together(model: Model, tasks: Tasks, pictures: Pictures) -> np.ndarray:
    """Expected grades float32 [N, K] in the JSON answer about what the pictures can show, the true ones before each.

    NaN elsewhere.
    """
    columns = np.flatnonzero(~np.isnan(pictures.values).all(axis=0)).tolist()
    expected = np.full(pictures.values.shape, np.nan, np.float32)
    for start in range(0, len(pictures), _ROWS):
        values = torch.from_numpy(pictures.values[start : start + _ROWS])
        orders = torch.tensor(columns).expand(len(values), -1)
        branch = tasks.score_all(values, orders, (values.nan_to_num(0.0) * HIGHEST_GRADE).round().long())
        packed = pack([branch.tokens])
        ids = packed.ids.repeat(len(values), 1)
        for place, tokens in branch.written.items():
            ids[:, place] = tokens
        at = torch.tensor([target.place for target in branch.targets if target.task == "score_all"])
        pixels = to_pixels(pictures.images[start : start + _ROWS])[:, None]
        logits = ask_packed(model, packed, len(values), ids, at, pixel_values=pixels).logits
        expected[start : start + _ROWS, columns] = logits[..., tasks.digits].softmax(-1) @ _GRADES
    return expected


def well_formed(model: Model, tasks: Tasks, images: np.ndarray) -> float:
    """Share of freely written JSON answers that hold the attributes asked for, in their order, with grades."""
    columns = np.random.default_rng(0).permutation(len(WORDS))[: len(WORDS) // 2].tolist()
    answers = write(model, tasks, tasks.asked("score_all", tuple(columns)), images[:, None])
    return float(np.mean([_holds(answer, [WORDS[k] for k in columns]) for answer in answers]))


def rank_accuracy(model: Model, tasks: Tasks, pictures: Pictures) -> float:
    """Share of right answers over the pairs of one half's pictures with the other's, where their values differ."""
    half, packed = len(pictures) // 2, pack([tasks.asked("rank", (k,), 2) for k in range(len(ATTRIBUTES))])
    images = np.stack([pictures.images[:half], pictures.images[half : 2 * half]], axis=1)
    answers = []
    for part in _portions(images):
        logits = ask_packed(model, packed, len(part), pixel_values=_pixels(part)).logits
        answers.append(logits[..., tasks.digits[1]] > logits[..., tasks.digits[2]])
    difference = pictures.values[:half] - pictures.values[half : 2 * half]
    untied = ~np.isnan(difference) & (difference != 0)
    return float((torch.cat(answers).numpy() == (difference > 0))[untied].mean())


def name_accuracy(model: Model, tasks: Tasks, before: Pictures, after: Pictures) -> float:
    """Share of pairs whose one changed attribute the model writes, and nothing else."""
    images = np.stack([before.images, after.images], axis=1)
    answers = [text for part in _portions(images) for text in write(model, tasks, tasks.asked("name", (), 2), part)]
    changed = np.abs(np.nan_to_num(before.values - after.values)).argmax(axis=1)
    return float(np.mean([answer == WORDS[k] for answer, k in zip(answers, changed, strict=True)]))


def described_f1(texts: Sequence[str], values: np.ndarray) -> float:
    """F1 of the attributes that the texts list, over all images, against values [N, K] of at least `SHOWN`."""
    listed = np.array([[word in text.split(", ") for word in WORDS] for text in texts])
    shown = values >= SHOWN
    return float(2 * (listed & shown).sum() / max(1, listed.sum() + shown.sum()))


def write(model: Model, tasks: Tasks, asked: Sequence[int], images: np.ndarray) -> list[str]:
    """What the model writes greedily about each row of images uint8 [N, images, 64, 64, 3]."""
    ids = torch.tensor([list(asked)] * len(images))
    options = {"max_new_tokens": _LONGEST_ANSWER, "do_sample": False}
    written = model.generate(ids, attention_mask=torch.ones_like(ids), pixel_values=_pixels(images), **options)
    return tasks.texts(written[:, ids.shape[1] :])


def _portions(images: np.ndarray) -> list[np.ndarray]:
    return [images[start : start + _ROWS] for start in range(0, len(images), _ROWS)]


def _pixels(images: np.ndarray) -> torch.Tensor:
    """uint8 [N, images, H, W, 3] as the model takes them: float32 [N, images, 3, H, W]."""
    return to_pixels(images.reshape(-1, *images.shape[2:])).unflatten(0, images.shape[:2])


def _holds(answer: str, words: list[str]) -> bool:
    try:
        grades = json.loads(answer)
    except ValueError:
        return False
    return isinstance(grades, dict) and list(grades) == words and set(grades.values()) <= set(range(NUM_GRADES))
