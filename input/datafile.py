"""The tokenized data file: HDF5, format "mdlm-data" version 1, documented at the head of src/store/shards.h.

A file is written under NAME.tmp and gets its name when it is complete, so that no half-written NAME is ever seen.
"""

from __future__ import annotations

import errno
import math
import os
import re
import tempfile
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any, BinaryIO

import h5py
import numpy as np
import xxhash

from errors import InputError
from framing import Rows
from seal import seal_append
from vocabularies import SPECIALS, Vocabulary

CHUNK_BYTES = 1 << 16
BLOCK_BYTES = 1 << 22  # read back at a time


class Column:
    """A data set that grows by rows: chunked with checksums in the file, or (chunk_rows = 0) spooled and laid out
    contiguously at the end, when the number of rows is known."""

    def __init__(self, file: h5py.File, name: str, width: tuple[int, ...], dtype: str, chunk_rows: int) -> None:
        self.file, self.name, self.width, self.dtype = file, name, width, np.dtype(dtype)
        self.rows = 0
        self.spool: BinaryIO | None = None
        self.set: Any = None  # the h5py data set, once there is one
        if chunk_rows:
            self.set = file.create_dataset(
                name, (0, *width), self.dtype, maxshape=(None, *width), chunks=(chunk_rows, *width), fletcher32=True
            )
        else:
            self.spool = tempfile.TemporaryFile(dir=os.path.dirname(os.path.abspath(file.filename)))

    def append(self, rows: np.ndarray) -> None:
        first, self.rows = self.rows, self.rows + len(rows)
        if self.spool is not None:
            self.spool.write(np.ascontiguousarray(rows, self.dtype).data)
        elif len(rows):
            self.set.resize(self.rows, axis=0)
            self.set[first:] = rows

    def finish(self) -> None:
        if self.spool is None:
            return
        self.set = self.file.create_dataset(self.name, (self.rows, *self.width), self.dtype)
        self.spool.seek(0)
        for first, n in self._parts():
            block = np.frombuffer(self.spool.read(n * self._row_bytes()), self.dtype)
            self.set[first : first + n] = block.reshape(n, *self.width)
        self.spool.close()

    def blocks(self) -> Iterator[np.ndarray]:
        """All rows, some at a time."""
        return (self.set[first : first + n] for first, n in self._parts())

    def _row_bytes(self) -> int:
        return self.dtype.itemsize * math.prod(self.width)

    def _parts(self) -> Iterator[tuple[int, int]]:
        step = max(1, BLOCK_BYTES // self._row_bytes())
        return ((first, min(step, self.rows - first)) for first in range(0, self.rows, step))


class DataFile:
    """One output file. add … add, finish, publish; discard if anything went wrong."""

    def __init__(self, path: str, vocabulary: Vocabulary, length: int, chunk_rows: int | None) -> None:
        self.path, self.partial = path, path + ".tmp"
        self.v, self.length = vocabulary, length
        self.documents = 0
        self.counts = np.zeros(vocabulary.size, np.int64)  # of tokens at scored positions
        dtype = "<u2" if vocabulary.size <= 65536 else "<u4"
        if chunk_rows is None:
            chunk_rows = max(1, CHUNK_BYTES // (length * np.dtype(dtype).itemsize))
        try:
            self.file = h5py.File(self.partial, "w")
        except OSError as e:
            raise InputError(f"{path}: cannot write it: {reason(e)}") from e
        self.tokens = Column(self.file, "tokens", (length,), dtype, chunk_rows)
        self.lengths = Column(self.file, "lengths", (), "<u4", chunk_rows and CHUNK_BYTES // 4)
        self.digest = ""

    @property
    def rows(self) -> int:
        return self.tokens.rows

    @property
    def scored(self) -> int:
        return int(self.counts.sum())

    def add(self, rows: Rows, documents: int) -> None:
        tokens, lengths = rows
        self.documents += documents
        scored = tokens[np.arange(self.length) < lengths[:, None]]
        if np.any(scored == self.v.mask):
            raise InputError("the text encodes to the mask token; name another one by --special mask=TOKEN")
        self.counts += np.bincount(scored, minlength=self.v.size)
        try:
            self.tokens.append(tokens)
            self.lengths.append(lengths)
        except OSError as e:
            raise InputError(f"{self.path}: cannot write it: {reason(e)}") from e

    def finish(self, attributes: dict[str, Any]) -> None:
        """Write what is known at the end, and bring the file to the disk."""
        try:
            self.tokens.finish()
            self.lengths.finish()
            self.digest = self._digest()
            write_vocabulary(self.file, self.v)
            own = {
                "format": "mdlm-data",
                "format_version": 1,
                "documents": self.documents,
                "digest": self.digest,
                "unigram_nats": entropy(self.counts),
                "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            }
            set_attributes(self.file, own | attributes)
            self.file.close()
            seal_append(self.partial)
            with open(self.partial, "rb") as f:
                os.fsync(f.fileno())
        except (OSError, RuntimeError) as e:  # h5py: a full disk shows as either
            raise InputError(f"{self.path}: cannot write it: {reason(e)}") from e

    def publish(self) -> None:
        try:
            os.replace(self.partial, self.path)
        except OSError as e:
            raise InputError(f"{self.path}: cannot write it: {e.strerror}") from e

    def discard(self) -> None:
        """Leave nothing behind; harmless after publish."""
        try:
            self.file.close()
        except (OSError, RuntimeError):
            pass  # the disk may be full; the file goes anyway
        if os.path.exists(self.partial):
            os.remove(self.partial)

    def _digest(self) -> str:
        state = xxhash.xxh3_128()
        for column in (self.tokens, self.lengths):
            for block in column.blocks():
                state.update(np.ascontiguousarray(block, "<u4").data)
        return state.hexdigest()


def write_vocabulary(file: h5py.File, v: Vocabulary) -> h5py.Group:
    """The group /vocab."""
    group = file.create_group("vocab")
    group["bytes"] = np.frombuffer(b"".join(v.tokens), np.uint8)
    group["offsets"] = np.cumsum([0, *map(len, v.tokens)], dtype="<u8")
    if v.definition:
        group["json"] = np.frombuffer(v.definition.encode(), np.uint8)
    set_attributes(
        group,
        {
            "tokenizer": v.name,
            "kind": v.kind,
            "hash": v.hash,
            "size": v.size,
            **{s: getattr(v, s) for s in SPECIALS},
        },
    )
    if v.unknown is not None:
        set_attributes(group, {"unknown": v.unknown})
    return group


def entropy(counts: np.ndarray) -> float:
    """Nat per token of the best unigram model of these counts: −Σ p log p."""
    p = counts[counts > 0] / counts.sum()
    return float(-(p * np.log(p)).sum())


def cross_perplexity(counts: np.ndarray, model: np.ndarray) -> float:
    """Perplexity of tokens with these counts under the unigram model (n + 1) / (N + V) of the counts `model`."""
    log_p = np.log(model + 1.0) - math.log(model.sum() + len(model))
    return math.exp(-float((counts * log_p).sum() / counts.sum()))


def reason(error: Exception) -> str:
    """The system's reason inside an HDF5 library message."""
    found = re.search(r"error message = '([^']*)'", str(error))
    if found:
        return found[1]
    number = getattr(error, "errno", None) or 0
    return os.strerror(number) if number in errno.errorcode else str(error).splitlines()[0]


def set_attributes(at: h5py.Group, values: dict[str, Any]) -> None:
    for name, value in values.items():
        at.attrs[name] = np.int64(value) if isinstance(value, int) else value
