#!/usr/bin/env python3
"""retokenize.py — rows of token ids → text → rows of another tokenizer's ids, for `mdlm score`."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass

try:
    from datafile import DataFile
    from errors import InputError
    from options import Parser, check_paths, require, special_tokens
    from seal import sealed_open
    from texts import Spelling, spelling, spelling_of
    from vocabularies import Vocabulary, make_vocabulary
except ModuleNotFoundError as missing:
    sys.exit(
        f"retokenize.py: error: Python package {missing.name!r} is missing: run `make setup` and use .venv/bin/python, "
        "or pip install -r input/requirements.txt"
    )

import h5py
import numpy as np

NOTES = """\
A row stays a row: its text in the other tokenizer's ids. An eos stays an eos and ends a text there too; other special
tokens vanish, and so does what lies behind a row's length. A row without any text becomes a lone eos. Rows are padded
to the longest, or to --length; pads are not scored.

examples:
  retokenize.py runs/lm1b/samples.h5 --tokenizer gpt2:vocab.json,merges.txt --length 1024 --out samples_gpt2.h5
  mdlm score deck.cfg score.checkpoint=gpt2_large.h5 score.input=samples_gpt2.h5

The output appears under its name when it is complete. Exit status: 0, 2 for an error."""

ROWS = 1024  # that are in work at a time


def main(argv: list[str]) -> int:
    output: DataFile | None = None
    try:
        o = parse(argv)
        vocabulary = make_vocabulary(o.tokenizer, o.special)
        rows, cut = translate(o, vocabulary)
        length = o.length or max(map(len, rows))
        output = DataFile(o.out, vocabulary, length, None)
        for first in range(0, len(rows), ROWS):
            output.add(padded(rows[first : first + ROWS], length, vocabulary.pad), len(rows[first : first + ROWS]))
        output.finish(
            {
                "wrap": 0,
                "detokenizer": "none",
                "source": os.path.basename(o.input)[:255],
                "split": "retokenized",
                "command": "retokenize.py " + shlex.join(argv),
                "document_unit": "row",
            }
        )
        output.publish()
    except (InputError, OSError, MemoryError) as e:
        if output is not None:
            output.discard()
        print(f"retokenize.py: error: {e or 'out of memory'}", file=sys.stderr)
        return 2
    if cut:
        print(f"retokenize.py: warning: {cut} of {len(rows)} rows were cut to {length} tokens", file=sys.stderr)
    if not o.quiet:
        print(f"{o.out}: {len(rows)} rows of {length} tokens, {output.scored} real ones, of {vocabulary.name}")
    return 0


def translate(o: argparse.Namespace, target: Vocabulary) -> tuple[list[np.ndarray], int]:
    """All rows in the target's ids, cut to o.length, and how many were cut."""
    rows: list[np.ndarray] = []
    cut = 0
    with Source(o.input, o.vocabulary) as source:
        for texts in source.batches():
            encoded = iter(target.encode([text for row in texts for text in row.texts]))
            for row in texts:
                ids = row.ids([next(encoded) for _ in row.texts], target.eos)
                cut += o.length is not None and len(ids) > o.length
                rows.append(ids[: o.length])
    return rows, cut


@dataclass(frozen=True)
class Row:
    """Texts with an eos between every two of them; an empty last one: the row ends with an eos."""

    texts: list[str]

    def ids(self, encoded: list, eos: int) -> np.ndarray:
        flat: list[int] = []
        for i, ids in enumerate(encoded):
            flat += [eos] * (i > 0) + list(ids)
        return np.array(flat or [eos], np.uint32)


class Source:
    """The rows of a file of samples or of data, with the spelling of its vocabulary."""

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
            raise InputError(f"{self.path}: row {number} has ids beyond the {len(s.tokens)} tokens of {s.path}")
        if np.any(ids == s.mask):
            raise InputError(f"{self.path}: row {number} is unfinished: it has a mask token")
        ends = np.flatnonzero(ids == s.eos)
        return Row([s.text(part.tolist()) for part in np.split(ids, ends)])

    def _rows(self) -> h5py.Dataset:
        tokens = self.file.get("tokens")
        if not isinstance(tokens, h5py.Dataset) or tokens.ndim != 2 or tokens.dtype.kind not in "iu" or not tokens.size:
            raise InputError(f"{self.path}: no data set /tokens [N,L] of whole numbers")
        return tokens

    def _spelling(self, named: str | None) -> Spelling:
        """Of the file named, else of this one, else of the checkpoint that made it."""
        a = self.file.attrs
        path = named or (self.path if "vocab" in self.file else a.get("checkpoint"))
        if path is None:
            raise InputError(f"{self.path}: names no vocabulary; give a checkpoint or data file by --vocabulary")
        if not os.path.exists(path):
            raise InputError(f"{path}: no such file; name the checkpoint or data file of {self.path} by --vocabulary")
        found = spelling_of(self.file, path) if path == self.path else spelling(path)
        want = self.file["vocab"].attrs["hash"] if "vocab" in self.file else a.get("tokenizer_hash", found.hash)
        if want != found.hash:
            raise InputError(f"{path}: another vocabulary than that of {self.path}: {found.hash}, not {want}")
        return found


def padded(rows: list[np.ndarray], length: int, pad: int) -> tuple[np.ndarray, np.ndarray]:
    tokens = np.full((len(rows), length), pad, np.uint32)
    for to, ids in zip(tokens, rows):
        to[: len(ids)] = ids
    return tokens, np.array([len(ids) for ids in rows], np.uint32)


# ---- options


def parser() -> argparse.ArgumentParser:
    p = Parser(
        prog="retokenize.py",
        description="Translate samples or data from one tokenizer's ids into another's.",
        epilog=NOTES,
    )
    p.add_argument("input", metavar="FILE.h5", help="samples of `mdlm sample`, or a data file")
    p.add_argument(
        "--tokenizer", required=True, metavar="KIND:…", help="the other one, as prepare.py takes it"
    )
    p.add_argument("--special", action="append", default=[], metavar="ROLE=TOKEN", help="with json:, as in prepare.py")
    p.add_argument(
        "--length", type=int, metavar="L", help="tokens in a row; longer texts are cut (default: the longest text's)"
    )
    p.add_argument(
        "--vocabulary",
        metavar="FILE.h5",
        help="checkpoint or data file with the vocabulary of the input (default: its own, or its checkpoint's)",
    )
    p.add_argument("--out", required=True, metavar="FILE.h5", help="the data file")
    p.add_argument("--quiet", action="store_true", help="no summary")
    return p


def parse(argv: list[str]) -> argparse.Namespace:
    o = parser().parse_args(argv)
    require(o.length is None or 2 <= o.length <= 1 << 20, f"--length {o.length}: a row has 2 to {1 << 20} tokens")
    o.special = special_tokens(o.special)
    check_paths([o.out], [o.input, *o.tokenizer.partition(":")[2].split(",")])
    return o


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
