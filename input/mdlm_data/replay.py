"""Replay framing: the rows that the references' code makes, which depend on its number of processes.

The reference maps its tokenizer and its framing over the documents with `datasets`, in P processes. Each process has a
contiguous shard of the N documents, and the first N mod P shards hold one more. It takes a shard in batches of 1,000
documents and drops the remainder of every batch, and with it a batch that is shorter than a block:
    rows = sum over shards, sum over batches of the shard: floor(tokens / block).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import repeat

import numpy as np

from mdlm_data.encoding import Encoded
from mdlm_data.framing import Account, Rows, Wrapped, no_rows
from mdlm_data.vocabulary import Vocabulary


def group_sizes(map_batch: int, shards: int, documents: int | None) -> Iterator[int]:
    """The number of documents in each batch; one shard need not know how many there are in all."""
    if documents is None:
        yield from repeat(map_batch)
        return
    for shard in range(shards):
        left = documents // shards + (shard < documents % shards)
        while left > 0:
            yield min(left, map_batch)
            left -= map_batch


class Replay:
    """As Wrapped, but each group of documents is wrapped on its own, and its remainder is dropped."""

    def __init__(
        self, vocabulary: Vocabulary, length: int, add_eos: bool, add_special: bool, groups: Iterator[int]
    ) -> None:
        self.inner = Wrapped(vocabulary, length, add_eos, add_special)
        self.length, self.groups = length, groups
        self.left = next(groups, 0)  # documents of this group that are still to come

    @property
    def account(self) -> Account:
        return self.inner.account

    def add(self, e: Encoded) -> Rows:
        ends = np.flatnonzero(e.ends) + 1  # pieces up to the end of each document
        found, piece, document = [], 0, 0
        while 0 < self.left <= len(ends) - document:
            document += self.left
            found.append(self.inner.add(_part(e, piece, int(ends[document - 1]))))
            self.inner.drop()
            piece, self.left = int(ends[document - 1]), next(self.groups, 0)
        self.left -= len(ends) - document
        found.append(self.inner.add(_part(e, piece, len(e.sizes))))
        return np.concatenate([rows for rows, _ in found]), np.concatenate([lengths for _, lengths in found])

    def end(self) -> Rows:
        self.inner.drop()
        return no_rows(self.length)


def _part(e: Encoded, first: int, end: int) -> Encoded:
    """The pieces first … end-1."""
    at = np.concatenate([[0], np.cumsum(e.sizes)]).astype(np.int64)
    part = slice(first, end)
    return Encoded(e.ids[at[first] : at[end]], e.sizes[part], e.ends[part], e.bytes[part], e.words[part])
