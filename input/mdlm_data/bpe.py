"""A byte-level BPE trained on the text itself."""

from __future__ import annotations

from collections.abc import Iterator

from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from mdlm_data.errors import InputError
from mdlm_data.specials import END_OF_TEXT, MASK
from mdlm_data.token_bytes import bytes_of_tokens
from mdlm_data.vocabulary import Vocabulary, from_tokenizer


def train_bpe(spec: str, texts: Iterator[str]) -> Vocabulary:
    """A byte-level BPE of int(spec) tokens: 256 bytes, merges, then <|endoftext|> (bos and eos) and [MASK] (also pad)."""
    size = _size(spec)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=size - 2,
        show_progress=False,
        special_tokens=[],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokens = [*bytes_of_tokens(tokenizer), END_OF_TEXT.encode(), MASK.encode()]
    end, mask = len(tokens) - 2, len(tokens) - 1
    return from_tokenizer("bpe", "byte_bpe", tokenizer, tokens, mask=mask, bos=end, eos=end, pad=mask)


def _size(text: str) -> int:
    if not text.isdigit() or not 258 <= int(text) <= 2**31:
        raise InputError(f"--tokenizer bpe:{text}: SIZE is a number from 258 (256 bytes and 2 special tokens) to 2^31")
    return int(text)
