"""The options of mdlm-prepare. Those that a protocol may fix are None unless they are given; DEFAULTS has their values."""

from __future__ import annotations

import argparse
from typing import Any

from mdlm_data.command import Parser
from mdlm_data.detokenizers import TABLES
from mdlm_data.documents import UNITS
from mdlm_data.errors import require
from mdlm_data.prepare_help import NOTES
from mdlm_data.protocols import settings

DEFAULTS: dict[str, Any] = {
    "wrap": True,
    "detokenizer": "none",
    "keep_newline": False,
    "strip": False,
    "eos_is_bos": False,
    "add_eos": True,
    "add_special": True,
    "map_batch": 0,
    "shards": 0,
}


def fill(o: argparse.Namespace) -> None:
    """Set what the protocol fixes, refuse what contradicts it, and set the defaults of the rest."""
    for name, value in (settings(o.protocol) if o.protocol else {}).items():
        given = getattr(o, name)
        option = name.replace("_", "-")
        require(given in (None, value), f"--protocol {o.protocol} fixes {option} = {value}; it cannot be {given}")
        setattr(o, name, value)
    for name, value in DEFAULTS.items():
        if getattr(o, name) is None:
            setattr(o, name, value)


def parser(program: str) -> Parser:
    p = Parser(
        prog=program,
        description="Tokenize text into the HDF5 data files that mdlm trains and evaluates on. "
        "Memory use does not grow with the corpus.",
        epilog=NOTES,
    )
    p.add_argument("inputs", nargs="+", metavar="INPUT", help="files of any form below; - for standard input")
    p.add_argument(
        "--protocol",
        metavar="NAME[:VARIANT]",
        help="the data preparation of a published perplexity, which fixes most other options: see below",
    )
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
    g.add_argument("--length", type=int, metavar="L", help="tokens in a row, with bos and eos; at least 4")
    on_or_off = argparse.BooleanOptionalAction
    g.add_argument("--wrap", action=on_or_off, help="see below (default: --wrap)")
    g.add_argument("--add-eos", action=on_or_off, help="with --wrap, eos after each document (default: --add-eos)")
    g.add_argument(
        "--add-special", action=on_or_off, help="with --wrap, bos and eos around each row (default: --add-special)"
    )
    g.add_argument(
        "--map-batch", type=int, metavar="N", help="with --wrap, replay a framing that drops remainders: see below"
    )
    g.add_argument("--shards", type=int, metavar="P", help="with --map-batch, by P processes (default: 1)")
    g.add_argument(
        "--max-loss",
        type=float,
        default=0.1,
        metavar="F",
        help="refuse a tokenizer that loses more than this share of the text (default: 0.1)",
    )
    g.add_argument(
        "--eos-is-bos",
        action="store_true",
        default=None,
        help="use the bos token as eos too (packed LM1B of some papers)",
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
    g.add_argument("--revision", metavar="NAME", help="revision of the corpus, recorded in the file")
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
    for name, text in (
        ("--keep-newline", "non-blank lines keep their newline, as in WikiText"),
        ("--strip", "documents lose the white space at both ends, as in Hugging Face's PTB and LM1B"),
    ):
        g.add_argument(name, action="store_true", default=None, help=text)
    g.add_argument(
        "--detokenizer",
        metavar="NAME",
        help=f"undo the word splitting of a corpus: {', '.join(TABLES)}; several joined by + apply in order",
    )
    g.add_argument("--limit", type=int, metavar="N", help="read only the first N documents")
    g.add_argument(
        "--field", metavar="NAME", help="field of records that holds the text (default: text, or the only one)"
    )
    g.add_argument(
        "--label-field",
        metavar="NAME",
        help="with --no-wrap, the field of records that holds the class of the document: an integer or a name",
    )
    g.add_argument(
        "--label-classes", metavar="FILE.h5", help="number the classes as in that data file (default: names, sorted)"
    )
    g.add_argument("--plain-text", action="store_true", help="read JSON lines as text, braces and all")
    g.add_argument(
        "--allow-invalid",
        type=float,
        default=0.01,
        metavar="F",
        help="refuse a text of which more than this share is no UTF-8 or NUL (default: 0.01)",
    )
