"""The built-in model's tokenizer: byte-level BPE that knows its prompts' words, and any other text by its bytes."""

from collections.abc import Iterable

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

PAD, IMAGE, IMAGE_EDGE, WHOLE_IMAGE, END = (
    "<pad>",
    "<image>",
    "<fake_token_around_image>",
    "<global-img>",
    "<end_of_utterance>",
)
SPECIAL_TOKENS = (PAD, IMAGE, IMAGE_EDGE, WHOLE_IMAGE, END)

CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{%- if message['content'] is string -%}{{ message['content'] }}"
    "{%- else -%}{%- for part in message['content'] -%}"
    "{%- if part['type'] == 'image' -%}<image>{%- else -%}{{ part['text'] }}{%- endif -%}"
    "{%- endfor -%}{%- endif -%}<end_of_utterance>{%- endfor -%}"
)


PIECES = r'[{,]"[^"]*":|\d(?=[,}])| ?\S+|\s+'
"""Keys with the punctuation around them, digits that end a JSON value, words with the space before them."""


def train_tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """A tokenizer that makes one token of every word of `texts`, with the space before it.

    Words keep their punctuation ("(absent)" is one), which keeps the prompt short. In compact JSON a key with all its
    punctuation is one token and the digit after it another, the same one as alone.
    """
    tokenizer = Tokenizer(models.BPE())
    words = pre_tokenizers.Split(Regex(PIECES), behavior="isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [words, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=2048,
        min_frequency=1,
        special_tokens=[AddedToken(token, normalized=False, special=True) for token in SPECIAL_TOKENS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        additional_special_tokens=[IMAGE, IMAGE_EDGE, WHOLE_IMAGE],
        chat_template=CHAT_TEMPLATE,
        padding_side="left",
        model_max_length=512,
    )
