"""Many questions about one image in one sequence, so that the image and the prompt's head are computed once."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import Idefics3Processor, PreTrainedModel


@dataclass(frozen=True)
class Packed:
    """K prompts that share their first tokens, laid out as that prefix followed by K branches; L tokens together.

    ids, positions: int64 [1, L]; each branch counts on from the prefix.
    mask: bool [1, 1, L, L], true where a token may look: at what precedes it in the prefix and in its own branch.
    answers: int64 [K], the last token of each branch, where the answer is read.
    """

    ids: torch.Tensor
    positions: torch.Tensor
    mask: torch.Tensor
    answers: torch.Tensor


def chat_tokens(processor: Idefics3Processor, question: str) -> list[int]:
    """Token ids of a question about one image, as the model is asked it: chat template, image token expanded."""
    content: Any = [{"type": "image"}, {"type": "text", "text": question}]
    text = processor.apply_chat_template(
        [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
    )
    whole = processor.replace_image_token({"rows": [[0]], "cols": [[0]]}, 0)
    return processor.tokenizer(text.replace(processor.image_token, whole))["input_ids"]


def pack(prompts: Sequence[Sequence[int]], device: str = "cpu") -> Packed:
    """Lay out the token ids of K prompts; equals asking them one by one, since no branch sees another."""
    shared = _shared_prefix(prompts)
    branches = [list(prompt[shared:]) for prompt in prompts]
    branch = torch.tensor([-1] * shared + [k for k, tokens in enumerate(branches) for _ in tokens])
    positions = torch.tensor(list(range(shared)) + [shared + at for tokens in branches for at in range(len(tokens))])
    ids = torch.tensor(list(prompts[0][:shared]) + [token for tokens in branches for token in tokens])
    visible = (branch[:, None] == branch[None, :]) | (branch[None, :] == -1)
    mask = visible & torch.ones_like(visible).tril()
    answers = torch.tensor([len(tokens) for tokens in branches]).cumsum(0) + shared - 1
    return Packed(*(tensor.to(device) for tensor in (ids[None], positions[None], mask[None, None], answers)))


def ask_packed(model: PreTrainedModel, packed: Packed, **vision: torch.Tensor) -> Any:
    """The model's output with logits [B, K, vocabulary], one row an answer.

    vision: `pixel_values` [B, tiles, 3, H, W] and whatever else the model's processor makes of B images.
    """
    num_images = len(vision["pixel_values"])
    return model(
        input_ids=packed.ids.expand(num_images, -1),
        position_ids=packed.positions,
        attention_mask=packed.mask.expand(num_images, -1, -1, -1),
        logits_to_keep=packed.answers,
        use_cache=False,
        **vision,
    )


def _shared_prefix(prompts: Sequence[Sequence[int]]) -> int:
    """Length of the longest common prefix that leaves every prompt at least one token of its own."""
    longest = min(len(prompt) for prompt in prompts) - 1
    for position in range(longest):
        if len({prompt[position] for prompt in prompts}) > 1:
            return position
    return longest
