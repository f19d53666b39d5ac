"""Rows of token ids to text to rows of another tokenizer's ids: the work of mdlm-retokenize."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from dataclasses import dataclass

import h5py
import numpy as np

from mdlm_data.command import warn
from mdlm_data.datafile import DataFile
from mdlm_data.errors import InputError
from mdlm_data.labels import Classes, classes_of
from mdlm_data.seal import sealed_open
from mdlm_data.spelling import Spelling, spelling, spelling_of
from mdlm_data.vocabularies import make_vocabulary
from mdlm_data.vocabulary import Vocabulary

ROWS = 1024  # processed at a time


def retokenize(o: argparse.Namespace, command: str) -> None:
    vocabulary = make_vocabulary(o.tokenizer, o.special)
    rows, truncated = translate(o, vocabulary)
    length = o.length or max(map(len, rows))
    attributes = {
        "wrap": 0,
        "detokenizer": "none",
        "source": os.path.basename(o.input)[:255],
        "split": "retokenized",
        "command": command,
        "document_unit": "row",
        "documents": len(rows),
    }
    classes, labels = labels_of(o.input)
    with DataFile(o.out, vocabulary, length, None, classes is not None) as output:
        for first in range(0, len(rows), ROWS):
            part = slice(first, first + ROWS)
            output.add(padded(rows[part], length, vocabulary.pad), labels[part] if labels is not None else None)
        output.finish(attributes, classes)
        output.publish()
    if truncated:
        warn(o.program, f"{truncated} of {len(rows)} rows were truncated to {length} tokens")
    if not o.quiet:
        real = f"{output.scored} of them not padding"
        print(f"{o.out}: {len(rows)} rows of {length} tokens of {vocabulary.name}, {real}")


def translate(o: argparse.Namespace, target: Vocabulary) -> tuple[list[np.ndarray], int]:
    """All rows in ids of the target, truncated to o.length, and how many were truncated."""
    rows: list[np.ndarray] = []
    truncated = 0
    with Source(o.input, o.vocabulary) as source:
        for texts in source.batches():
            encoded = iter(target.encode([text for row in texts for text in row.texts]))
            for row in texts:
                ids = row.ids([next(encoded) for _ in row.texts], target.eos)
                truncated += o.length is not None and len(ids) > o.length
                rows.append(ids[: o.length])
    return rows, truncated


def labels_of(path: str) -> tuple[Classes | None, np.ndarray | None]:
    """Of a data file whose rows have classes."""
    with sealed_open(path) as f:
        if "label" not in f:
            return None, None
        labels = f["label"][:]
    return classes_of(path), labels


@dataclass(frozen=True)
class Row:
    """The texts of a row, which an eos separates; if the last one is empty, the row ends with an eos."""

    texts: list[str]

    def ids(self, encoded: list, eos: int) -> np.ndarray:
        flat: list[int] = []
        for i, ids in enumerate(encoded):
            flat += [eos] * (i > 0) + list(ids)
        return np.array(flat or [eos], np.uint32)


class Source:
    """The rows of a file of samples or data, and the spelling of its tokens."""

    def __init__(self, path: str, vocabulary: str | None) -> None:
        self.path = path
        self.file = sealed_open(path)
        try:
            self.spelling = self._spelling(vocabulary)
            self.tokens = self._rows()
            self.lengths = self.file["lengths"][:].astype(np.int64) if "lengths" in self.file else None
        except Exception:
            self.file.close()
            raise

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def batches(self) -> Iterator[list[Row]]:
        n = len(self.tokens)
        for first in range(0, n, ROWS):
            tokens = self.tokens[first : first + ROWS].astype(np.int64)
            yield [self._row(first + i, ids) for i, ids in enumerate(tokens)]

    def _row(self, number: int, ids: np.ndarray) -> Row:
        s = self.spelling
        if self.lengths is not None:
            ids = ids[: self.lengths[number]]
        if np.any((ids < 0) | (ids >= len(s.tokens))):
            raise InputError(f"{self.path}: row {number} has ids outside the {len(s.tokens)} tokens of {s.path}")
        if np.any(ids == s.mask):
            raise InputError(f"{self.path}: row {number} is unfinished: it has a mask token")
        ends = np.flatnonzero(ids == s.eos)
        return Row([s.text(part.tolist()) for part in np.split(ids, ends)])

    def _rows(self) -> h5py.Dataset:
        tokens = self.file.get("tokens")
        if not isinstance(tokens, h5py.Dataset) or tokens.ndim != 2 or tokens.dtype.kind not in "iu" or not tokens.size:
            raise InputError(f"{self.path}: no data set /tokens [N,L] of integers")
        return tokens

    def _spelling(self, named: str | None) -> Spelling:
        """From the file that --vocabulary names, else from this file, else from the checkpoint that made it."""
        a = self.file.attrs
        path = named or (self.path if "vocab" in self.file else a.get("checkpoint"))
        if path is None:
            raise InputError(f"{self.path}: names no vocabulary; give a checkpoint or data file by --vocabulary")
        if not os.path.exists(path):
            raise InputError(f"{path}: no such file; name the checkpoint or data file of {self.path} by --vocabulary")
        found = spelling_of(self.file, path) if path == self.path else spelling(path)
        want = self.file["vocab"].attrs["hash"] if "vocab" in self.file else a.get("tokenizer_hash", found.hash)
        if want != found.hash:
            raise InputError(f"{path}: not the vocabulary of {self.path}: hash {found.hash}, expected {want}")
        return found


def padded(rows: list[np.ndarray], length: int, pad: int) -> tuple[np.ndarray, np.ndarray]:
    tokens = np.full((len(rows), length), pad, np.uint32)
    for to, ids in zip(tokens, rows):
        to[: len(ids)] = ids
    return tokens, np.array([len(ids) for ids in rows], np.uint32)
