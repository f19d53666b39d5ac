"""Text to ids by a tokenizer of the Hugging Face library: long documents in pieces, special tokens as ordinary text."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from tokenizers import Tokenizer

WINDOW = 128  # characters on both sides of a cut that decide whether it changes ids
TRIES = 64  # places tried for a cut


class TextEncoder:
    """Callable, and can be sent to another process. `specials` maps ids that no text may become to their spelling."""

    def __init__(self, definition: str, specials: dict[int, str]) -> None:
        self.definition, self.specials = definition, specials
        self.first = load(definition)
        inner = json.dumps(without_prefix(json.loads(definition)))
        self.later = self.first if inner == definition else load(inner)  # for pieces within a document
        self.reserved = np.array(sorted(specials), np.uint32)

    def __getstate__(self) -> tuple[str, dict[int, str]]:
        return self.definition, self.specials

    def __setstate__(self, state: tuple[str, dict[int, str]]) -> None:
        self.__init__(*state)

    def __call__(self, texts: list[str], begins: Sequence[bool] | None = None) -> list[np.ndarray]:
        """Ids of each text; begins[i] is false where texts[i] continues a document."""
        if self.later is self.first or begins is None or all(begins):
            return self._encode(self.first, texts)
        ids: list[Any] = [None] * len(texts)
        for tokenizer, want in ((self.first, True), (self.later, False)):
            at = [i for i, b in enumerate(begins) if b == want]
            for i, found in zip(at, self._encode(tokenizer, [texts[i] for i in at])):
                ids[i] = found
        return ids

    def cut(self, text: str, limit: int) -> int:
        """The last place up to `limit` where a cut leaves the ids of its surroundings as they are, at a blank if any."""
        blanks = [at for at in range(limit, max(limit - 16 * TRIES, 1), -1) if text[at : at + 1] == " "]
        for at in [*blanks[:TRIES], *range(limit, max(limit - TRIES, 1), -1)]:
            left, right = text[max(at - WINDOW, 0) : at], text[at : at + WINDOW]
            whole, a, b = self([left + right, left, right], [False] * 3)
            if np.array_equal(whole, np.concatenate([a, b])):
                return at
        return limit

    def _encode(self, tokenizer: Tokenizer, texts: list[str]) -> list[np.ndarray]:
        found = [np.array(e.ids, np.uint32) for e in tokenizer.encode_batch_fast(texts, add_special_tokens=False)]
        for i, ids in enumerate(found):
            if len(self.reserved) and np.isin(ids, self.reserved).any():
                found[i] = self._spelt(tokenizer, texts[i])
        return found

    def _spelt(self, tokenizer: Tokenizer, text: str) -> np.ndarray:
        """The ids of a text that spells out a special token, which is broken after its first character."""
        for spelling in self.specials.values():
            if len(spelling) > 1:
                text = text.replace(spelling, spelling[0] + "\0" + spelling[1:])
        first, *rest = text.split("\0")
        parts = tokenizer.encode_batch_fast([first], add_special_tokens=False)
        parts += self.later.encode_batch_fast(rest, add_special_tokens=False)
        return np.concatenate([np.array(e.ids, np.uint32) for e in parts])


def load(definition: str) -> Tokenizer:
    tokenizer = Tokenizer.from_str(definition)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = True  # the spelling of a special token in the text is ordinary text
    return tokenizer


def without_prefix(part: Any) -> Any:
    """The definition without what is put before a text: for the continuation of a document."""
    if isinstance(part, list):
        return [without_prefix(p) for p in part]
    if not isinstance(part, dict):
        return part
    if part.get("type") == "Prepend":
        return {"type": "Sequence", "normalizers": []}
    changed = {}
    if part.get("type") == "Metaspace":
        changed = {"prepend_scheme": "never", "add_prefix_space": False}
    elif part.get("type") == "ByteLevel":
        changed = {"add_prefix_space": False}
    keep = {k: v if k in ("model", "added_tokens") else without_prefix(v) for k, v in part.items()}
    return keep | {k: v for k, v in changed.items() if k in part}
