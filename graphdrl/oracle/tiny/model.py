"""The built-in model: the Idefics3 architecture (Laurencon et al. 2024, arXiv 2408.12637) at 1.4 M parameters."""

import math

import torch
from torch import nn
from transformers import (
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3Processor,
    LlamaConfig,
    PreTrainedTokenizerFast,
)
from transformers.models.idefics3.configuration_idefics3 import Idefics3VisionConfig
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil

from graphdrl.oracle.tiny.tokenizer import CHAT_TEMPLATE, IMAGE

IMAGE_SIZE = 64
PATCH_SIZE = 8
SCALE_FACTOR = 2
NUM_IMAGE_TOKENS = (IMAGE_SIZE // PATCH_SIZE // SCALE_FACTOR) ** 2

_RESIDUAL_OUTPUTS = ("out_proj", "fc2", "o_proj", "down_proj")


def build_model(tokenizer: PreTrainedTokenizerFast, seed: int = 0) -> Idefics3ForConditionalGeneration:
    """A freshly initialised model for the tokenizer's vocabulary."""
    image_token, pad_token = tokenizer.get_vocab()[IMAGE], tokenizer.pad_token_id
    vision = Idefics3VisionConfig(
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=4,
        image_size=IMAGE_SIZE,
        patch_size=PATCH_SIZE,
    )
    text = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=4,
        head_dim=32,
        max_position_embeddings=512,
        pad_token_id=pad_token,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        tie_word_embeddings=False,
    )
    config = Idefics3Config(
        vision_config=vision,
        text_config=text,
        scale_factor=SCALE_FACTOR,
        image_token_id=image_token,
        pad_token_id=pad_token,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        tie_word_embeddings=False,
    )
    model = Idefics3ForConditionalGeneration(config)
    initialise(model, seed)
    return model


def build_processor(tokenizer: PreTrainedTokenizerFast) -> Idefics3Processor:
    """Images whole (never tiled) at 64 x 64, through Pillow: torchvision is not needed."""
    images = Idefics3ImageProcessorPil(
        do_image_splitting=False,
        size={"longest_edge": IMAGE_SIZE},
        max_image_size={"longest_edge": IMAGE_SIZE},
    )
    return Idefics3Processor(images, tokenizer, image_seq_len=NUM_IMAGE_TOKENS, chat_template=CHAT_TEMPLATE)


def initialise(model: Idefics3ForConditionalGeneration, seed: int) -> None:
    """Fan-in weights with halved residual outputs, sin-cos positions: from the default N(0, 0.02) it does not learn."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, module in model.named_modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                gain = 0.5 if name.endswith(_RESIDUAL_OUTPUTS) else 1.0
                module.weight.normal_(0.0, gain / math.sqrt(module.weight[0].numel()), generator=generator)
                if module.bias is not None:
                    module.bias.zero_()
        model.get_input_embeddings().weight.normal_(0.0, 0.5, generator=generator)
        positions = model.model.vision_model.embeddings.position_embedding.weight
        positions.copy_(_sincos_positions(IMAGE_SIZE // PATCH_SIZE, positions.shape[1]))


def _sincos_positions(side: int, width: int) -> torch.Tensor:
    """Two-dimensional sin-cos embedding of a side x side grid (Vaswani et al. 2017, section 3.5): [side^2, width]."""
    frequencies = 100.0 ** -(torch.arange(width // 4) / (width // 4))
    angles = torch.arange(side)[:, None] * frequencies
    axis = torch.cat([angles.sin(), angles.cos()], dim=1)
    return torch.cat([axis.repeat_interleave(side, 0), axis.repeat(side, 1)], dim=1)
