"""Models with random weights, small enough to serve in seconds: two multimodal families, and one without eyes."""

import json
import shutil
import string
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken, Tokenizer, decoders, models
from transformers import (
    GemmaConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PaliGemmaConfig,
    PaliGemmaForConditionalGeneration,
    PaliGemmaProcessor,
    PreTrainedTokenizerFast,
    SiglipVisionConfig,
)
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from graphdrl.oracle.prompts import load_prompt
from graphdrl.oracle.tiny.model import build_model, build_processor
from graphdrl.oracle.tiny.tokenizer import train_tokenizer

STRING_TEMPLATE = (
    "{%- for message in messages -%}<{{ message['role'] }}>{{ message['content'] + '\n' }}{%- endfor -%}"
    "{%- if add_generation_prompt -%}<assistant>{%- endif -%}"
)
"""Of a text model: it adds up texts, so a content in parts would be an error."""


def save_idefics(folder: Path) -> Path:
    """The built-in model's architecture, untrained: Idefics3, with a chat template."""
    tokenizer = train_tokenizer([load_prompt("score").render(name) for name in ("hat", "age", "beard", "bright")])
    model = build_model(tokenizer, seed=1)
    model.save_pretrained(folder)
    build_processor(tokenizer).save_pretrained(folder)
    return folder


def copy_without_chat_template(folder: Path, to: Path) -> Path:
    """The same model as one that was published without a chat template."""
    shutil.copytree(folder, to, dirs_exist_ok=True)
    (to / "chat_template.jinja").unlink()
    for name in ("tokenizer_config.json", "processor_config.json"):
        settings = json.loads((to / name).read_text())
        settings.pop("chat_template", None)
        (to / name).write_text(json.dumps(settings))
    return to


def save_paligemma(folder: Path) -> Path:
    """Another family: PaliGemma, which has no chat template and no mark for an image in its text."""
    processor = PaliGemmaProcessor(_small_siglip_images(), _letters())
    torch.manual_seed(0)
    vision = SiglipVisionConfig(
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=32,
        patch_size=8,
        projection_dim=64,
        vision_use_head=False,
        initializer_range=0.2,
    )
    text = GemmaConfig(
        vocab_size=len(processor.tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=1,  # the answer sees all of one layer's inputs, whether or not the image sees the text
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=32,
        max_position_embeddings=512,
        hidden_activation="gelu_pytorch_tanh",
        initializer_range=0.15,  # or the answers hardly differ
    )
    image_token = processor.tokenizer.convert_tokens_to_ids("<image>")
    config = PaliGemmaConfig(
        vision_config=vision, text_config=text, image_token_index=image_token, projection_dim=64, hidden_size=64
    )
    model = PaliGemmaForConditionalGeneration(config)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    _rename_as_published(folder / "model.safetensors")
    return folder


def save_llama(folder: Path) -> Path:
    """A chat model without eyes, whose template takes a message's content as one text."""
    tokenizer = _letters()
    tokenizer.chat_template = STRING_TEMPLATE
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        head_dim=32,
        max_position_embeddings=512,
        initializer_range=0.15,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _rename_as_published(file: Path) -> None:
    """The published checkpoints' names, which vLLM reads; transformers 5 writes shorter ones."""
    weights = load_file(file)
    names = {name: name.replace("vision_tower.", "vision_tower.vision_model.") for name in weights}
    save_file({names[name]: weight for name, weight in weights.items()}, file, {"format": "pt"})


def _small_siglip_images() -> SiglipImageProcessorPil:
    images = SiglipImageProcessorPil(size={"height": 32, "width": 32})
    images.image_seq_length = 16
    return images


def _letters() -> PreTrainedTokenizerFast:
    """One token a character."""
    special = ["<pad>", "<eos>", "<bos>", "<unk>"]
    vocabulary = {token: number for number, token in enumerate([*special, *string.printable])}
    letters = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="<unk>"))
    letters.decoder = decoders.Fuse()
    letters.add_special_tokens([AddedToken(token, special=True) for token in special])
    return PreTrainedTokenizerFast(
        tokenizer_object=letters,
        pad_token="<pad>",
        eos_token="<eos>",
        bos_token="<bos>",
        unk_token="<unk>",
        add_bos_token=False,
    )
