"""A data set of an HDF5 file that grows by rows."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Iterator
from typing import Any, BinaryIO

import h5py
import numpy as np

BLOCK_BYTES = 1 << 22  # read at a time


class Column:
    """A data set that grows by rows.

    It is chunked, with checksums, or (chunk_rows = 0) contiguous. Contiguous rows go to a temporary file until their
    number is known.
    """

    def __init__(self, file: h5py.File, name: str, width: tuple[int, ...], dtype: str, chunk_rows: int) -> None:
        self.file, self.name, self.width, self.dtype = file, name, width, np.dtype(dtype)
        self.rows = 0
        self.spool: BinaryIO | None = None
        self.set: Any = None  # the h5py data set; None while the rows are in the temporary file
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
        """All rows, in blocks of bounded size."""
        return (self.set[first : first + n] for first, n in self._parts())

    def _row_bytes(self) -> int:
        return self.dtype.itemsize * math.prod(self.width)

    def _parts(self) -> Iterator[tuple[int, int]]:
        step = max(1, BLOCK_BYTES // self._row_bytes())
        return ((first, min(step, self.rows - first)) for first in range(0, self.rows, step))
