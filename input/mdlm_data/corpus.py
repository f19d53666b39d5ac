"""Documents of a text corpus, one at a time: plain files, .gz files, standard input.

A corpus may be far larger than memory: only one document is held at a time. A pipe that must be read more than once (to
count its documents, to train a tokenizer) is first copied to an unnamed temporary file.
"""

from __future__ import annotations

import codecs
import gzip
import io
import itertools
import os
import stat
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from mdlm_data.errors import InputError

UNITS = ("line", "blank", "file", "chunk")


class Corpus:
    """The documents of some files, in order.

    unit        what a document is: a "line", text between "blank" lines, a "file", a "chunk" of `chunk` characters
    limit       stop after that many documents (None: read all)
    transform   applied to every document (a detokenizer)
    spool_dir   folder for the copy of a pipe that must be read again (None: the corpus is read once)
    """

    def __init__(
        self,
        paths: list[str],
        unit: str,
        *,
        chunk: int = 0,
        keep_newline: bool = False,
        limit: int | None = None,
        transform: Callable[[str], str] = str,
        spool_dir: str | None = None,
    ) -> None:
        self.unit, self.chunk, self.keep_newline = unit, chunk, keep_newline
        self.limit, self.transform = limit, transform
        self.replaced = 0  # invalid bytes replaced in the latest pass
        self._raw: BinaryIO | None = None  # the file being read
        self._before = 0  # bytes of the files already read in this pass
        self._sources = [self._source(p, spool_dir) for p in paths]

    def documents(self) -> Iterator[str]:
        """All documents. Each call starts again from the first (a pipe that was not copied can be read only once)."""
        self.replaced = self._before = 0
        codecs.register_error("prepare-count", self._replace)
        texts = itertools.chain.from_iterable(self._read(path, spool) for path, spool in self._sources)
        return map(self.transform, itertools.islice(texts, self.limit))

    def position(self) -> tuple[int, int | None]:
        """Bytes read in this pass, and bytes in total (None: unknown, for a pipe); for .gz, compressed bytes."""
        here = self._before
        if self._raw is not None and not self._raw.closed:
            with suppress(OSError):  # a pipe has no position
                here += self._raw.tell()
        return here, self.size()

    def size(self) -> int | None:
        sizes = [_size(path if spool is None else spool) for path, spool in self._sources]
        known = [size for size in sizes if size is not None]
        return sum(known) if len(known) == len(sizes) else None

    def _replace(self, error: UnicodeError) -> tuple[str, int]:
        if not isinstance(error, UnicodeDecodeError):
            raise error
        self.replaced += error.end - error.start
        return "\ufffd", error.end

    def _source(self, path: str, spool_dir: str | None) -> tuple[str, BinaryIO | None]:
        """Check that a file can be read; copy a pipe if the corpus will be read again."""
        if path != "-":
            try:
                mode = os.stat(path).st_mode
                if stat.S_ISDIR(mode):
                    raise InputError(f"{path}: is a folder; name the text files in it")
                if not os.access(path, os.R_OK):
                    raise InputError(f"{path}: no permission to read it")
            except OSError as e:
                raise InputError(f"{path}: {e.strerror}") from e
            if stat.S_ISREG(mode):
                return path, None
        return path, None if spool_dir is None else self._spool(path, spool_dir)

    @staticmethod
    def _spool(path: str, spool_dir: str) -> BinaryIO:
        try:
            spool = tempfile.TemporaryFile(dir=spool_dir)
            source = sys.stdin.buffer if path == "-" else open(path, "rb")
            while block := source.read(1 << 20):
                spool.write(block)
            spool.flush()
        except OSError as e:
            raise InputError(f"cannot copy {path} to a temporary file in {spool_dir}: {e.strerror}") from e
        return spool

    def _read(self, path: str, spool: BinaryIO | None) -> Iterator[str]:
        try:
            self._raw = spool or (sys.stdin.buffer if path == "-" else open(path, "rb"))
            if spool:
                spool.seek(0)
            binary = gzip.open(self._raw) if path.endswith(".gz") else self._raw
            text = io.TextIOWrapper(binary, encoding="utf-8-sig", errors="prepare-count", newline="\n")
            try:
                yield from self._split(text)
            finally:
                text.detach()
                self._before += _size(self._raw) or 0
                if path != "-" and spool is None:
                    self._raw.close()
                self._raw = None
        except (gzip.BadGzipFile, EOFError, zlib.error) as e:
            raise InputError(f"{path}: damaged .gz file: {e}") from e
        except OSError as e:
            raise InputError(f"{path}: {e.strerror or e}") from e

    def _split(self, text: io.TextIOWrapper) -> Iterator[str]:
        if self.unit == "file":
            yield text.read()
        elif self.unit == "chunk":
            yield from _chunks(text, self.chunk)
        elif self.unit == "blank":
            yield from _paragraphs(text)
        else:
            yield from (_line(line, self.keep_newline) for line in text)


def _line(line: str, keep_newline: bool) -> str:
    """A line as a document; a line of white space only is an empty document."""
    if line.isspace():
        return ""
    line = line.rstrip("\r\n")
    return line + "\n" if keep_newline else line


def _paragraphs(lines: Iterator[str]) -> Iterator[str]:
    kept: list[str] = []
    for line in lines:
        if not line.isspace():
            kept.append(line.rstrip("\r\n"))
        elif kept:
            yield "\n".join(kept)
            kept = []
    if kept:
        yield "\n".join(kept)


def _chunks(text: io.TextIOWrapper, size: int) -> Iterator[str]:
    """Pieces of `size` characters; the last may be shorter. The final newline of a file is dropped."""
    held = ""
    while piece := text.read(max(size, 1 << 16)):
        held += piece
        full = (len(held) - 1) // size * size  # keeps at least one character back: it may be the final newline
        for i in range(0, full, size):
            yield held[i : i + size]
        held = held[full:]
    held = held.removesuffix("\n")
    if held:
        yield held


def _size(source: str | BinaryIO) -> int | None:
    if source == "-":
        return None
    info = os.stat(source) if isinstance(source, (str, Path)) else os.fstat(source.fileno())
    return info.st_size if stat.S_ISREG(info.st_mode) else None
