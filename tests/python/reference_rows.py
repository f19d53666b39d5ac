"""The rows that the references' code makes, with plain lists: what replay framing is compared with."""

from __future__ import annotations

from itertools import chain


def reference_rows(
    documents: list[list[int]], length: int, batch: int, shards: int, bos: int, eos: int, ends: bool, frame: bool
) -> list[list[int]]:
    """Contiguous shards, of which the first hold one more; batches; the remainder of each batch is dropped."""
    share, more = divmod(len(documents), shards)
    block = length - 2 if frame else length
    rows, first = [], 0
    for s in range(shards):
        shard = documents[first : first + share + (s < more)]
        first += len(shard)
        for i in range(0, len(shard), batch):
            ids = list(chain(*(d + [eos] * ends for d in shard[i : i + batch])))
            cut = [ids[k : k + block] for k in range(0, len(ids) // block * block, block)]
            rows += [[bos, *c, eos] if frame else c for c in cut]
    return rows
