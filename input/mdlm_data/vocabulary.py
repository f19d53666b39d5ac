"""A vocabulary: what turns text into token ids, and what turns ids back into text.

The mask token always counts in the size V. Text never becomes a special token: a corpus that spells out "[MASK]" or
"<|endoftext|>" gets the ordinary tokens of those characters.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import xxhash
from tokenizers import Tokenizer

from mdlm_data.errors import require
from mdlm_data.text_encoder import TextEncoder

Ids = Sequence[int] | np.ndarray

# Tokenizers the papers use, by the hash of their definition; another file of the same kind is named after itself.
KNOWN = {
    "b9b1c81b32d461e2c67490321b3adbcd": "gpt2",
    "0de65912b82abe94310c1fc72a793ff8": "bert-base-uncased",
}


class Encoder(Protocol):
    def __call__(self, texts: list[str], begins: Sequence[bool] | None = None) -> list[np.ndarray]: ...
    def cut(self, text: str, limit: int) -> int: ...


@dataclass(frozen=True)
class Vocabulary:
    name: str  # "bpe", "gpt2", "bert-base-uncased", "text8", "chars", "json:…"
    kind: str  # how tokens join to text: "byte_bpe" | "wordpiece" | "chars"
    hash: str  # xxh3-128 of what turns text into ids
    tokens: list[bytes]  # the bytes of every token, in the order of ids
    mask: int
    bos: int
    eos: int
    pad: int
    definition: str  # tokenizer.json of the Hugging Face library; "" for text8 and chars
    encode: Encoder
    unknown: int | None = None  # id of text that the vocabulary cannot spell
    folds_case: bool = False  # kind "chars": capitals become small letters

    @property
    def size(self) -> int:
        return len(self.tokens)


def from_tokenizer(name: str, kind: str, tokenizer: Tokenizer, tokens: list[bytes], **ids: Any) -> Vocabulary:
    """The vocabulary of a Hugging Face tokenizer; `ids` are those of the special tokens."""
    tokenizer.no_truncation()
    tokenizer.no_padding()
    definition = json.loads(tokenizer.to_str())
    dropout = definition["model"].get("dropout")
    require(
        not dropout, f"{name}: drops merges at random (dropout {dropout}), so that ids differ each time; set it null"
    )
    digest = hash_of(_canonical(definition))
    text = json.dumps(definition)
    specials = {
        i: tokens[i].decode() for i in (ids[role] for role in ("mask", "bos", "eos", "pad")) if 0 <= i < len(tokens)
    }
    return Vocabulary(
        KNOWN.get(digest, name), kind, digest, tokens, definition=text, encode=TextEncoder(text, specials), **ids
    )


def hash_of(value: Any) -> str:
    return xxhash.xxh3_128_hexdigest(json.dumps(value, sort_keys=True, separators=(",", ":")).encode())


# What else decides the ids, with the values that are left out of the hash: of the model and of added tokens.
MODEL_USUAL: dict[str, Any] = {
    "dropout": None,
    "continuing_subword_prefix": (None, "", "##"),
    "end_of_word_suffix": (None, ""),
    "fuse_unk": False,
    "byte_fallback": False,
    "ignore_merges": False,
    "max_input_chars_per_word": 100,
    "unk_id": None,
}
ADDED_USUAL = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": True}


def _canonical(definition: dict[str, Any]) -> dict[str, Any]:
    """The parts of a tokenizer.json that decide the ids, in a form that does not depend on the library's version."""
    model = definition["model"]
    vocab = model["vocab"]
    if isinstance(vocab, dict):
        vocab = sorted(vocab, key=vocab.__getitem__)
    merges = [m.split(" ", 1) if isinstance(m, str) else m for m in model.get("merges", [])]
    parts = {
        "model": model["type"],
        "unknown": model.get("unk_token"),
        "vocab": vocab,
        "merges": merges,
        "added": [(t["id"], t["content"]) for t in definition["added_tokens"]],
        "normalizer": definition["normalizer"],
        "pre_tokenizer": definition["pre_tokenizer"],
    }
    plain = [t for t in definition["added_tokens"] if not t["special"]]  # found in the text
    more = {"options": _unusual(model, MODEL_USUAL), "plain": [(t["id"], _unusual(t, ADDED_USUAL)) for t in plain]}
    return parts | {name: value for name, value in more.items() if value}


def _unusual(values: dict[str, Any], usual: dict[str, Any]) -> dict[str, Any]:
    def is_usual(name: str) -> bool:
        return values[name] in (usual[name] if isinstance(usual[name], tuple) else (usual[name],))

    return {name: values[name] for name in usual if name in values and not is_usual(name)}
