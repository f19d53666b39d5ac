"""The bytes that each token of a Hugging Face tokenizer stands for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tokenizers import Tokenizer

from mdlm_data.errors import InputError, require


def bytes_of_tokens(tokenizer: Tokenizer) -> list[bytes]:
    """Raw bytes of every token of a byte-level vocabulary, in the order of ids; added tokens keep their spelling."""
    byte = _byte_of_char()
    added = tokenizer.get_added_tokens_decoder()

    def raw(i: int, token: str) -> bytes:
        if i in added or any(c not in byte for c in token):
            return token.encode()
        return bytes(byte[c] for c in token)

    return [raw(i, token) for i, token in enumerate(_tokens_by_id(tokenizer))]


def kind_and_bytes(tokenizer: Tokenizer, definition: dict[str, Any], path: str) -> tuple[str, list[bytes]]:
    """How the tokens of a tokenizer.json join to text, and the bytes of each."""
    model = definition["model"]
    prefix, suffix = (model.get(f"{k}") or "" for k in ("continuing_subword_prefix", "end_of_word_suffix"))
    tokens = _tokens_by_id(tokenizer)
    if model["type"] == "WordPiece":
        require(prefix == "##", f"{path}: its words continue with {prefix!r}; only a WordPiece with '##' is known")
        return "wordpiece", [t.encode() for t in tokens]
    if any(p["type"] == "ByteLevel" for p in parts_of(definition)):
        require(not prefix + suffix, f"{path}: byte-level tokens with {prefix or suffix!r} cannot be joined to text")
        return "byte_bpe", bytes_of_tokens(tokenizer)
    markers = blank_markers(definition)
    if model["type"] == "WordLevel" or not (markers or suffix or any(" " in t for t in tokens)) and _splits(definition):
        raise InputError(
            f"{path}: tokens of model {model['type']} cannot be joined to text; "
            "give a byte-level BPE, a WordPiece or a SentencePiece tokenizer"
        )
    require(len(markers) < 2, f"{path}: writes blanks in several ways: {' '.join(markers)}")
    added = tokenizer.get_added_tokens_decoder()
    fallback = bool(model.get("byte_fallback"))

    def raw(i: int, token: str) -> bytes:
        if i in added:
            return token.encode()
        if fallback and len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
            return bytes.fromhex(token[3:5])
        token = token.removeprefix(prefix)
        token = token.removesuffix(suffix) + " " if suffix and token.endswith(suffix) else token
        return token.replace(markers[0], " ").encode() if markers else token.encode()

    return "byte_bpe", [raw(i, token) for i, token in enumerate(tokens)]


def parts_of(definition: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The normalizers and pre-tokenizers, those of sequences one by one."""
    left = [definition["normalizer"], definition["pre_tokenizer"]]
    while left:
        part = left.pop(0)
        if part and part["type"] == "Sequence":
            left = [*part.get("normalizers", []), *part.get("pretokenizers", []), *left]
        elif part:
            yield part


def blank_markers(definition: dict[str, Any]) -> list[str]:
    """What stands for a blank within tokens: U+2581 in SentencePiece."""
    found = []
    for part in parts_of(definition):
        if part["type"] == "Metaspace":
            found.append(part["replacement"])
        elif part["type"] == "Replace" and part["pattern"].get("String") == " ":
            found.append(part["content"])
    return list(dict.fromkeys(m for m in found if m))


def _splits(definition: dict[str, Any]) -> bool:
    """Whether white space is dropped where words are split."""
    droppers = ("Whitespace", "WhitespaceSplit", "BertPreTokenizer")
    return any(
        p["type"] in droppers or p.get("behavior") == "Removed" or p["type"] == "CharDelimiterSplit"
        for p in parts_of(definition)
    )


def _tokens_by_id(tokenizer: Tokenizer) -> list[str]:
    vocab = tokenizer.get_vocab(with_added_tokens=True)
    if max(vocab.values(), default=-1) >= 2**31 - 1:
        raise InputError("the vocabulary has ids beyond 2^31")
    tokens = [""] * (max(vocab.values(), default=-1) + 1)  # unused ids stay empty
    for token, i in vocab.items():
        tokens[i] = token
    return tokens


def _byte_of_char() -> dict[str, int]:
    """Byte-level BPE spells each byte as a printable character: itself if printable, else the next from U+0100."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in printable]
    return {chr(b): b for b in printable} | {chr(0x100 + i): b for i, b in enumerate(others)}
