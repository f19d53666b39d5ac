"""The bytes that each token of a Hugging Face tokenizer stands for."""

from __future__ import annotations

import json

from tokenizers import Tokenizer

from mdlm_data.errors import InputError


def bytes_of_tokens(tokenizer: Tokenizer) -> list[bytes]:
    """Raw bytes of every token of a byte-level vocabulary, in the order of ids; added tokens keep their spelling."""
    byte = _byte_of_char()
    added = tokenizer.get_added_tokens_decoder()

    def raw(i: int, token: str) -> bytes:
        if i in added or any(c not in byte for c in token):
            return token.encode()
        return bytes(byte[c] for c in token)

    return [raw(i, token) for i, token in enumerate(_tokens_by_id(tokenizer))]


def kind_and_bytes(tokenizer: Tokenizer, path: str) -> tuple[str, list[bytes]]:
    """How the tokens of a tokenizer.json join to text, and the bytes of each."""
    definition = json.loads(tokenizer.to_str())
    tokens = _tokens_by_id(tokenizer)
    if definition["model"]["type"] == "WordPiece":
        return "wordpiece", [t.encode() for t in tokens]
    if '"ByteLevel"' in json.dumps([definition["pre_tokenizer"], definition["decoder"]]):
        return "byte_bpe", bytes_of_tokens(tokenizer)
    if any("\u2581" in t for t in tokens):  # SentencePiece: U+2581 is the blank, <0x0A> a byte
        return "byte_bpe", [_piece_bytes(t) for t in tokens]
    raise InputError(
        f"{path}: tokens of model {definition['model']['type']} cannot be joined to text; "
        "give a byte-level BPE, a WordPiece or a SentencePiece tokenizer"
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


def _piece_bytes(token: str) -> bytes:
    if len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
        return bytes.fromhex(token[3:5])
    return token.replace("\u2581", " ").encode()
