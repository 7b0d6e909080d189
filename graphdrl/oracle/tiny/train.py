"""Train the built-in model from scratch: python -m graphdrl.oracle.tiny.train --minutes 60 --out DIR

The first ten thousand images or so look like a plateau. What gets it off: an auxiliary regression head on the image
tokens (dropped at saving), Muon (Jordan et al. 2024) on the hidden matrices, and fan-in initialisation. Targets are
two-hot over the grades around 5 v, so that the expected grade is 5 v exactly (Farebrother et al. 2024, section 3.1).
"""

import argparse
import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import Idefics3ForConditionalGeneration, Idefics3Processor

from graphdrl.oracle.prompts import load_prompt
from graphdrl.oracle.questions import HIGHEST_GRADE, NUM_GRADES
from graphdrl.oracle.tiny.data import (
    ATTRIBUTES,
    Pictures,
    batches,
    held_out_pictures,
    to_pixels,
    training_pictures,
)
from graphdrl.oracle.tiny.evaluate import agreement
from graphdrl.oracle.tiny.model import build_model, build_processor
from graphdrl.oracle.tiny.packing import Packed, ask_packed, chat_tokens, pack
from graphdrl.oracle.tiny.tokenizer import train_tokenizer

BATCH_SIZE = 32
LEARNING_RATE = 3e-3
WARM_UP_STEPS = 100
CONSTANT_SHARE = 0.3
LOWEST_RATE = 0.01
AUXILIARY_WEIGHT = 1.0
CLIP = 1.0


@dataclass
class Learner:
    """The model on its way, with the regression head that is dropped at saving and what it is asked."""

    model: Idefics3ForConditionalGeneration
    processor: Idefics3Processor
    head: nn.Linear
    packed: Packed
    digits: torch.Tensor
    optimizers: tuple[torch.optim.Optimizer, ...]
    step: int = 0

    def learn(self, pixels: torch.Tensor, values: torch.Tensor, rate: float) -> dict[str, float]:
        """One step on pixels [B, 3, 64, 64] and values [B, K] at `rate` times the learning rate."""
        output = ask_packed(self.model, self.packed, pixel_values=pixels[:, None])
        answer = answer_loss(output.logits, values, self.digits)
        auxiliary = regression_loss(self.head(output.image_hidden_states.flatten(1)), values)
        (answer + AUXILIARY_WEIGHT * auxiliary).backward()
        nn.utils.clip_grad_norm_([*self.model.parameters(), *self.head.parameters()], CLIP)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = LEARNING_RATE * rate
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.step += 1
        return {"loss": answer.item(), "auxiliary": auxiliary.item()}

    def save(self, folder: Path) -> None:
        """Write what transformers and vLLM load, replacing what was there."""
        fresh = folder.with_name(folder.name + ".new")
        shutil.rmtree(fresh, ignore_errors=True)
        self.model.save_pretrained(fresh)
        self.processor.save_pretrained(fresh)
        shutil.rmtree(folder, ignore_errors=True)
        fresh.rename(folder)


def build_learner(seed: int) -> Learner:
    """A fresh model that is asked the shared score prompt, one branch an attribute."""
    prompt = load_prompt("score")
    questions = [prompt.render(name) for name in ATTRIBUTES]
    tokenizer = train_tokenizer(questions)
    processor = build_processor(tokenizer)
    model = build_model(tokenizer, seed)
    width = model.get_input_embeddings().weight.shape[1] * processor.image_seq_len
    head = nn.Linear(width, len(ATTRIBUTES))
    nn.init.zeros_(head.weight)
    return Learner(
        model,
        processor,
        head,
        pack([chat_tokens(processor, question) for question in questions]),
        torch.tensor(tokenizer.convert_tokens_to_ids([str(grade) for grade in range(NUM_GRADES)])),
        build_optimizers(model, head),
    )


def build_optimizers(model: nn.Module, head: nn.Module) -> tuple[torch.optim.Optimizer, ...]:
    """Muon on the matrices inside the two transformers and between them, AdamW on all else."""
    named = dict(model.named_parameters())
    hidden = [name for name, p in named.items() if p.ndim == 2 and (".layers." in name or ".connector." in name)]
    rest = [p for name, p in named.items() if name not in hidden]
    muon = torch.optim.Muon(
        [named[name] for name in hidden], lr=LEARNING_RATE, weight_decay=0.02, adjust_lr_fn="match_rms_adamw"
    )
    return muon, torch.optim.AdamW([*rest, *head.parameters()], lr=LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.01)


def two_hot(values: torch.Tensor) -> torch.Tensor:
    """Distributions over the six grades [..., 6] whose mean is 5 v, for values v in [0, 1]; NaN counts as 0."""
    place = values.nan_to_num(0.0).unsqueeze(-1) * HIGHEST_GRADE
    return (1 - (place - torch.arange(NUM_GRADES)).abs()).clamp(min=0)


def answer_loss(logits: torch.Tensor, values: torch.Tensor, digits: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of logits [B, K, vocabulary] against two-hot grades of values [B, K], where there is a value."""
    log_probabilities = logits.float().log_softmax(-1)[..., digits]
    per_answer = -(two_hot(values) * log_probabilities).sum(-1)
    return per_answer[~values.isnan()].mean()


def regression_loss(predicted: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Squared error on values standing about 0, where there is a value."""
    known = ~values.isnan()
    return (predicted[known] - 4 * (values[known] - 0.5)).square().mean()


def learning_rate_share(done: float, step: int) -> float:
    """Warm-up, constant for the first 30 % of the time, then linear to almost nothing."""
    decay = (1 - done) / (1 - CONSTANT_SHARE)
    return min(1.0, (step + 1) / WARM_UP_STEPS) * max(LOWEST_RATE, min(1.0, decay))


@torch.inference_mode()
def expected_scores(learner: Learner, images: np.ndarray) -> np.ndarray:
    """Expected grades float32 [N, K] of images uint8 [N, 64, 64, 3]."""
    grades = torch.arange(NUM_GRADES, dtype=torch.float32)
    parts = []
    for start in range(0, len(images), 100):
        pixels = to_pixels(images[start : start + 100])
        logits = ask_packed(learner.model, learner.packed, pixel_values=pixels[:, None]).logits
        parts.append(logits[..., learner.digits].softmax(-1) @ grades)
    return torch.cat(parts).numpy()


def measure(learner: Learner, held_out: dict[str, Pictures]) -> dict[str, dict]:
    """Agreement on each kind of held-out picture; faces are graded, avatars come in ordered categories."""
    learner.model.eval()
    figures = {
        kind: agreement(expected_scores(learner, pictures.images), pictures.values, kind == "faces", ATTRIBUTES)
        for kind, pictures in held_out.items()
    }
    learner.model.train()
    return figures


def train(
    learner: Learner,
    pictures: Pictures,
    held_out: dict[str, Pictures],
    out: Path,
    *,
    minutes: float,
    seed: int,
    save_every_s: float,
) -> None:
    """Train for `minutes`, leaving a usable model in OUT/model and its figures in OUT/log.jsonl at every save."""
    start = last_save = time.monotonic()
    losses: list[dict[str, float]] = []
    for pixels, values in batches(pictures, BATCH_SIZE, seed):
        done = (time.monotonic() - start) / (60 * minutes)
        losses.append(learner.learn(pixels, values, learning_rate_share(done, learner.step)))
        if done < 1 and learner.step % 200:
            continue
        averages = {name: float(np.mean([loss[name] for loss in losses[-200:]])) for name in losses[0]}
        line: dict[str, Any] = {"minutes": round(done * minutes, 2), "images": learner.step * BATCH_SIZE, **averages}
        if done >= 1 or time.monotonic() - last_save >= save_every_s:
            learner.save(out / "model")
            line |= measure(learner, held_out)
            last_save = time.monotonic()
        _log(out / "log.jsonl", line)
        if done >= 1:
            return


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
    few = {kind: some.head(options.num_held_out // 4) for kind, some in held_out.items()}
    schedule = {"minutes": options.minutes, "seed": options.seed, "save_every_s": options.save_every_s}
    train(learner, pictures, few, options.out, **schedule)
    _log(options.out / "log.jsonl", {"final": measure(learner, held_out)})


if __name__ == "__main__":
    main()
