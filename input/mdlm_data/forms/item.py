"""What a form gives to the corpus, and what it is told."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

Record = tuple[str, Any]  # the text of a record, and the value of the field of labels


@dataclass
class Counts:
    """What reading changed in the text, in one pass."""

    replaced: int = 0  # invalid or NUL bytes and unpaired surrogates that became U+FFFD


@dataclass(frozen=True)
class TokenRule:
    """How files of token ids are read."""

    size: int  # of the vocabulary: ids are below
    bos: int
    eos: int  # ends, separates or begins documents
    dtype: str  # of a file without header


@dataclass
class Options:
    field: str | None = None  # the field of a record that holds the text
    label_field: str | None = None  # the field that holds its class (None: it is not read)
    plain: bool = False  # JSON lines are read as the text that they are
    tokens: TokenRule | None = None  # files of token ids are expected, and text is refused
    most_invalid: float = 0.01  # share of invalid or NUL bytes above which a file is refused
    folder: str | None = None  # for temporary copies of what must be seekable (None: the system's)
    counts: Counts = dataclasses.field(default_factory=Counts)


@dataclass
class Item:
    """One text, one sequence of records or one sequence of token ids: exactly one of the three is set."""

    name: str
    text: BinaryIO | None = None  # UTF-8, to be split into documents
    records: Iterator[Record] | None = None  # each is a document
    tokens: Iterator[tuple[np.ndarray, bool]] | None = None  # parts of documents, and whether each ends one
