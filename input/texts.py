"""Token ids back to text, as `mdlm sample` prints it, from the vocabulary that a data file or checkpoint carries.

The rules are those of src/store/vocab.c: bytes of a byte-level BPE and characters are joined as they are; WordPiece
words get blanks, except where BERT's tokenizer cut a punctuation mark off its word.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import h5py

from errors import InputError
from seal import sealed_open
from vocabularies import SPECIALS

CONTRACTIONS = {b"s", b"t", b"m", b"d", b"re", b"ve", b"ll"}


@dataclass(frozen=True)
class Spelling:
    """What ids say: the bytes of every token, and which ids are special (-1: the tokenizer has none)."""

    path: str  # the file it is from
    kind: str  # "byte_bpe" | "wordpiece" | "chars"
    hash: str
    tokens: list[bytes]
    mask: int
    bos: int
    eos: int
    pad: int

    def text(self, ids: Sequence[int]) -> str:
        """Special tokens vanish; characters that are no UTF-8 become U+FFFD."""
        special = {self.mask, self.bos, self.eos, self.pad}
        pieces = [self.tokens[i] for i in ids if i not in special]
        joined = b"".join(_words(pieces) if self.kind == "wordpiece" else pieces)
        return joined.decode("utf-8", "replace").replace("\0", "\ufffd")


def spelling(path: str) -> Spelling:
    """Of a data file or a checkpoint."""
    with sealed_open(path) as f:
        return spelling_of(f, path)


def spelling_of(file: h5py.File, path: str) -> Spelling:
    """Of one that is open."""
    if "vocab" not in file:
        raise InputError(f"{path}: carries no vocabulary (group /vocab)")
    try:
        group = file["vocab"]
        raw, offsets = group["bytes"][:].tobytes(), group["offsets"][:].tolist()
        tokens = [raw[i:j] for i, j in zip(offsets[:-1], offsets[1:])]
        a = group.attrs
        return Spelling(path, str(a["kind"]), str(a["hash"]), tokens, *(int(a[s]) for s in SPECIALS))
    except (OSError, KeyError) as e:
        raise InputError(f"{path}: cannot be read as a data file or checkpoint: {e}") from e


# ---- WordPiece


def _words(pieces: list[bytes]) -> Iterator[bytes]:
    """The pieces with blanks before those that begin a word."""
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
