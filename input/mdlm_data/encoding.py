"""A batch of pieces of documents to token ids, with what is counted on the way. Runs in any process."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from mdlm_data.detokenizers import detokenizer
from mdlm_data.documents import Piece
from mdlm_data.fidelity import Fidelity, Loss
from mdlm_data.vocabulary import Ids, Vocabulary

Batch = tuple[list[Piece], bool]  # pieces, and whether the first begins a document


@dataclass
class Encoded:
    """The ids of some pieces, one after the other. Bytes and words are those of the text before detokenization."""

    ids: np.ndarray  # uint32
    sizes: np.ndarray  # ids of each piece
    ends: np.ndarray  # whether a document ends with the piece
    bytes: np.ndarray
    words: np.ndarray
    loss: Loss = field(default_factory=Loss)

    @staticmethod
    def of(pieces: list[Ids], ends: list[bool] | None = None, sizes: list[tuple[int, int]] | None = None) -> Encoded:
        n = len(pieces)
        ids = np.concatenate([np.asarray(p, np.uint32) for p in pieces]) if n else np.empty(0, np.uint32)
        counts = np.array(sizes or [(0, 0)] * n, np.int64).reshape(n, 2)
        lengths = np.fromiter(map(len, pieces), np.int64, n)
        return Encoded(ids, lengths, np.array([True] * n if ends is None else ends, bool), counts[:, 0], counts[:, 1])


class BatchEncoder:
    """Callable; can be sent to another process."""

    def __init__(self, v: Vocabulary, detokenizer_names: str) -> None:
        self.v, self.names = v, detokenizer_names
        self.detokenize = detokenizer(detokenizer_names)
        self.fidelity = Fidelity(v)

    def __getstate__(self) -> tuple[Vocabulary, str]:
        return self.v, self.names

    def __setstate__(self, state: tuple[Vocabulary, str]) -> None:
        self.__init__(*state)

    def __call__(self, batch: Batch) -> Encoded:
        pieces, begins = batch
        contents, ends = [p for p, _ in pieces], [end for _, end in pieces]
        if isinstance(contents[0], np.ndarray):
            return Encoded.of(contents, ends, [self._of_ids(ids) for ids in contents])
        texts = [self.detokenize(text) for text in contents]
        ids = self.v.encode(texts, [begins, *ends[:-1]])
        found = Encoded.of(ids, ends, [(len(text.encode()), len(text.split())) for text in contents])
        found.loss = self.fidelity.compare(texts, ids)
        return found

    def _of_ids(self, ids: np.ndarray) -> tuple[int, int]:
        """Bytes and words of the text that ready ids spell."""
        text = self.fidelity.spelling.text(ids.tolist())
        return len(text.encode()), len(text.split())


def batches(pieces: Iterator[Piece], size: int = 1 << 19, most: int = 4096) -> Iterator[Batch]:
    """Pieces in batches of about `size` characters or ids, so that memory does not grow with the corpus."""
    batch: list[Piece] = []
    held, begins = 0, True
    for piece in pieces:
        batch.append(piece)
        held += len(piece[0])
        if held >= size or len(batch) >= most:
            yield batch, begins
            batch, held, begins = [], 0, piece[1]
    if batch:
        yield batch, begins
