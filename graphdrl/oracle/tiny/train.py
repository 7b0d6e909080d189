"""Train the built-in model from scratch: python -m graphdrl.oracle.tiny.train --minutes 60 --out DIR

The first ten thousand images or so look like a plateau. What gets it off: an auxiliary regression head on the image
tokens (dropped at saving), Muon (Jordan et al. 2024) on the hidden matrices, and fan-in initialisation. Targets are
two-hot over the grades around 5 v, so that the expected grade is 5 v exactly (Farebrother et al. 2024, section 3.1).

The score is the main prompt: every step asks it of all attributes. The first steps teach nothing else; later ones add
a sample of the other prompts, as further branches of the same sequence, and pairs of the batch's images. To compare two
images is another plateau, and a second auxiliary head gets off it: it reads their difference in the language model's
middle layer. Without it, rank and name hardly left chance while the score was as good as done.
"""

import argparse
import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from transformers import Idefics3ForConditionalGeneration, Idefics3Processor
from transformers.modeling_outputs import BaseModelOutputWithPooling

from graphdrl.oracle.tiny.data import (
    ATTRIBUTES,
    Batch,
    Pictures,
    batches,
    held_out_changes,
    held_out_pictures,
    training_pictures,
)
from graphdrl.oracle.tiny.lessons import Lessons
from graphdrl.oracle.tiny.measuring import measure
from graphdrl.oracle.tiny.model import build_model, build_processor
from graphdrl.oracle.tiny.packing import ask_packed, pack
from graphdrl.oracle.tiny.tasks import Branch, Target, Tasks, corpus
from graphdrl.oracle.tiny.tokenizer import train_tokenizer

BATCH_SIZE = 24
LEARNING_RATE = 3e-3
WARM_UP_STEPS = 100
CONSTANT_SHARE = 0.3
LOWEST_RATE = 0.01
CLIP = 1.0
LOG_STEPS = 200

NUM_CHANGED = 8
"""Pictures of a batch that are another one of it with one attribute changed."""

ALONE_SHARE = 0.06
"""Share of the time in which only the score is taught: until it leaves its plateau the rest would learn nothing."""

WEIGHTS = {
    "score": 1.0, "auxiliary": 1.0, "score_again": 0.3, "score_all": 0.5, "keys": 0.5,
    "difference": 1.0, "rank": 1.0, "name": 1.0, "describe": 0.5,
    "score_end": 0.05, "score_again_end": 0.05, "rank_end": 0.05,
}  # fmt: skip

MIDDLE_LAYER = 2
"""After this layer of the language model the difference of two images is read off."""


@dataclass
class Learner:
    """The model on its way, with the regression heads that are dropped at saving and the choice of what is asked."""

    model: Idefics3ForConditionalGeneration
    processor: Idefics3Processor
    tasks: Tasks
    heads: nn.ModuleDict
    lessons: Lessons
    optimizers: tuple[torch.optim.Optimizer, ...]
    step: int = 0

    def learn(self, batch: Batch, rate: float, everything: bool = True) -> dict[str, float]:
        """One step at `rate` times the learning rate, on all prompts or on the score's alone."""
        features = self.model.get_image_features(batch.pixels[:, None]).pooler_output
        values = batch.values
        losses = {"auxiliary": regression_loss(self.heads["auxiliary"](features.flatten(1)), values)}
        losses |= answer_losses(self.model, features[:, None], self.lessons.single(values, everything))[0]
        if everything:
            pairs = self.lessons.pair_up(batch)
            first, second = values[pairs[:, 0]], values[pairs[:, 1]]
            answers, states = answer_losses(self.model, features[pairs], self.lessons.double(first, second))
            seen = states[:, 2 * self.tasks.image_length - 1]  # where both images have just been read
            difference = self.heads["difference"](functional.rms_norm(seen, seen.shape[-1:]))
            losses |= answers | {"difference": regression_loss(difference, (first - second + 1) / 2)}
        torch.stack([WEIGHTS[task] * loss for task, loss in losses.items()]).sum().backward()
        nn.utils.clip_grad_norm_([*self.model.parameters(), *self.heads.parameters()], CLIP)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = LEARNING_RATE * rate
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.step += 1
        return {task: loss.item() for task, loss in losses.items()}

    def save(self, folder: Path) -> None:
        """Write what transformers and vLLM load, replacing what was there."""
        fresh = folder.with_name(folder.name + ".new")
        shutil.rmtree(fresh, ignore_errors=True)
        self.model.save_pretrained(fresh)
        self.processor.save_pretrained(fresh)
        shutil.rmtree(folder, ignore_errors=True)
        fresh.rename(folder)


def build_learner(seed: int) -> Learner:
    """A fresh model, its tokenizer made for the prompts."""
    tokenizer = train_tokenizer(corpus())
    processor = build_processor(tokenizer)
    model = build_model(tokenizer, seed)
    width = model.get_input_embeddings().weight.shape[1]
    auxiliary = nn.Linear(width * processor.image_seq_len, len(ATTRIBUTES))
    nn.init.zeros_(auxiliary.weight)
    heads = nn.ModuleDict({"auxiliary": auxiliary, "difference": nn.Linear(width, len(ATTRIBUTES))})
    tasks = Tasks(processor)
    return Learner(model, processor, tasks, heads, Lessons(tasks, seed), build_optimizers(model, heads))


def answer_losses(
    model: nn.Module, features: torch.Tensor, branches: Sequence[Branch]
) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Each task's mean cross-entropy over what is taught, and the states [B, L, D] after the middle layer.

    features: image tokens [B, images, T, D] of the rows that the branches ask about, `images` at a time.
    """
    packed = pack([branch.tokens for branch in branches])
    ids = packed.ids.repeat(len(features), 1)
    taught: dict[str, list[tuple[int, Target]]] = {}
    for branch, places in zip(branches, packed.places, strict=True):
        for place, tokens in branch.written.items():
            ids[:, places[place]] = tokens
        for target in branch.targets:
            taught.setdefault(target.task, []).append((places[target.place], target))
    at = torch.tensor([place for some in taught.values() for place, _ in some])
    vision = {"image": BaseModelOutputWithPooling(pooler_output=features.flatten(0, 1))}
    options = {"mm_encoder_outputs": vision, "output_hidden_states": True}
    output = ask_packed(model, packed, len(features), ids, at, **options)
    parts = output.logits.float().log_softmax(-1).split([len(some) for some in taught.values()], dim=1)
    losses = {
        task: cross_entropy(part, [target for _, target in some])
        for (task, some), part in zip(taught.items(), parts, strict=True)
    }
    return losses, output.hidden_states[MIDDLE_LAYER]


def cross_entropy(log_probabilities: torch.Tensor, targets: Sequence[Target]) -> torch.Tensor:
    """Mean over the taught answers among P targets, of log-probabilities [B, P, vocabulary]."""
    tokens, shares = (torch.stack([getattr(target, name) for target in targets], 1) for name in ("tokens", "shares"))
    return -(shares * log_probabilities.gather(-1, tokens)).sum() / shares.sum().clamp(min=1.0)


def build_optimizers(model: nn.Module, heads: nn.Module) -> tuple[torch.optim.Optimizer, ...]:
    """Muon on the matrices inside the two transformers and between them, AdamW on all else."""
    named = dict(model.named_parameters())
    hidden = [name for name, p in named.items() if p.ndim == 2 and (".layers." in name or ".connector." in name)]
    rest = [p for name, p in named.items() if name not in hidden]
    muon = torch.optim.Muon(
        [named[name] for name in hidden], lr=LEARNING_RATE, weight_decay=0.02, adjust_lr_fn="match_rms_adamw"
    )
    return muon, torch.optim.AdamW([*rest, *heads.parameters()], lr=LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.01)


def regression_loss(predicted: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Squared error on values standing about 0, where there is a value."""
    known = ~values.isnan()
    return (predicted[known] - 4 * (values[known] - 0.5)).square().mean()


def learning_rate_share(done: float, step: int) -> float:
    """Warm-up, constant for the first 30 % of the time, then linear to almost nothing."""
    decay = (1 - done) / (1 - CONSTANT_SHARE)
    return min(1.0, (step + 1) / WARM_UP_STEPS) * max(LOWEST_RATE, min(1.0, decay))


def train(
    learner: Learner,
    pictures: Pictures,
    figures: Callable[[], dict[str, dict]],
    out: Path,
    *,
    minutes: float,
    seed: int,
    save_every_s: float,
) -> None:
    """Train for `minutes`, leaving a usable model in OUT/model and its `figures` in OUT/log.jsonl at every save."""
    start = last_save = time.monotonic()
    losses: list[dict[str, float]] = []
    num_images = 0
    for batch in batches(pictures, BATCH_SIZE, NUM_CHANGED, seed):
        done = (time.monotonic() - start) / (60 * minutes)
        losses.append(learner.learn(batch, learning_rate_share(done, learner.step), done >= ALONE_SHARE))
        num_images += len(batch.pixels)
        if done < 1 and learner.step % LOG_STEPS:
            continue
        averages = mean_losses(losses[-LOG_STEPS:])
        line: dict[str, Any] = {"minutes": round(done * minutes, 2), "images": num_images, **averages}
        if done >= 1 or time.monotonic() - last_save >= save_every_s:
            learner.save(out / "model")
            line |= figures()
            last_save = time.monotonic()
        _log(out / "log.jsonl", line)
        if done >= 1:
            return


def mean_losses(losses: Sequence[dict[str, float]]) -> dict[str, float]:
    """The mean of each task's loss over the steps in which it was taught."""
    names = dict.fromkeys(name for step in losses for name in step)
    return {name: float(np.mean([step[name] for step in losses if name in step])) for name in names}


def _log(path: Path, line: dict) -> None:
    text = json.dumps(line)
    print(text, flush=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(text + "\n")


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw the pictures (kept in OUT for the next time), train, and print the figures on 2,000 held-out ones a kind."""
    parser = argparse.ArgumentParser(description="Train the built-in multimodal model from scratch.")
    parser.add_argument("--out", type=Path, required=True, help="folder for pictures, log and model")
    parser.add_argument("--minutes", type=float, default=60, help="training time")
    parser.add_argument("--num-faces", type=int, default=40_000)
    parser.add_argument("--num-avatars", type=int, default=24_000)
    parser.add_argument("--num-held-out", type=int, default=2_000)
    parser.add_argument("--save-every-s", type=float, default=300)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    pictures = training_pictures(options.num_faces, options.num_avatars, options.out / "pictures.npz")
    learner = build_learner(options.seed)
    held_out = held_out_pictures(options.num_held_out)
    changes = held_out_changes(options.num_held_out // 4)
    few = {kind: some.head(options.num_held_out // 4) for kind, some in held_out.items()}
    figures = partial(measure, learner.model, learner.tasks, few, changes)
    schedule = {"minutes": options.minutes, "seed": options.seed, "save_every_s": options.save_every_s}
    train(learner, pictures, figures, options.out, **schedule)
    _log(options.out / "log.jsonl", {"final": measure(learner.model, learner.tasks, held_out, changes)})


if __name__ == "__main__":
    main()
