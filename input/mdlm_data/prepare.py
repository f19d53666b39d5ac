"""mdlm-prepare: text to tokenized HDF5 data files; the command line. The work is in preparation.py."""

from __future__ import annotations

import argparse
import os
import shlex
import sys

from mdlm_data.command import Parser, check_paths, run
from mdlm_data.corpus import UNITS
from mdlm_data.detokenizers import TABLES
from mdlm_data.errors import require
from mdlm_data.specials import special_tokens

PROGRAM = "mdlm-prepare"

NOTES = """\
tokenizers:
  bpe:SIZE           train a byte-level BPE on the (training) text: V = SIZE, or less if the text is too small.
                     Ids: 256 bytes, merges, then V-2 <|endoftext|> = bos = eos and V-1 [MASK] = pad.
                     It is trained on every k-th document of a text over 256 MiB.
  gpt2:VOCAB,MERGES  GPT-2's vocab.json and merges.txt: V = 50258, [MASK] = pad = 50257 is appended, bos = eos = 50256.
  bert:VOCAB         lower-casing WordPiece, such as bert-base-uncased's vocab.txt: mask [MASK], bos [CLS], eos [SEP],
                     pad [PAD].
  json:FILE          a Hugging Face tokenizer.json; special tokens by their usual names or --special. A mask token
                     is appended if it has none.
  text8              a-z and blank, V = 35; anything else is [UNK].
  data:FILE.h5       the tokenizer stored in another data file, to tokenize another corpus with the same ids.
  Text never becomes a special token: "[MASK]" in a corpus is encoded as ordinary characters.

rows:
  --wrap     the tokens of every document + eos, concatenated, cut into blocks of L-2, each framed bos ... eos. The
             remainder is dropped; a text shorter than one block becomes one padded row.
  --no-wrap  one document per row: bos ... eos, truncated to L-2 tokens so that eos survives, padded; pads are not
             scored.
  A line that is empty or only white space is a document too: a single eos with --wrap, the row [bos eos] without.

examples:
  mdlm-prepare bible.txt --tokenizer bpe:4096 --length 128 --valid-documents 1500 \\
               --out-train train.h5 --out-valid valid.h5
  zcat news/*.gz | mdlm-prepare - --tokenizer bert:vocab.txt --length 128 --no-wrap --detokenizer lm1b \\
               --source lm1b --split test --out lm1b_test.h5
  mdlm-prepare owt.txt.gz --documents blank --tokenizer gpt2:vocab.json,merges.txt --length 1024 \\
               --valid-documents 100000 --out-train owt_train.h5 --out-valid owt_valid.h5
  mdlm-prepare wiki.valid.raw --tokenizer gpt2:vocab.json,merges.txt --length 1024 --detokenizer wikitext \\
               --keep-newline --source wikitext2 --split validation --out wikitext2.h5
  head -c 90000000 text8 | mdlm-prepare - --tokenizer text8 --length 512 --out text8.h5   (data.crop takes L = 256)
  mdlm-prepare other.txt --tokenizer data:train.h5 --length 128 --out other.h5

An output appears under its name when it is complete and replaces a file of that name; a failed or interrupted run
leaves no output. Exit status: 0; 2 after an error; 130 when interrupted."""


def main(argv: list[str] | None = None) -> int:
    return run(PROGRAM, _job, argv)


def _job(argv: list[str]) -> None:
    options = parse(argv)
    from mdlm_data.preparation import prepare

    prepare(options, f"{PROGRAM} {shlex.join(argv)}")


def parser() -> Parser:
    p = Parser(
        prog=PROGRAM,
        description="Tokenize text into the HDF5 data files that mdlm trains and evaluates on. "
        "Memory use does not grow with the corpus.",
        epilog=NOTES,
    )
    p.add_argument("inputs", nargs="+", metavar="TEXT", help="UTF-8 text, plain or .gz; - for standard input")
    g = p.add_argument_group("tokens and rows")
    g.add_argument("--tokenizer", required=True, metavar="KIND:…", help="see below")
    g.add_argument(
        "--special",
        action="append",
        default=[],
        metavar="ROLE=TOKEN",
        help="with json:, which token is the mask, bos, eos or pad; may be repeated",
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
    g.add_argument("--keep-newline", action="store_true", help="non-blank lines keep their newline, as in WikiText")
    g.add_argument(
        "--detokenizer",
        default="none",
        metavar="NAME",
        help=f"undo the word splitting of a corpus: {', '.join(TABLES)}; several joined by + apply in order",
    )
    g.add_argument("--limit", type=int, metavar="N", help="read only the first N documents")
    g = p.add_argument_group("output")
    g.add_argument("--out", metavar="FILE.h5", help="the data file")
    g.add_argument("--out-train", metavar="FILE.h5", help="with a split: the documents before the validation part")
    g.add_argument("--out-valid", metavar="FILE.h5", help="with a split: the validation part")
    g.add_argument("--valid-documents", type=int, metavar="N", help="the last N documents are the validation part")
    g.add_argument(
        "--valid-fraction", type=float, metavar="F", help="the last fraction F of the documents is the validation part"
    )
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
    """Options, checked against each other before anything is read."""
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


if __name__ == "__main__":
    sys.exit(main())
