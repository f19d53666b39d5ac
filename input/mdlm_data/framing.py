"""Framing: token ids of documents → rows of L tokens, wrapped or one document per row.

Bytes and words of a piece of text that is only partly in rows count in proportion to its tokens that are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mdlm_data.encoding import Encoded
from mdlm_data.vocabulary import Vocabulary

Rows = tuple[np.ndarray, np.ndarray]  # tokens [n,L] uint32, lengths [n] uint32


def no_rows(length: int) -> Rows:
    return np.empty((0, length), np.uint32), np.empty(0, np.uint32)


@dataclass
class Account:
    """Sums over the documents of an output."""

    documents: int = 0
    empty: int = 0  # documents without a token
    bytes: int = 0  # of the text in rows, in UTF-8, before detokenization
    words: int = 0  # the same, separated by white space
    truncated: int = 0  # documents of which a part is in no row
    truncated_tokens: int = 0  # how much that is
    dropped_tokens: int = 0  # remainders, which fill no row


class Wrapped:
    """The tokens of every document + eos, concatenated, cut into blocks of L-2 tokens, each framed bos … eos.

    The remainder is dropped, but a text shorter than one block becomes one padded row.
    add_eos      False: nothing separates the documents
    add_special  False: rows are blocks of L tokens, without bos and eos around them
    """

    def __init__(self, vocabulary: Vocabulary, length: int, add_eos: bool = True, add_special: bool = True) -> None:
        self.v, self.length, self.add_eos = vocabulary, length, add_eos
        self.frame = int(add_special)  # tokens at each end of a row
        self.account = Account()
        self.rest = np.empty(0, np.uint32)  # tokens that do not fill a block yet
        self.tail = np.empty((0, 3), np.int64)  # tokens, bytes and words of the pieces that are in the rest
        self.any_row = self.inside = False  # inside: a document whose end has not come has tokens

    def add(self, e: Encoded) -> Rows:
        sizes = e.sizes + e.ends if self.add_eos else e.sizes
        flat = np.concatenate([self.rest, self._with_eos(e, sizes) if self.add_eos else e.ids])
        block = self.length - 2 * self.frame
        n = len(flat) // block
        self.rest = flat[n * block :].copy()
        self._count(e, sizes)
        rows = np.empty((n, self.length), np.uint32)
        rows[:, 0], rows[:, -1] = self.v.bos, self.v.eos
        rows[:, self.frame : self.frame + block] = flat[: n * block].reshape(n, block)
        self.any_row = self.any_row or n > 0
        return rows, np.full(n, self.length, np.uint32)

    def end(self) -> Rows:
        """The last rows: none, or one row if the whole text was shorter than a block."""
        n = len(self.rest)
        if self.any_row or not n:
            self.drop()
            return no_rows(self.length)
        row = np.full((1, self.length), self.v.pad, np.uint32)
        length = n + 2 * self.frame
        row[0, 0], row[0, length - 1] = self.v.bos, self.v.eos
        row[0, self.frame : self.frame + n] = self.rest
        return row, np.array([length], np.uint32)

    def drop(self) -> None:
        """The tokens that do not fill a block are in no row; the next document begins a block."""
        left = len(self.rest)
        self.account.dropped_tokens += left
        for size, n_bytes, words in self.tail[::-1].tolist():
            part = min(size, left)
            left -= part
            self.account.bytes -= n_bytes * part // max(size, 1)
            self.account.words -= words * part // max(size, 1)
        self.rest, self.tail = self.rest[:0], self.tail[:0]

    def _with_eos(self, e: Encoded, sizes: np.ndarray) -> np.ndarray:
        flat = np.empty(int(sizes.sum()), np.uint32)
        is_eos = np.zeros(len(flat), bool)
        is_eos[(np.cumsum(sizes) - 1)[e.ends]] = True
        flat[is_eos], flat[~is_eos] = self.v.eos, e.ids
        return flat

    def _count(self, e: Encoded, sizes: np.ndarray) -> None:
        a = self.account
        a.bytes, a.words = a.bytes + int(e.bytes.sum()), a.words + int(e.words.sum())
        for size, end in zip(e.sizes.tolist(), e.ends.tolist()):
            if end:
                a.documents, a.empty = a.documents + 1, a.empty + (not size and not self.inside)
            self.inside = not end and (self.inside or size > 0)
        pieces = np.concatenate([self.tail, np.stack([sizes, e.bytes, e.words], axis=1)])
        after = np.cumsum(pieces[::-1, 0])[::-1] - pieces[:, 0]  # tokens behind each piece
        self.tail = pieces[after < len(self.rest)]


class Unwrapped:
    """One document per row: bos … eos, truncated to L-2 tokens so that eos survives, padded."""

    def __init__(self, vocabulary: Vocabulary, length: int) -> None:
        self.v, self.length = vocabulary, length
        self.account = Account()
        self.open: list[np.ndarray] = []  # of a document whose end has not come: its first ids …
        self.sums = np.zeros(3, np.int64)  # … and its tokens, bytes and words

    def add(self, e: Encoded) -> Rows:
        rows = np.full((int(e.ends.sum()), self.length), self.v.pad, np.uint32)
        lengths = np.empty(len(rows), np.uint32)
        rows[:, 0] = self.v.bos
        at, row, most = 0, 0, self.length - 2
        for size, end, *text in zip(*(x.tolist() for x in (e.sizes, e.ends, e.bytes, e.words))):
            if self.sums[0] < most:
                self.open.append(e.ids[at : at + min(size, most)])
            at += size
            self.sums += (size, *text)
            if end:
                ids = np.concatenate(self.open)[:most] if len(self.open) > 1 else self.open[0][:most]
                rows[row, 1 : len(ids) + 1], rows[row, len(ids) + 1] = ids, self.v.eos
                lengths[row] = len(ids) + 2
                self._count(len(ids))
                row += 1
        return rows, lengths

    def end(self) -> Rows:
        return no_rows(self.length)

    def _count(self, kept: int) -> None:
        a, (n, n_bytes, words) = self.account, self.sums.tolist()
        a.documents, a.empty = a.documents + 1, a.empty + (n == 0)
        a.truncated, a.truncated_tokens = a.truncated + (kept < n), a.truncated_tokens + n - kept
        part, whole = (kept, n) if n else (1, 1)  # a text without tokens is in its row
        a.bytes, a.words = a.bytes + n_bytes * part // whole, a.words + words * part // whole
        self.open, self.sums = [], np.zeros(3, np.int64)
