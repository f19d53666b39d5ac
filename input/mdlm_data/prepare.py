"""mdlm-prepare: text to tokenized HDF5 data files; the command line. The work is in preparation.py."""

from __future__ import annotations

import argparse
import os
import shlex
import sys

from mdlm_data.command import Parser, check_paths, run
from mdlm_data.detokenizers import TABLES
from mdlm_data.documents import UNITS
from mdlm_data.errors import require
from mdlm_data.prepare_help import NOTES
from mdlm_data.specials import special_tokens

PROGRAM = "mdlm-prepare"


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
    p.add_argument("inputs", nargs="+", metavar="INPUT", help="files of any form below; - for standard input")
    input_options(p.add_argument_group("input"))
    row_options(p.add_argument_group("tokens and rows"))
    output_options(p.add_argument_group("output"))
    return p


def row_options(g: argparse._ArgumentGroup) -> None:
    g.add_argument("--tokenizer", metavar="KIND:…", help="see below")
    g.add_argument("--vocabulary", metavar="KIND:…", help="the inputs are token ids of this tokenizer")
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
        "--max-loss",
        type=float,
        default=0.1,
        metavar="F",
        help="refuse a tokenizer that loses more than this share of the text (default: 0.1)",
    )
    g.add_argument(
        "--eos-is-bos", action="store_true", help="use the bos token as eos too (packed LM1B of some papers)"
    )


def output_options(g: argparse._ArgumentGroup) -> None:
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
    g.add_argument(
        "--resume",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="keep what is tokenized in OUT.part until the file is complete (default: --resume)",
    )
    g.add_argument("--processes", type=int, metavar="N", help="processes that tokenize (default: one per core)")


def input_options(g: argparse._ArgumentGroup) -> None:
    g.add_argument(
        "--documents",
        choices=UNITS,
        help="what a document is: a line, text between blank lines, a whole file or record, "
        "or a chunk of characters (default: a line or a record; chunk for text8)",
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
    g.add_argument(
        "--field", metavar="NAME", help="field of records that holds the text (default: text, or the only one)"
    )
    g.add_argument("--plain-text", action="store_true", help="read JSON lines as text, braces and all")
    g.add_argument(
        "--allow-invalid",
        type=float,
        default=0.01,
        metavar="F",
        help="refuse a text of which more than this share is no UTF-8 or NUL (default: 0.01)",
    )


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
    check_input(o)
    o.special = special_tokens(o.special)
    o.split = o.split or "all"
    names = ",".join("stdin" if p == "-" else os.path.basename(p) for p in o.inputs)
    o.source = o.source or (names if len(names.encode()) < 256 else f"{len(o.inputs)} files")
    require(len(o.source.encode()) < 256, "--source: at most 255 bytes")
    require(len(o.split.encode()) < 64, "--split: at most 63 bytes")
    require(len(o.detokenizer) < 32, "--detokenizer: at most 31 bytes")
    outputs = filter(None, (o.out, o.out_train, o.out_valid))
    kind, _, files = (o.vocabulary or o.tokenizer).partition(":")
    check_paths(outputs, [*o.inputs, *(files.split(",") if kind != "chars" else [])])
    return o


def check_input(o: argparse.Namespace) -> None:
    require(bool(o.tokenizer) != bool(o.vocabulary), "give --tokenizer for text, or --vocabulary for token ids")
    if o.tokenizer == "text8":
        o.documents = o.documents or "chunk"
    elif o.keep_newline:
        o.documents = o.documents or "line"
    require(not o.keep_newline or o.documents == "line", "--keep-newline goes with --documents line")
    require(o.chunk is None or o.documents == "chunk", "--chunk goes with --documents chunk")
    require(not o.vocabulary or not o.documents, "--documents is for text; token ids have an eos after each document")
    require(not o.vocabulary or o.detokenizer == "none", "--detokenizer is for text")
    for name in ("allow_invalid", "max_loss"):
        require(0 <= getattr(o, name) <= 1, f"--{name.replace('_', '-')}: a share from 0 to 1")
    require(o.processes is None or 1 <= o.processes <= 1024, f"--processes {o.processes}: from 1 to 1024")
    o.processes = o.processes or len(os.sched_getaffinity(0))


if __name__ == "__main__":
    sys.exit(main())
