"""Text with holes to a file of prompts: the work of mdlm-prompt."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from datetime import UTC, datetime

import h5py
import numpy as np

from mdlm_data.command import warn
from mdlm_data.corpus import Corpus
from mdlm_data.documents import Unit
from mdlm_data.errors import InputError, reason, require
from mdlm_data.output import replacing
from mdlm_data.seal import seal_append
from mdlm_data.vocabularies import make_vocabulary
from mdlm_data.vocabulary import Vocabulary
from mdlm_data.vocabulary_group import set_attributes

HOLE = re.compile(r"(?:\[MASK\]|____)(?:\{(\d+)\})?")
MOST = 1 << 20  # tokens of a prompt


def make_prompts(o: argparse.Namespace, command: str) -> None:
    vocabulary = make_vocabulary(f"data:{o.data}")
    corpus = Corpus(o.inputs, Unit("line"))
    rows = [tokenize(line, vocabulary, o, f"prompt {i}") for i, line in enumerate(corpus.texts())]
    require(rows, "there is no prompt: give one line of text per prompt")
    write(rows, vocabulary, o, command)
    report(rows, vocabulary, corpus, o)


def tokenize(line: str, v: Vocabulary, o: argparse.Namespace, name: str) -> list[int]:
    """The token ids of a prompt, the mask id at holes."""
    ids = [v.bos] if o.bos else []
    for piece in pieces(line, v.kind):
        ids += [v.mask] * piece if isinstance(piece, int) else fixed(piece, v, name)
        if len(ids) > MOST:
            raise InputError(f"{name} has more than {MOST} tokens; make its holes smaller")
    return ids + [v.eos] if o.eos else ids


def pieces(line: str, kind: str) -> Iterator[str | int]:
    """The texts of a line, and between them the sizes of its holes."""
    at = 0
    for hole in HOLE.finditer(line):
        text = line[at : hole.start()]
        yield text.removesuffix(" ") if kind == "byte_bpe" else text
        size = min(int(hole[1] or 1), MOST + 1)
        require(size, f"{hole[0]}: a hole has at least one token")
        yield size
        at = hole.end()
    yield line[at:]


def fixed(text: str, v: Vocabulary, name: str) -> list[int]:
    ids = [int(i) for i in v.encode([text])[0]] if text else []
    if v.mask in ids:
        raise InputError(f"{name}: {text!r} encodes to the mask token, which stands for a hole")
    return ids


def write(rows: list[list[int]], v: Vocabulary, o: argparse.Namespace, command: str) -> None:
    tokens = np.full((len(rows), max(1, *map(len, rows))), v.mask, np.int32)
    for to, row in zip(tokens, rows):
        to[: len(row)] = row
    attributes = {
        "format": "mdlm-prompts",
        "format_version": 1,
        "tokenizer": v.name,
        "tokenizer_hash": v.hash,
        "mask": v.mask,
        "command": command,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    try:
        with replacing(o.out) as partial:
            with h5py.File(partial, "w", locking=False) as f:
                f["tokens"] = tokens
                f["tokens"].attrs["description"] = "token ids, one prompt a row; the mask id is a hole"
                set_attributes(f, attributes)
            seal_append(partial)
    except (OSError, RuntimeError) as e:
        raise InputError(f"{o.out}: cannot write it: {reason(e)}") from e


def report(rows: list[list[int]], v: Vocabulary, corpus: Corpus, o: argparse.Namespace) -> None:
    for text in warnings(rows, v, corpus, o.data):
        warn(o.program, text)
    if not o.quiet:
        holes = sum(row.count(v.mask) for row in rows)
        print(f"{o.out}: {len(rows)} prompts of at most {max(map(len, rows))} tokens, with {holes} holes")


def warnings(rows: list[list[int]], v: Vocabulary, corpus: Corpus, data: str) -> Iterator[str]:
    with h5py.File(data, "r", locking=False) as f:
        length = f["tokens"].shape[1]
    longest = max(range(len(rows)), key=lambda i: len(rows[i]))
    unknown = [i for i, row in enumerate(rows) if v.unknown is not None and v.unknown in row]
    if corpus.replaced:
        yield f"{corpus.replaced} invalid UTF-8 byte(s) replaced by U+FFFD"
    if unknown:
        yield f"prompt {unknown[0]} has text that is unknown to the vocabulary {v.name}"
    if len(rows[longest]) > length:
        yield (
            f"prompt {longest} has {len(rows[longest])} tokens, the rows of {data} have {length}: "
            "longer samples need sample.num_strides"
        )
