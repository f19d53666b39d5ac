"""Framing: replay of the references' batches and processes, rows without eos or frame. Cases by hand and by formula."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
from reference_rows import reference_rows

from mdlm_data.characters import text8
from mdlm_data.encoding import Encoded
from mdlm_data.framing import Wrapped
from mdlm_data.replay import Replay, group_sizes

DOCUMENTS = [[10, 11], [12], [13, 14, 15], [16]]  # text8: bos = 2, eos = 3


def rows_of(framing: Replay | Wrapped, documents: list[list[int]], at_once: int = 100) -> list[list[int]]:
    parts = [documents[i : i + at_once] for i in range(0, len(documents), at_once)]
    found = [framing.add(Encoded.of(p)) for p in parts] + [framing.end()]
    rows = np.concatenate([r for r, _ in found])
    assert np.concatenate([n for _, n in found]).tolist() == [framing.length] * len(rows)
    return rows.tolist()


@pytest.mark.parametrize(
    ("batch", "shards", "eos", "frame", "rows"),
    [
        # 10 11 3 | 12 3 dropped; 13 14 15 | 3 16 3
        (2, 1, True, True, [[2, 10, 11, 3, 3], [2, 13, 14, 15, 3], [2, 3, 16, 3, 3]]),
        # 10 11 12; 13 14 15 | 16 dropped
        (2, 1, False, True, [[2, 10, 11, 12, 3], [2, 13, 14, 15, 3]]),
        # blocks of 5: 10 11 3 12 3; 13 14 15 3 16 | 3 dropped
        (2, 1, True, False, [[10, 11, 3, 12, 3], [13, 14, 15, 3, 16]]),
        # 2, 1 and 1 documents: 10 11 3 | 12 3 dropped; 13 14 15 | 3 dropped; 16 3 dropped
        (1000, 3, True, True, [[2, 10, 11, 3, 3], [2, 13, 14, 15, 3]]),
        # one batch and one process: 10 11 3 | 12 3 13 | 14 15 3 | 16 3 dropped
        (1000, 1, True, True, [[2, 10, 11, 3, 3], [2, 12, 3, 13, 3], [2, 14, 15, 3, 3]]),
        # as many processes as documents, without eos: only the third fills a block
        (1000, 4, False, True, [[2, 13, 14, 15, 3]]),
        (1000, 64, False, True, [[2, 13, 14, 15, 3]]),
    ],
)
def test_by_hand(batch: int, shards: int, eos: bool, frame: bool, rows: list[list[int]]) -> None:
    assert reference_rows(DOCUMENTS, 5, batch, shards, 2, 3, eos, frame) == rows
    for at_once in (1, 3, 100):
        framing = Replay(text8(), 5, eos, frame, group_sizes(batch, shards, len(DOCUMENTS)))
        assert rows_of(framing, DOCUMENTS, at_once) == rows


def test_shards_hold_one_document_more_first() -> None:
    assert list(group_sizes(1000, 1, 2500)) == [1000, 1000, 500]
    assert list(group_sizes(1000, 2, 2501)) == [1000, 251, 1000, 250]
    assert list(group_sizes(1000, 4, 3)) == [1, 1, 1]
    assert list(group_sizes(1000, 64, 3370)) == [53] * 42 + [52] * 22
    assert list(islice(group_sizes(7, 1, None), 3)) == [7, 7, 7]  # one process need not know the number


@pytest.mark.parametrize("shards", [1, 8, 64])
@pytest.mark.parametrize(("eos", "frame"), [(True, True), (False, True), (True, False)])
def test_formula(shards: int, eos: bool, frame: bool) -> None:
    rng = np.random.default_rng(shards)
    documents = [rng.integers(8, 35, n).tolist() for n in rng.integers(0, 12, 3370)]
    framing = Replay(text8(), 64, eos, frame, group_sizes(1000, shards, len(documents)))
    found = rows_of(framing, documents, 777)
    assert found == reference_rows(documents, 64, 1000, shards, 2, 3, eos, frame)
    tokens = sum(map(len, documents)) + eos * len(documents)
    assert framing.account.dropped_tokens == tokens - len(found) * (62 if frame else 64) > 0
    assert framing.account.documents == 3370


def test_account_of_several_remainders() -> None:
    framing = Replay(text8(), 6, True, True, group_sizes(1, 1, 2))  # blocks of 4: 3 + eos; 5 + eos leaves 2 of 6
    framing.add(Encoded.of([[8] * 3, [9] * 5], None, [(30, 3), (60, 12)]))
    framing.end()
    a = framing.account
    assert (a.bytes, a.words, a.dropped_tokens, a.documents) == (30 + 40, 3 + 8, 2, 2)
    framing = Replay(text8(), 6, True, True, group_sizes(1, 1, 2))  # 2 + eos is lost, then 5 + eos leaves 2
    framing.add(Encoded.of([[8] * 2, [9] * 5], None, [(30, 3), (60, 12)]))
    framing.end()
    assert (framing.account.bytes, framing.account.dropped_tokens) == (0 + 40, 3 + 2)


def test_seamless_without_eos_or_frame() -> None:
    assert rows_of(Wrapped(text8(), 5, add_eos=False), DOCUMENTS) == [[2, 10, 11, 12, 3], [2, 13, 14, 15, 3]]
    assert rows_of(Wrapped(text8(), 5, add_special=False), DOCUMENTS) == [[10, 11, 3, 12, 3], [13, 14, 15, 3, 16]]
    framing = Wrapped(text8(), 6, add_eos=False, add_special=False)  # shorter than a block: one padded row
    framing.add(Encoded.of([[10, 11], [12]]))
    rows, lengths = framing.end()
    assert rows.tolist() == [[10, 11, 12, 5, 5, 5]] and lengths.tolist() == [3]
