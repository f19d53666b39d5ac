"""The tokenized data file: HDF5, format "mdlm-data" version 1, documented at the head of src/store/shards.h.

A file is written under NAME.tmp and renamed when it is complete, so that a half-written NAME never exists.
"""

from __future__ import annotations

import os
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import h5py
import numpy as np
import xxhash

from mdlm_data.column import Column
from mdlm_data.errors import InputError, no_room, reason
from mdlm_data.fidelity import Loss
from mdlm_data.framing import Account, Rows
from mdlm_data.labels import Classes, Labels
from mdlm_data.output import flush_to_disk
from mdlm_data.seal import seal_append
from mdlm_data.unigram import entropy
from mdlm_data.vocabulary import Vocabulary
from mdlm_data.vocabulary_group import set_attributes, write_vocabulary

CHUNK_BYTES = 1 << 16


class DataFile:
    """One output file: add … add, finish, publish. As a context manager it discards a file that was not published."""

    def __init__(
        self, path: str, vocabulary: Vocabulary, length: int, chunk_rows: int | None, labelled: bool = False
    ) -> None:
        self.path, self.partial = path, path + ".tmp"
        self.v, self.length = vocabulary, length
        self.loss = Loss()
        self.counts = np.zeros(vocabulary.size, np.int64)  # of tokens at scored positions
        self.account = Account()
        dtype = "<u2" if vocabulary.size <= 65536 else "<u4"
        if chunk_rows is None:
            chunk_rows = max(1, CHUNK_BYTES // (length * np.dtype(dtype).itemsize))
        try:
            self.file = h5py.File(self.partial, "w", locking=False)
        except OSError as e:
            if no_room(e):  # the name was made all the same
                with suppress(FileNotFoundError):
                    os.remove(self.partial)
            raise InputError(f"{path}: cannot write it: {reason(e)}") from e
        self.tokens = Column(self.file, "tokens", (length,), dtype, chunk_rows)
        self.lengths = Column(self.file, "lengths", (), "<u4", chunk_rows and CHUNK_BYTES // 4)
        self.label = Column(self.file, "label", (), "<i4", chunk_rows and CHUNK_BYTES // 4) if labelled else None
        self.digest = ""

    @property
    def rows(self) -> int:
        return self.tokens.rows

    @property
    def scored(self) -> int:
        return int(self.counts.sum())

    def add(self, rows: Rows, labels: np.ndarray | None = None) -> None:
        tokens, lengths = rows
        scored = tokens[np.arange(self.length) < lengths[:, None]]
        if np.any(scored == self.v.mask):
            raise InputError("the text encodes to the mask token; name another one by --special mask=TOKEN")
        self.counts += np.bincount(scored, minlength=self.v.size)
        try:
            self.tokens.append(tokens)
            self.lengths.append(lengths)
            if self.label:
                self.label.append(labels)
        except OSError as e:
            raise InputError(f"{self.path}: cannot write it: {reason(e)}") from e

    def finish(self, attributes: dict[str, Any], classes: Classes | None = None, labels: Labels | None = None) -> None:
        """Write the vocabulary and the attributes, close the file and flush it to the disk. `labels`: provisional ones."""
        try:
            self.tokens.finish()
            self.lengths.finish()
            if self.label and classes:
                self._finish_labels(self.label, classes, labels)
            self.digest = self._digest()
            write_vocabulary(self.file, self.v)
            own = {
                "format": "mdlm-data",
                "format_version": 1,
                "digest": self.digest,
                "unigram_nats": entropy(self.counts),
                "created": datetime.now(UTC).isoformat(timespec="seconds"),
            }
            set_attributes(self.file, own | attributes)
            self.file.close()
            seal_append(self.partial)
            flush_to_disk(self.partial)
        except (OSError, RuntimeError) as e:  # h5py raises either on a full disk
            raise InputError(f"{self.path}: cannot write it: {reason(e)}") from e

    def publish(self) -> None:
        try:
            os.replace(self.partial, self.path)
        except OSError as e:
            raise InputError(f"{self.path}: cannot write it: {e.strerror}") from e

    def __enter__(self) -> DataFile:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError, RuntimeError):  # the disk may be full
            self.file.close()
        with suppress(FileNotFoundError):  # it was published
            os.remove(self.partial)

    def _digest(self) -> str:
        state = xxhash.xxh3_128()
        for column in filter(None, (self.tokens, self.lengths, self.label)):
            for block in column.blocks():
                state.update(np.ascontiguousarray(block.astype("<u4", copy=False)).data)
        return state.hexdigest()

    @staticmethod
    def _finish_labels(column: Column, classes: Classes, labels: Labels | None) -> None:
        column.finish()
        first = 0
        for block in column.blocks():
            if labels:
                column.set[first : first + len(block)] = labels.final(block)
            first += len(block)
        column.set.attrs["classes"] = classes.count
        column.set.attrs["names"] = "\n".join(classes.names)
