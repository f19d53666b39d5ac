"""Vocabularies of characters: text8's, and any set of one's own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from mdlm_data.errors import require
from mdlm_data.specials import SPECIALS
from mdlm_data.vocabulary import Vocabulary, hash_of

TEXT8_NAMES = "[CLS] [SEP] [BOS] [EOS] [MASK] [PAD] [RESERVED] [UNK]".split()
NAMES = "[BOS] [EOS] [MASK] [PAD] [UNK]".split()
MOST = 1 << 16  # characters of a set


class CharEncoder:
    """Ids of characters; ids of `tokens` from `first` on are those of their characters."""

    def __init__(self, tokens: list[bytes], first: int, unknown: int, folds_case: bool) -> None:
        self.unknown, self.folds_case = unknown, folds_case
        codes = np.array([ord(t.decode()) for t in tokens[first:]], np.uint32)
        order = np.argsort(codes)
        self.codes, self.ids = codes[order], (order + first).astype(np.uint32)

    def __call__(self, texts: list[str], begins: Sequence[bool] | None = None) -> list[np.ndarray]:
        return [self._one(t) for t in texts]

    def cut(self, text: str, limit: int) -> int:
        return limit

    def _one(self, text: str) -> np.ndarray:
        codes = np.frombuffer(text.encode("utf-32-le", "replace"), "<u4")
        if self.folds_case:
            codes = np.where((codes >= ord("A")) & (codes <= ord("Z")), codes + 32, codes)
        at = np.minimum(np.searchsorted(self.codes, codes), len(self.codes) - 1)
        return np.where(self.codes[at] == codes, self.ids[at], np.uint32(self.unknown)).astype(np.uint32)


def text8() -> Vocabulary:
    """8 special ids, then the 27 characters of text8; capital letters become small ones."""
    return _vocabulary("text8", TEXT8_NAMES, "abcdefghijklmnopqrstuvwxyz ", folds_case=True)


def characters(text: str) -> Vocabulary:
    """5 special ids, then the characters of `text`, each once, in the order of their code points."""
    found = sorted(set(text))
    require(found, "--tokenizer chars:SET: names no character")
    require(len(found) <= MOST, f"--tokenizer chars: {len(found)} different characters; at most {MOST}")
    require(
        not any("\ud800" <= c <= "\udfff" or c == "\0" for c in found), "--tokenizer chars: NUL or half a character"
    )
    return _vocabulary("chars", NAMES, "".join(found), folds_case=False)


def characters_of(texts: Iterator[str]) -> Vocabulary:
    """All characters that occur in the texts."""
    found: set[str] = set()
    for text in texts:
        found.update(text)
    return characters("".join(found - {"\0"}))


def stored(tokens: list[bytes]) -> Vocabulary:
    """The vocabulary of the tokens that `characters` made."""
    return characters(b"".join(tokens[len(NAMES) :]).decode())


def _vocabulary(name: str, names: list[str], letters: Iterable[str], folds_case: bool) -> Vocabulary:
    tokens = [n.encode() for n in names] + [c.encode() for c in letters]
    unknown = names.index("[UNK]")
    encode = CharEncoder(tokens, len(names), unknown, folds_case)
    special = {role: names.index(f"[{role.upper()}]") for role in SPECIALS}
    digest = hash_of([t.decode() for t in tokens])
    return Vocabulary(
        name, "chars", digest, tokens, definition="", encode=encode, unknown=unknown, folds_case=folds_case, **special
    )
