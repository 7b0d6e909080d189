"""Many questions about one image in one sequence, so that the image and what prompts share are computed once."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import Idefics3Processor, PreTrainedModel


@dataclass(frozen=True)
class Packed:
    """K prompts as a tree of tokens, in which what several begin with stands once; L tokens together.

    ids, positions: int64 [1, L]; each branch counts on from where it leaves the others.
    mask: bool [1, 1, L, L], true where a token may look: at what precedes it in its own prompt.
    answers: int64 [K], the last token of each prompt, where the answer is read.
    places: for each prompt, where in the tree each of its tokens lies.
    """

    ids: torch.Tensor
    positions: torch.Tensor
    mask: torch.Tensor
    answers: torch.Tensor
    places: tuple[tuple[int, ...], ...]


def chat_tokens(processor: Idefics3Processor, question: str, num_images: int = 1) -> list[int]:
    """Token ids of a question about images, as the model is asked it: chat template, image tokens expanded."""
    content: Any = [*({"type": "image"} for _ in range(num_images)), {"type": "text", "text": question}]
    text = processor.apply_chat_template(
        [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
    )
    whole = processor.replace_image_token({"rows": [[0]], "cols": [[0]]}, 0)
    return processor.tokenizer(text.replace(processor.image_token, whole))["input_ids"]


def pack(prompts: Sequence[Sequence[int]], device: str | torch.device = "cpu") -> Packed:
    """Lay out the token ids of K prompts; equals asking them one by one, since no branch sees another."""
    nodes: dict[tuple[int, int], int] = {}  # (node before, token) -> node
    depths, places = [], []
    for prompt in prompts:
        path = [-1]
        for token in prompt:
            if (path[-1], token) not in nodes:
                nodes[path[-1], token] = len(nodes)
                depths.append(len(path) - 1)
            path.append(nodes[path[-1], token])
        places.append(tuple(path[1:]))
    mask = torch.eye(len(nodes), dtype=torch.bool)
    for (before, _), node in nodes.items():
        if before >= 0:
            mask[node] |= mask[before]
    return Packed(
        ids=torch.tensor([[token for _, token in nodes]], device=device),
        positions=torch.tensor([depths], device=device),
        mask=mask[None, None].to(device),
        answers=torch.tensor([path[-1] for path in places], device=device),
        places=tuple(places),
    )


def ask_packed(
    model: PreTrainedModel,
    packed: Packed,
    num_rows: int,
    ids: torch.Tensor | None = None,
    at: torch.Tensor | None = None,
    **vision: Any,
) -> Any:
    """The model's output with logits [B, K, vocabulary], one row an answer.

    num_rows: B, the images (or groups of images) asked about.
    ids: int64 [B, L], where the tokens of the rows differ; at: int64 [P], where to read instead of at the answers.
    vision: `pixel_values` [B, tiles, 3, H, W] and whatever else the model's processor makes of B images.
    """
    return model(
        input_ids=packed.ids.expand(num_rows, -1) if ids is None else ids,
        position_ids=packed.positions,
        attention_mask=packed.mask.expand(num_rows, -1, -1, -1),
        logits_to_keep=packed.answers if at is None else at,
        use_cache=False,
        **vision,
    )
