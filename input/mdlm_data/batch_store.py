"""Encoded batches on disk, so that an interrupted run goes on: OUTPUT.part, removed when the output is complete.

Each record begins with a digest of the batch's text and of all that turns it into ids. A later run reads the corpus again,
takes records as long as their digests are those of its batches, and encodes the rest: it never takes what has changed.
"""

from __future__ import annotations

import os
import struct
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import chain

import numpy as np
import xxhash

from mdlm_data.encoding import Batch, Encoded
from mdlm_data.errors import InputError
from mdlm_data.fidelity import Loss
from mdlm_data.workers import in_processes

FEW = 8  # batches: fewer are not worth a file
HEAD = struct.Struct("<16sQQ")  # digest of the batch, bytes of the record, checksum of the record


class BatchStore:
    """As a context manager it keeps the file only if the run is interrupted or killed."""

    def __init__(self, path: str, key: str) -> None:
        self.path, self.key = path, key
        self.found = self.batches = 0  # taken from an earlier run; in all
        try:
            self.file = open(path, "r+b" if os.path.exists(path) else "w+b", buffering=0)
        except OSError as e:
            raise InputError(f"{path}: cannot write it: {e.strerror}") from e

    def encoded(
        self, encode: Callable[[Batch], Encoded], batches: Iterable[Batch], processes: int
    ) -> Iterator[Encoded]:
        """encode(batch) for each batch, in order."""
        left = iter(batches)
        for batch in left:
            found = self._read(self._digest(batch))
            if found is None:
                left = chain([batch], left)
                break
            self.found, self.batches = self.found + 1, self.batches + 1
            yield found
        else:
            return
        digests: deque[bytes] = deque()

        def noted() -> Iterator[Batch]:
            for batch in left:
                digests.append(self._digest(batch))
                yield batch

        for result in in_processes(encode, noted(), processes):
            self._write(digests.popleft(), result)
            self.batches += 1
            yield result

    def __enter__(self) -> BatchStore:
        return self

    def __exit__(self, kind: type | None, *_: object) -> None:
        with suppress(OSError):  # the disk may be full
            self.file.close()
        if kind is KeyboardInterrupt and self.batches >= FEW:
            raise KeyboardInterrupt(f"the same command goes on from {self.path}")
        with suppress(FileNotFoundError):
            os.remove(self.path)

    def _digest(self, batch: Batch) -> bytes:
        state = xxhash.xxh3_128(self.key.encode())
        pieces, begins = batch
        state.update(bytes([begins, *(end for _, end in pieces)]))
        for text, _ in pieces:
            data = text.encode()
            state.update(struct.pack("<Q", len(data)) + data)
        return state.digest()

    def _read(self, digest: bytes) -> Encoded | None:
        """The next record if it is that of this batch; otherwise the file ends here."""
        if self.file.closed:
            return None
        at = self.file.tell()
        head = self.file.read(HEAD.size)
        if len(head) == HEAD.size:
            wanted, size, check = HEAD.unpack(head)
            data = self.file.read(size) if wanted == digest else b""
            if wanted == digest and len(data) == size and xxhash.xxh3_64_intdigest(data) == check:
                return _unpacked(data)
        self.file.seek(at)
        self.file.truncate()
        return None

    def _write(self, digest: bytes, e: Encoded) -> None:
        """A full disk ends the keeping, not the run."""
        if self.file.closed:
            return
        data = _packed(e)
        record = HEAD.pack(digest, len(data), xxhash.xxh3_64_intdigest(data)) + data
        try:
            whole = self.file.write(record) == len(record)
        except OSError:
            whole = False
        if not whole:
            self.file.truncate(0)
            self.file.close()


def _packed(e: Encoded) -> bytes:
    loss = list(vars(e.loss).values())
    table = np.stack([e.sizes, e.ends, e.bytes, e.words]).astype("<i8")
    return np.array([len(e.sizes), *loss], "<i8").tobytes() + table.tobytes() + e.ids.astype("<u4").tobytes()


def _unpacked(data: bytes) -> Encoded:
    n_loss = len(vars(Loss()))
    n, *loss = np.frombuffer(data, "<i8", 1 + n_loss).tolist()
    at = 8 * (1 + n_loss)
    sizes, ends, n_bytes, words = np.frombuffer(data, "<i8", 4 * n, at).reshape(4, n)
    ids = np.frombuffer(data, "<u4", -1, at + 32 * n)
    return Encoded(ids, sizes, ends.astype(bool), n_bytes, words, Loss(*loss))
