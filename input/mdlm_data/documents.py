"""Texts to documents, which come in pieces of bounded size, so that memory does not grow with a line or a file."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

Piece = tuple[str | np.ndarray, bool]  # text or token ids, and whether the document ends with it
Cut = Callable[[str, int], int]  # (text, limit): where to cut the text, from 1 to limit

UNITS = ("line", "blank", "file", "chunk")
PIECE = 1 << 18  # characters of a piece, about
READ = 1 << 16  # characters read at a time


@dataclass(frozen=True)
class Unit:
    """What a document is: a "line", text between "blank" lines, a "file", a "chunk" of `chunk` characters."""

    name: str
    chunk: int = 0
    keep_newline: bool = False

    def split(self, text: io.TextIOBase) -> Iterator[Piece]:
        if self.name == "file":
            yield from _whole(text)
        elif self.name == "chunk":
            yield from ((piece, True) for piece in _chunks(text, self.chunk))
        elif self.name == "blank":
            yield from _paragraphs(text)
        else:
            yield from _lines(text, self.keep_newline)


def cut_at_blank(text: str, limit: int) -> int:
    """Before the last blank between two words, where any tokenizer splits; at the limit if there is none near."""
    for at in range(limit, max(limit - READ, 1), -1):
        if text[at : at + 1] == " " and not text[at - 1].isspace() and text[at + 1 : at + 2].isalnum():
            return at
    return limit


def bounded(fragments: Iterable[Piece], cut: Cut | None) -> Iterator[Piece]:
    """Join the fragments of each document; with `cut`, a long document becomes pieces of about PIECE characters."""
    held: list[str] = []
    size = 0
    for fragment, end in fragments:
        held.append(fragment)
        size += len(fragment)
        if not end and not (cut and size > PIECE + READ):
            continue
        text, at = held[0] if len(held) == 1 else "".join(held), 0
        while cut and len(text) - at > PIECE + READ:
            to = at + cut(text[at : at + PIECE + READ], PIECE)
            yield text[at:to], False
            at = to
        text = text[at:]
        if end:
            yield text, True
        held, size = ([], 0) if end else ([text], len(text))


def take(pieces: Iterator[Piece], documents: int | None) -> Iterator[Piece]:
    """The pieces of the next documents; None: of all."""
    while documents is None or documents > 0:
        piece = next(pieces, None)
        if piece is None:
            return
        yield piece
        documents = documents - piece[1] if documents is not None else None


def _lines(text: io.TextIOBase, keep_newline: bool) -> Iterator[Piece]:
    """Each line; a line of white space only is an empty document."""
    begins, held = True, ""
    while line := text.readline(READ):
        line, held = held + line, ""
        end = line.endswith("\n") or len(line) < READ
        if begins and end and line.isspace():
            line = ""
        elif end:
            line = line.rstrip("\r\n") + "\n" * keep_newline
        else:  # these may stand before the newline
            held = line[len(line.rstrip("\r")) :]
            line = line.removesuffix(held)
        yield line, end
        begins = end
    if not begins:
        yield "\n" * keep_newline, True


def _paragraphs(text: io.TextIOBase) -> Iterator[Piece]:
    begins, inside = True, False
    for fragment, end in _lines(text, False):
        if begins and end and not fragment:
            if inside:
                yield "", True
            inside = False
        else:
            yield "\n" * (begins and inside) + fragment, False
            inside = True
        begins = end
    if inside:
        yield "", True


def _whole(text: io.TextIOBase) -> Iterator[Piece]:
    while piece := text.read(READ):
        yield piece, False
    yield "", True


def _chunks(text: io.TextIOBase, size: int) -> Iterator[str]:
    """Pieces of `size` characters; the last may be shorter. The final newline of a file is dropped."""
    held = ""
    while piece := text.read(max(size, READ)):
        held += piece
        full = (len(held) - 1) // size * size  # keeps at least one character back: it may be the final newline
        for i in range(0, full, size):
            yield held[i : i + size]
        held = held[full:]
    held = held.removesuffix("\n")
    if held:
        yield held
