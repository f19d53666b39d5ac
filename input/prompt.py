#!/usr/bin/env python3
"""prompt.py — text with holes → the HDF5 file of prompts that `mdlm sample` fills in (sample.prompt)."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import sys
from collections.abc import Iterator
from datetime import datetime, timezone

try:
    import h5py
    import numpy as np

    from corpus import Corpus
    from datafile import reason
    from errors import InputError
    from options import Parser, check_paths, require
    from seal import seal_append
    from vocabularies import Vocabulary, make_vocabulary
except ModuleNotFoundError as missing:
    sys.exit(
        f"prompt.py: error: Python package {missing.name!r} is missing: run `make setup` and use .venv/bin/python, "
        "or pip install -r input/requirements.txt"
    )

HOLE = re.compile(r"(?:\[MASK\]|____)(?:\{(\d+)\})?")
MOST = 1 << 20  # tokens of a prompt

NOTES = """\
A line is a prompt; an empty one leaves everything open. [MASK] or ____ (four underscores) is a hole of one token,
[MASK]{12} or ____{12} one of twelve; what follows the last token of a line is a hole too. The other text is fixed.
Byte-level tokens begin with their blank, so a blank before a hole belongs to the hole. A prompt begins with the bos
token, as the rows of the data do, unless --no-bos is given; with --eos it ends with the eos token.

examples:
  prompt.py prompts.txt --data train.h5 --out prompts.h5
  echo 'And God said, ____{8} and there was light.' | prompt.py - --data train.h5 --out prompts.h5
  mdlm sample deck.cfg sample.prompt=prompts.h5 sample.count=16

The output appears under its name when it is complete. Exit status: 0, 2 for an error."""


def main(argv: list[str]) -> int:
    try:
        o = parse(argv)
        vocabulary = make_vocabulary(f"data:{o.data}")
        corpus = Corpus(o.inputs, "line")
        rows = [tokenize(line, vocabulary, o, f"prompt {i}") for i, line in enumerate(corpus.documents())]
        if not rows:
            raise InputError("there is no prompt: give a line of text for each")
        write(rows, vocabulary, o, "prompt.py " + shlex.join(argv))
        report(rows, vocabulary, corpus, o)
        return 0
    except InputError as e:
        message = e
    except (OSError, MemoryError) as e:
        message = e or "out of memory"
    print(f"prompt.py: error: {message}", file=sys.stderr)
    return 2


def tokenize(line: str, v: Vocabulary, o: argparse.Namespace, name: str) -> list[int]:
    """The token ids of a prompt, the mask id at holes."""
    ids = [v.bos] if o.bos else []
    for piece in pieces(line, v.kind):
        ids += [v.mask] * piece if isinstance(piece, int) else fixed(piece, v, name)
        if len(ids) > MOST:
            raise InputError(f"{name} has more than {MOST} tokens; make its holes smaller")
    return ids + [v.eos] if o.eos else ids


def pieces(line: str, kind: str) -> Iterator[str | int]:
    """Text, and sizes of the holes between."""
    at = 0
    for hole in HOLE.finditer(line):
        text = line[at : hole.start()]
        yield text.removesuffix(" ") if kind == "byte_bpe" else text
        size = min(int(hole[1] or 1), MOST + 1)
        require(size, f"{hole[0]}: a hole has one token or more")
        yield size
        at = hole.end()
    yield line[at:]


def fixed(text: str, v: Vocabulary, name: str) -> list[int]:
    ids = [int(i) for i in v.encode([text])[0]] if text else []
    if v.mask in ids:
        raise InputError(f"{name}: {text!r} encodes to the mask token, which marks holes")
    return ids


def write(rows: list[list[int]], v: Vocabulary, o: argparse.Namespace, command: str) -> None:
    tokens = np.full((len(rows), max(1, *map(len, rows))), v.mask, np.int32)
    for to, row in zip(tokens, rows):
        to[: len(row)] = row
    partial = o.out + ".tmp"
    try:
        with h5py.File(partial, "w") as f:
            f["tokens"] = tokens
            f["tokens"].attrs["description"] = "token ids, one prompt a row; the mask id is a hole"
            f.attrs.update(
                {
                    "format": "mdlm-prompts",
                    "format_version": np.int64(1),
                    "tokenizer": v.name,
                    "tokenizer_hash": v.hash,
                    "mask": np.int64(v.mask),
                    "command": command,
                    "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
                }
            )
        seal_append(partial)
        os.replace(partial, o.out)
    except (OSError, RuntimeError) as e:
        if os.path.exists(partial):
            os.remove(partial)
        raise InputError(f"{o.out}: cannot write it: {reason(e)}") from e


def report(rows: list[list[int]], v: Vocabulary, corpus: Corpus, o: argparse.Namespace) -> None:
    with h5py.File(o.data, "r") as f:
        length = f["tokens"].shape[1]
    longest = max(range(len(rows)), key=lambda i: len(rows[i]))
    unknown = [i for i, row in enumerate(rows) if v.unknown is not None and v.unknown in row]
    if corpus.replaced:
        warn(f"{corpus.replaced} invalid UTF-8 byte(s) replaced by U+FFFD")
    if unknown:
        warn(f"prompt {unknown[0]} holds text that is unknown to the vocabulary {v.name}")
    if len(rows[longest]) > length:
        warn(
            f"prompt {longest} has {len(rows[longest])} tokens, the rows of {o.data} {length}: "
            "samples are so long with sample.num_strides only"
        )
    if not o.quiet:
        holes = sum(row.count(v.mask) for row in rows)
        print(f"{len(rows)} prompts of at most {len(rows[longest])} tokens, {holes} holes in them: {o.out}")


def warn(text: str) -> None:
    print(f"prompt.py: warning: {text}", file=sys.stderr)


# ---- options


def parse(argv: list[str]) -> argparse.Namespace:
    p = Parser(
        prog="prompt.py", description="Tokenize text with holes into prompts for mdlm sample.", epilog=NOTES
    )
    p.add_argument("inputs", nargs="+", metavar="TEXT", help="UTF-8 text, plain or .gz; - is standard input")
    p.add_argument("--data", required=True, metavar="FILE.h5", help="data file whose tokenizer is used")
    p.add_argument("--out", required=True, metavar="FILE.h5", help="the file of prompts")
    p.add_argument(
        "--bos", action=argparse.BooleanOptionalAction, default=True, help="begin with the bos token (default: --bos)"
    )
    p.add_argument("--eos", action="store_true", help="end with the eos token")
    p.add_argument("--quiet", action="store_true", help="no summary")
    o = p.parse_args(argv)
    require(o.inputs.count("-") < 2, "- is given twice; standard input is read once")
    check_paths([o.out], [*o.inputs, o.data])
    return o


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
