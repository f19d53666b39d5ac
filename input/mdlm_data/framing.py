"""Framing: token ids of documents → rows of L tokens, wrapped or one document per row."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from mdlm_data.vocabulary import Ids, Vocabulary

Rows = tuple[np.ndarray, np.ndarray]  # tokens [n,L] uint32, lengths [n] uint32


class Wrapped:
    """The tokens of every document + eos, concatenated, cut into blocks of L-2 tokens, each framed bos … eos.

    The remainder is dropped, but a text shorter than one block becomes one padded row.
    """

    def __init__(self, vocabulary: Vocabulary, length: int) -> None:
        self.v, self.length = vocabulary, length
        self.rest = np.empty(0, np.uint32)  # tokens that do not fill a block yet
        self.any_row = False

    def add(self, documents: list[Ids]) -> Rows:
        eos = np.array([self.v.eos], np.uint32)
        parts = [p for ids in documents for p in (np.asarray(ids, np.uint32), eos)]
        flat = np.concatenate([self.rest, *parts])
        block = self.length - 2
        n = len(flat) // block
        self.rest = flat[n * block :].copy()
        rows = np.empty((n, self.length), np.uint32)
        rows[:, 0], rows[:, -1] = self.v.bos, self.v.eos
        rows[:, 1:-1] = flat[: n * block].reshape(n, block)
        self.any_row = self.any_row or n > 0
        return rows, np.full(n, self.length, np.uint32)

    def end(self) -> Rows:
        """The last rows: none, or one row if the whole text was shorter than a block."""
        if self.any_row or not len(self.rest):
            return np.empty((0, self.length), np.uint32), np.empty(0, np.uint32)
        row = np.full((1, self.length), self.v.pad, np.uint32)
        n = len(self.rest)
        row[0, 0], row[0, n + 1] = self.v.bos, self.v.eos
        row[0, 1 : n + 1] = self.rest
        return row, np.array([n + 2], np.uint32)


class Unwrapped:
    """One document per row: bos … eos, truncated to L-2 tokens so that eos survives, padded."""

    def __init__(self, vocabulary: Vocabulary, length: int) -> None:
        self.v, self.length = vocabulary, length

    def add(self, documents: list[Ids]) -> Rows:
        rows = np.full((len(documents), self.length), self.v.pad, np.uint32)
        lengths = np.fromiter((min(len(ids), self.length - 2) + 2 for ids in documents), np.uint32, len(documents))
        rows[:, 0] = self.v.bos
        for row, ids, n in zip(rows, documents, lengths.tolist()):
            row[1 : n - 1] = ids[: n - 2]
            row[n - 1] = self.v.eos
        return rows, lengths

    def end(self) -> Rows:
        return np.empty((0, self.length), np.uint32), np.empty(0, np.uint32)


def blocks(texts: Iterator[str], characters: int = 1 << 20, documents: int = 4096) -> Iterator[list[str]]:
    """Batches of documents, bounded in size, so that memory use does not grow with the corpus."""
    batch: list[str] = []
    size = 0
    for text in texts:
        batch.append(text)
        size += len(text)
        if size >= characters or len(batch) >= documents:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
