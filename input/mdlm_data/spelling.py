"""Token ids back to text, as `mdlm sample` prints it, from the vocabulary in a data file or checkpoint.

The rules are those of src/store/vocab.c: the bytes of a byte-level BPE and characters are joined as they are; WordPiece
words are joined by blanks, except where BERT's tokenizer split a punctuation mark off a word.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import h5py

from mdlm_data.errors import InputError
from mdlm_data.seal import sealed_open
from mdlm_data.vocabulary_group import read_specials, read_tokens

CONTRACTIONS = {b"s", b"t", b"m", b"d", b"re", b"ve", b"ll"}


@dataclass(frozen=True)
class Spelling:
    """The bytes of every token, and the ids of the special tokens (-1: the tokenizer has none)."""

    path: str  # the file that carries the vocabulary
    kind: str  # "byte_bpe" | "wordpiece" | "chars"
    hash: str
    tokens: list[bytes]
    mask: int
    bos: int
    eos: int
    pad: int

    def text(self, ids: Sequence[int]) -> str:
        """The text of ids, without special tokens; invalid UTF-8 becomes U+FFFD."""
        special = {self.mask, self.bos, self.eos, self.pad}
        pieces = [self.tokens[i] for i in ids if i not in special]
        joined = b"".join(_words(pieces) if self.kind == "wordpiece" else pieces)
        return joined.decode("utf-8", "replace").replace("\0", "\ufffd")


def spelling(path: str) -> Spelling:
    """The spelling in a data file or a checkpoint."""
    with sealed_open(path) as f:
        return spelling_of(f, path)


def spelling_of(file: h5py.File, path: str) -> Spelling:
    """The same, from an open file."""
    if "vocab" not in file:
        raise InputError(f"{path}: carries no vocabulary (group /vocab)")
    try:
        group = file["vocab"]
        kind, digest = str(group.attrs["kind"]), str(group.attrs["hash"])
        return Spelling(path, kind, digest, read_tokens(group), **read_specials(group))
    except (OSError, KeyError) as e:
        raise InputError(f"{path}: cannot be read as a data file or checkpoint: {e}") from e


# ---- WordPiece


def _words(pieces: list[bytes]) -> Iterator[bytes]:
    """The pieces, with a blank before each piece that begins a word."""
    glued = [len(p) > 2 and p.startswith(b"##") for p in pieces]
    bare = [p[2:] if g else p for p, g in zip(pieces, glued)]
    for i, piece in enumerate(bare):
        if i and not glued[i] and _blank(bare[i - 2] if i > 1 else b"", bare[i - 1], piece, bare[i + 1 : i + 2]):
            yield b" "
        yield piece


def _blank(before: bytes, last: bytes, piece: bytes, after: list[bytes]) -> bool:
    if _mark(piece, b".,!?;:')") or _mark(last, b"("):
        return False
    if last == b"'" and piece in CONTRACTIONS:
        return False
    if piece == b"-" and _word(last[:1]) and after and _word(after[0][:1]):
        return False
    if last == b"-" and _word(before[:1]) and _word(piece[:1]):
        return False
    if before[-1:].isdigit() and piece.isdigit():
        return not _mark(last, b".:") and not (last == b"," and len(piece) == 3)
    return True


def _mark(piece: bytes, marks: bytes) -> bool:
    return len(piece) == 1 and piece in marks


def _word(byte: bytes) -> bool:
    return byte.isalnum() or byte >= b"\x80"
