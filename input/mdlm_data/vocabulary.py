"""A vocabulary: what turns text into token ids, and what turns ids back into text.

The mask token always counts in the size V. Text never becomes a special token: a corpus that spells out "[MASK]" or
"<|endoftext|>" gets the ordinary tokens of those characters.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xxhash
from tokenizers import Tokenizer

Ids = Sequence[int] | np.ndarray

# Tokenizers the papers use, by the hash of their definition; another file of the same kind is named after itself.
KNOWN = {
    "b9b1c81b32d461e2c67490321b3adbcd": "gpt2",
    "0de65912b82abe94310c1fc72a793ff8": "bert-base-uncased",
}


@dataclass(frozen=True)
class Vocabulary:
    name: str  # "bpe", "gpt2", "bert-base-uncased", "text8", "json:…"
    kind: str  # how tokens join to text: "byte_bpe" | "wordpiece" | "chars"
    hash: str  # xxh3-128 of what turns text into ids
    tokens: list[bytes]  # the bytes of every token, in the order of ids
    mask: int
    bos: int
    eos: int
    pad: int
    definition: str  # tokenizer.json of the Hugging Face library; "" for text8
    encode: Callable[[list[str]], list[Ids]]
    unknown: int | None = None  # id of text that the vocabulary cannot spell

    @property
    def size(self) -> int:
        return len(self.tokens)


def from_tokenizer(name: str, kind: str, tokenizer: Tokenizer, tokens: list[bytes], **ids: Any) -> Vocabulary:
    """The vocabulary of a Hugging Face tokenizer; `ids` are those of the special tokens."""
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = True  # the spelling of a special token in the text is ordinary text
    definition = json.loads(tokenizer.to_str())
    digest = hash_of(_canonical(definition))

    def encode(texts: list[str]) -> list[Ids]:
        return [e.ids for e in tokenizer.encode_batch_fast(texts, add_special_tokens=False)]

    return Vocabulary(
        KNOWN.get(digest, name), kind, digest, tokens, definition=json.dumps(definition), encode=encode, **ids
    )


def hash_of(value: Any) -> str:
    return xxhash.xxh3_128_hexdigest(json.dumps(value, sort_keys=True, separators=(",", ":")).encode())


def _canonical(definition: dict[str, Any]) -> dict[str, Any]:
    """The parts of a tokenizer.json that decide the ids, in a form that does not depend on the library's version."""
    model = definition["model"]
    vocab = model["vocab"]
    if isinstance(vocab, dict):
        vocab = sorted(vocab, key=vocab.__getitem__)
    merges = [m.split(" ", 1) if isinstance(m, str) else m for m in model.get("merges", [])]
    return {
        "model": model["type"],
        "unknown": model.get("unk_token"),
        "vocab": vocab,
        "merges": merges,
        "added": [(t["id"], t["content"]) for t in definition["added_tokens"]],
        "normalizer": definition["normalizer"],
        "pre_tokenizer": definition["pre_tokenizer"],
    }
