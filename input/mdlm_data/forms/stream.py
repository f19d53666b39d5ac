"""A byte stream whose beginning can be looked at before it is read."""

from __future__ import annotations

import io
import shutil
import tempfile
from typing import Any, BinaryIO

from mdlm_data.errors import InputError

HEAD = 1 << 16  # bytes from which a form is recognised


class Peek(io.RawIOBase):
    """The bytes of `raw`, which need not be seekable; `count` bytes have been read so far."""

    def __init__(self, raw: Any, name: str) -> None:
        self.raw, self.name, self.count = raw, name, 0
        self.begin = b""  # looked at, not read yet

    def head(self, size: int = HEAD) -> bytes:
        while len(self.begin) < size and (block := self.raw.read(size - len(self.begin))):
            self.begin += block
        return self.begin[:size]

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        if self.begin:
            block, self.begin = self.begin[: len(view)], self.begin[len(view) :]
        else:
            block = self.raw.read(len(view))
        view[: len(block)] = block
        self.count += len(block)
        return len(block)

    def buffered(self) -> BinaryIO:
        return io.BufferedReader(self, 1 << 17)

    def seekable_file(self, folder: str | None) -> BinaryIO:
        """The same bytes, nothing of them read yet, as a file that can be read in any order."""
        if isinstance(self.raw, io.BufferedIOBase) and not self.count and is_file(self.raw):
            self.raw.seek(0)
            return self.raw
        try:
            copy = tempfile.TemporaryFile(dir=folder)
            shutil.copyfileobj(self, copy, 1 << 20)
        except OSError as e:
            raise InputError(f"cannot copy {self.name} to a temporary file: {e.strerror or e}") from e
        copy.seek(0)
        return copy


def is_file(stream: Any) -> bool:
    """Whether it is a file of the system that can seek, not a decompressor or a pipe."""
    return isinstance(getattr(stream, "raw", None), io.FileIO) and stream.seekable()
