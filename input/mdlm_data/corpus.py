"""The documents of a corpus, from files of any form (package forms) or standard input.

A corpus may be far larger than memory: documents come in pieces of bounded size. A pipe that must be read more than once
(to count its documents, to train a tokenizer) is first copied to an unnamed temporary file.
"""

from __future__ import annotations

import codecs
import io
import os
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from mdlm_data.documents import Cut, Piece, Unit, bounded, take
from mdlm_data.errors import InputError
from mdlm_data.forms import Counts, Item, Options, expanded, opened
from mdlm_data.forms.stream import Peek
from mdlm_data.labels import Labels

LINE = Unit("line")


class Corpus:
    """The documents of some files, in order.

    unit        what a document is (None: a record, a document of token ids, a text_unit of a text)
    text_unit   what a document of plain text is if unit is None
    options     how forms are read
    limit       stop after that many documents (None: read all)
    spool_dir   folder for the copy of a pipe that must be read again (None: the corpus is read once)
    """

    def __init__(
        self,
        paths: list[str],
        unit: Unit | None = None,
        *,
        text_unit: Unit = LINE,
        options: Options | None = None,
        limit: int | None = None,
        spool_dir: str | None = None,
    ) -> None:
        self.unit, self.text_unit, self.limit, self.options = unit, text_unit, limit, options or Options()
        self.units: set[str] = set()  # what documents were, in the latest pass
        self.labels: Labels | None = None  # gets the class of each document, when that ends (None: it is not needed)
        self._raw: BinaryIO | None = None  # the file being read
        self._before = 0  # bytes of the files already read in this pass
        self._sources = [self._source(file, spool_dir) for path in paths for file in _files(path)]

    @property
    def replaced(self) -> int:
        """Invalid bytes that the latest pass replaced by U+FFFD."""
        return self.options.counts.replaced

    def pieces(self, cut: Cut | None) -> Iterator[Piece]:
        """All documents; with `cut`, long ones in pieces. Each call starts again from the first."""
        self.options.counts = Counts()
        self.units, self._before = set(), 0
        codecs.register_error("prepare-count", self._replace)
        return take((p for path, spool in self._sources for p in self._read(path, spool, cut)), self.limit)

    def texts(self) -> Iterator[str]:
        """The documents of a corpus of text, each whole."""
        return (text for text, _ in self.pieces(None))

    def position(self) -> tuple[int, int | None]:
        """Bytes read in this pass, and bytes in total (None: unknown, for a pipe); as they are stored."""
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
        self.options.counts.replaced += error.end - error.start
        return "\ufffd", error.end

    def _source(self, path: str, spool_dir: str | None) -> tuple[str, BinaryIO | None]:
        """Check that a file can be read; copy a pipe if the corpus will be read again."""
        if path != "-":
            try:
                mode = os.stat(path).st_mode
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

    def _read(self, path: str, spool: BinaryIO | None, cut: Cut | None) -> Iterator[Piece]:
        try:
            self._raw = raw = spool or (sys.stdin.buffer if path == "-" else open(path, "rb"))
            if spool:
                spool.seek(0)
            try:
                for item in opened(Peek(raw, "standard input" if path == "-" else path), self.options):
                    yield from self._documents(item, cut)
            finally:
                self._before += _size(raw) or 0
                if path != "-" and spool is None:
                    raw.close()
                self._raw = None
        except OSError as e:
            raise InputError(f"{path}: {e.strerror or e}") from e

    def _documents(self, item: Item, cut: Cut | None) -> Iterator[Piece]:
        if self.options.label_field and not item.records:
            raise InputError(f"{item.name}: has no fields; --label-field is for records")
        if item.tokens:
            self.units.add("tokens")
            yield from item.tokens
        elif item.records:
            self.units.add(self.unit.name if self.unit else "record")
            for text, label in item.records:
                parts = self.unit.split(io.StringIO(text, "\n")) if self.unit else [(text, True)]
                for piece in bounded(self._clean(parts), cut):
                    if piece[1] and self.labels:
                        self.labels.add(label, item.name)
                    yield piece
        else:
            unit = self.unit or self.text_unit
            self.units.add(unit.name)
            text = io.TextIOWrapper(item.text, encoding="utf-8-sig", errors="prepare-count", newline="\n")
            try:
                yield from bounded(self._clean(unit.split(text)), cut)
            finally:
                text.detach()

    def _clean(self, pieces: Iterator[Piece]) -> Iterator[Piece]:
        """NUL, which no decoder could print, is replaced like an invalid byte."""
        for text, end in pieces:
            if "\0" in text:
                self.options.counts.replaced += text.count("\0")
                text = text.replace("\0", "\ufffd")
            yield text, end


def _files(path: str) -> list[str]:
    return ["-"] if path == "-" else expanded(path)


def _size(source: str | BinaryIO) -> int | None:
    if source == "-":
        return None
    info = os.stat(source) if isinstance(source, (str, Path)) else os.fstat(source.fileno())
    return info.st_size if stat.S_ISREG(info.st_mode) else None
