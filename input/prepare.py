#!/usr/bin/env python3
"""prepare.py — text → tokenized HDF5 data files for `mdlm`."""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import sys
from collections.abc import Iterator
from itertools import chain, islice
from typing import Any

try:
    from corpus import UNITS, Corpus
    from datafile import DataFile, cross_perplexity, entropy
    from detokenizers import TABLES, detokenizer
    from errors import InputError
    from framing import Unwrapped, Wrapped, blocks
    from options import Parser, check_paths, require, special_tokens
    from progress import Progress
    from vocabularies import Vocabulary, make_vocabulary
except ModuleNotFoundError as missing:
    sys.exit(
        f"prepare.py: error: Python package {missing.name!r} is missing: run `make setup` and use .venv/bin/python, "
        "or pip install -r input/requirements.txt"
    )

import numpy as np

BPE_SAMPLE = 256 << 20  # bytes of text that a BPE is trained on at most

NOTES = """\
tokenizers:
  bpe:SIZE           train a byte-level BPE on the (training) text: V = SIZE, or less if the text is too small for it.
                     Ids: 256 bytes, merges, then V-2 <|endoftext|> = bos = eos and V-1 [MASK] = pad.
                     Texts over 256 MiB are sampled at a regular stride for the training.
  gpt2:VOCAB,MERGES  GPT-2's vocab.json and merges.txt: V = 50258, [MASK] = pad = 50257 is appended, bos = eos = 50256.
  bert:VOCAB         lower-casing WordPiece, such as bert-base-uncased's vocab.txt: mask [MASK], bos [CLS], eos [SEP],
                     pad [PAD].
  json:FILE          a Hugging Face tokenizer.json; special tokens by their usual names or --special. No mask there:
                     one is appended.
  text8              a-z and blank, V = 35; anything else is [UNK].
  data:FILE.h5       the tokenizer stored in another data file, for a further corpus in the same ids.
  Text never becomes a special token: "[MASK]" in a corpus gets its characters' ordinary tokens.

rows:
  --wrap     each document's tokens + eos, all joined, cut into blocks of L-2, each framed bos ... eos. The remainder is
             dropped; a text shorter than one block becomes one padded row.
  --no-wrap  one document a row: bos ... eos, cut to L-2 tokens so that eos survives, padded; pads are not scored.
  An empty line (or one of white space only) is a document: a lone eos when wrapped, the row [bos eos] when not.

examples:
  prepare.py bible.txt --tokenizer bpe:4096 --length 128 --valid-documents 1500 \\
             --out-train train.h5 --out-valid valid.h5
  zcat news/*.gz | prepare.py - --tokenizer bert:vocab.txt --length 128 --no-wrap --detokenizer lm1b \\
             --source lm1b --split test --out lm1b_test.h5
  prepare.py owt.txt.gz --documents blank --tokenizer gpt2:vocab.json,merges.txt --length 1024 \\
             --valid-documents 100000 --out-train owt_train.h5 --out-valid owt_valid.h5
  prepare.py wiki.valid.raw --tokenizer gpt2:vocab.json,merges.txt --length 1024 --detokenizer wikitext \\
             --keep-newline --source wikitext2 --split validation --out wikitext2.h5
  head -c 90000000 text8 | prepare.py - --tokenizer text8 --length 512 --out text8_train.h5   (data.crop takes L = 256)
  prepare.py other.txt --tokenizer data:train.h5 --length 128 --out other.h5

An output appears under its name when it is complete, in place of a file that had that name; a failed or interrupted run
leaves none. Exit status: 0, 2 for an error, 130 when interrupted."""


def main(argv: list[str]) -> int:
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # nohup
            signal.signal(number, _interrupt)
    outputs: list[DataFile] = []
    try:
        options = parse(argv)
        prepare(options, outputs, "prepare.py " + shlex.join(argv))
        return 0
    except InputError as e:
        message, status = f"error: {e}", 2
    except (OSError, MemoryError) as e:
        message, status = f"error: {e or 'out of memory'}", 2
    except KeyboardInterrupt:
        message, status = "interrupted; no file was written", 130
    for output in outputs:
        output.discard()
    clear = "\r\033[K" if sys.stderr.isatty() else ""
    print(f"{clear}prepare.py: {message}", file=sys.stderr, flush=True)
    sys.stdout.flush()
    os._exit(status)  # HDF5 would try once more to flush a file that a full disk refused, and complain


def prepare(o: argparse.Namespace, outputs: list[DataFile], command: str) -> None:
    """The whole job: count if there is a split, make the vocabulary, tokenize, finish, publish."""
    split = o.out is None
    passes_over = split or o.tokenizer.startswith("bpe:")
    corpus = Corpus(
        o.inputs,
        o.documents,
        chunk=o.chunk or o.length,
        keep_newline=o.keep_newline,
        limit=o.limit,
        transform=detokenizer(o.detokenizer),
        spool_dir=_folder(o.out or o.out_train) if passes_over else None,
    )
    n_train = count_training(corpus, o) if split else None
    vocabulary = make_vocabulary(
        o.tokenizer, o.special, o.eos_is_bos, lambda: training_sample(corpus, n_train, o.quiet)
    )

    names = {"train": o.out_train, "valid": o.out_valid} if split else {o.split: o.out}
    progress = Progress("tokenizing", corpus, o.quiet)
    texts = progress.watch(corpus.documents())
    for path, n in zip(names.values(), (n_train, None)):
        outputs.append(DataFile(path, vocabulary, o.length, o.chunk_rows))
        tokenize(islice(texts, n), vocabulary, o, outputs[-1])
    progress.end()
    frame = np.isin(np.arange(vocabulary.size), (vocabulary.bos, vocabulary.eos))
    if not any(f.counts[~frame].any() for f in outputs):
        raise InputError("the corpus holds no text")

    attributes = {
        "wrap": int(o.wrap),
        "detokenizer": o.detokenizer,
        "source": o.source,
        "command": command,
        "document_unit": o.documents + ("+newline" if o.keep_newline else ""),
    }
    for name, output in zip(names, outputs):
        if not output.rows:
            raise InputError(f"{output.path}: not one row of text; check the corpus and the split")
        more: dict[str, Any] = {"split": name}
        if output is not outputs[0]:
            more["unigram_ppl_train"] = cross_perplexity(output.counts, outputs[0].counts)
        output.finish(attributes | more)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # from here on both files or none
    for output in outputs:
        output.publish()
    report(dict(zip(names, outputs)), vocabulary, corpus, o)


def count_training(corpus: Corpus, o: argparse.Namespace) -> int:
    """How many documents come before the validation part, the last ones."""
    progress = Progress("counting", corpus, o.quiet)
    n = sum(1 for _ in progress.watch(corpus.documents()))
    progress.end()
    n_valid = o.valid_documents if o.valid_documents else max(1, round(n * o.valid_fraction))
    if not n:
        raise InputError("the corpus is empty")
    if n_valid >= n:
        raise InputError(
            f"{n_valid} validation documents of {n}: nothing is left to train on; ask for fewer, or check --documents"
        )
    return n - n_valid


def training_sample(corpus: Corpus, n_train: int | None, quiet: bool) -> Iterator[str]:
    """The text a BPE is trained on: the training documents, every k-th of them if they are very many."""
    size = corpus.size() or 0
    progress = Progress("training the BPE", corpus, quiet)
    texts = progress.watch(corpus.documents())
    first = next(texts, None)
    if first is None:
        raise InputError("the corpus is empty")
    yield from islice(chain([first], texts), 0, n_train, 1 + size // BPE_SAMPLE)
    progress.end()


def tokenize(texts: Iterator[str], vocabulary: Vocabulary, o: argparse.Namespace, output: DataFile) -> None:
    framing = Wrapped(vocabulary, o.length) if o.wrap else Unwrapped(vocabulary, o.length)
    for batch in blocks(texts):
        output.add(framing.add(vocabulary.encode(batch)), len(batch))
    output.add(framing.end(), 0)


def report(outputs: dict[str, DataFile], vocabulary: Vocabulary, corpus: Corpus, o: argparse.Namespace) -> None:
    first = next(iter(outputs.values()))
    if corpus.replaced:
        warn(f"{corpus.replaced} invalid UTF-8 byte(s) replaced by U+FFFD")
    counts = np.sum([f.counts for f in outputs.values()], axis=0)
    if vocabulary.unknown is not None and counts[vocabulary.unknown] > 0.001 * counts.sum():
        part = counts[vocabulary.unknown] / counts.sum()
        warn(f"{part:.1%} of the tokens are unknown to the vocabulary {vocabulary.name}")
    if o.tokenizer.startswith("bpe:") and vocabulary.size < int(o.tokenizer[4:]):
        warn(f"the text yields {vocabulary.size} tokens only, not {o.tokenizer[4:]}")
    if o.quiet:
        return
    v = vocabulary
    print(
        f"{v.name}: V={v.size} mask={v.mask} bos={v.bos} eos={v.eos} pad={v.pad}   L={o.length} "
        f"{'wrapped' if o.wrap else 'one document a row'}"
    )
    print(f"{'':8}{'documents':>12}{'tokens':>14}{'rows':>11}{'unigram ppl':>13}  {'digest':32}  file")
    for name, f in outputs.items():
        ppl = np.exp(entropy(f.counts))
        print(f"{name:8}{f.documents:12,}{f.scored:14,}{f.rows:11,}{ppl:13.2f}  {f.digest}  {f.path}")
    if len(outputs) == 2:
        ppl = cross_perplexity(outputs["valid"].counts, first.counts)
        print(f"perplexity of valid under the unigram model of train: {ppl:.2f}")


def warn(text: str) -> None:
    print(f"prepare.py: warning: {text}", file=sys.stderr)


# ---- options


def parser() -> argparse.ArgumentParser:
    p = Parser(
        prog="prepare.py",
        description="Tokenize text into the HDF5 data files that mdlm trains and evaluates on. "
        "Memory use does not grow with the corpus.",
        epilog=NOTES,
    )
    p.add_argument("inputs", nargs="+", metavar="TEXT", help="UTF-8 text, plain or .gz; - is standard input")
    g = p.add_argument_group("what becomes of the text")
    g.add_argument("--tokenizer", required=True, metavar="KIND:…", help="see below")
    g.add_argument(
        "--special",
        action="append",
        default=[],
        metavar="ROLE=TOKEN",
        help="with json: which token is the mask, bos, eos or pad; may be repeated",
    )
    g.add_argument(
        "--length", required=True, type=int, metavar="L", help="tokens in a row, with bos and eos; at least 4"
    )
    g.add_argument("--wrap", action=argparse.BooleanOptionalAction, default=True, help="see below (default: --wrap)")
    g.add_argument(
        "--eos-is-bos", action="store_true", help="use the bos token as eos too (packed LM1B of some papers)"
    )
    g.add_argument(
        "--documents",
        choices=UNITS,
        help="what a document is: a line, text between blank lines, a whole file, "
        "or a chunk of characters (default: line; chunk for text8)",
    )
    g.add_argument("--chunk", type=int, metavar="N", help="characters in a chunk (default: L)")
    g.add_argument(
        "--keep-newline", action="store_true", help="a line that is not blank keeps its newline, as WikiText's rows do"
    )
    g.add_argument(
        "--detokenizer",
        default="none",
        metavar="NAME",
        help=f"undo a corpus's word splitting: {', '.join(TABLES)}; several joined by + are applied in order",
    )
    g.add_argument("--limit", type=int, metavar="N", help="the first N documents only")
    g = p.add_argument_group("where it goes")
    g.add_argument("--out", metavar="FILE.h5", help="the data file")
    g.add_argument("--out-train", metavar="FILE.h5", help="with a split: all documents but the last ones")
    g.add_argument("--out-valid", metavar="FILE.h5", help="with a split: the last documents")
    g.add_argument("--valid-documents", type=int, metavar="N", help="split off the last N documents")
    g.add_argument("--valid-fraction", type=float, metavar="F", help="split off the last part F of the documents")
    g.add_argument(
        "--source", metavar="NAME", help="name of the corpus, recorded in the file (default: the inputs' names)"
    )
    g.add_argument(
        "--split", metavar="NAME", help="name of the split, recorded in the file (default: all; train and valid)"
    )
    g.add_argument(
        "--chunk-rows",
        type=int,
        metavar="N",
        help="rows in an HDF5 chunk; 0: contiguous, without checksums (default: about 64 KiB)",
    )
    g.add_argument("--quiet", action="store_true", help="no progress and no summary")
    return p


def parse(argv: list[str]) -> argparse.Namespace:
    """Options, checked against each other: nothing is read before they make sense."""
    o = parser().parse_args(argv)
    split = any(x is not None for x in (o.out_train, o.out_valid, o.valid_documents, o.valid_fraction))
    require(not (split and o.out), "--out is for one file; a split takes --out-train and --out-valid")
    require(split or o.out, "give --out FILE.h5 (or --out-train, --out-valid and --valid-documents)")
    require(not split or (o.out_train and o.out_valid), "a split takes both --out-train and --out-valid")
    require(
        not split or (o.valid_documents is None) != (o.valid_fraction is None),
        "a split takes either --valid-documents or --valid-fraction",
    )
    require(not split or o.split is None, "--split names the part in --out; a split is named train and valid")
    require(4 <= o.length <= 1 << 20, f"--length {o.length}: a row has 4 to {1 << 20} tokens, with bos and eos")
    require(o.valid_fraction is None or 0 < o.valid_fraction < 1, "--valid-fraction lies between 0 and 1")
    require(o.chunk_rows is None or 0 <= o.chunk_rows * o.length < 1 << 28, "--chunk-rows: 0, or chunks below 1 GiB")
    for name in ("valid_documents", "limit", "chunk"):
        value = getattr(o, name)
        require(value is None or value > 0, f"--{name.replace('_', '-')} {value}: must be positive")
    require(o.inputs.count("-") < 2, "- is given twice; standard input is read once")
    o.documents = o.documents or ("chunk" if o.tokenizer == "text8" else "line")
    require(not o.keep_newline or o.documents == "line", "--keep-newline goes with --documents line")
    require(o.chunk is None or o.documents == "chunk", "--chunk goes with --documents chunk")
    o.special = special_tokens(o.special)
    o.split = o.split or "all"
    names = ",".join("stdin" if p == "-" else os.path.basename(p) for p in o.inputs)
    o.source = o.source or (names if len(names.encode()) < 256 else f"{len(o.inputs)} files")
    require(len(o.source.encode()) < 256, "--source: at most 255 bytes")
    require(len(o.split.encode()) < 64, "--split: at most 63 bytes")
    require(len(o.detokenizer) < 32, "--detokenizer: at most 31 bytes")
    outputs = filter(None, (o.out, o.out_train, o.out_valid))
    check_paths(outputs, [*o.inputs, *o.tokenizer.partition(":")[2].split(",")])
    return o


def _folder(path: str) -> str:
    return os.path.dirname(os.path.realpath(path))


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
