"""mdlm-retokenize: token ids of one tokenizer to those of another, for mdlm score; the command line."""

from __future__ import annotations

import argparse
import shlex
import sys

from mdlm_data.command import Parser, check_paths, run
from mdlm_data.errors import require
from mdlm_data.output import check_replaced
from mdlm_data.specials import special_tokens

PROGRAM = "mdlm-retokenize"

NOTES = """\
Each row is decoded to text and encoded by the other tokenizer. An eos stays an eos, and the text after it is encoded
separately. Other special tokens are dropped, and so are positions after the length of a row. A row without text
becomes a single eos. Rows are padded to the longest, or to --length; pads are not scored.

examples:
  mdlm-retokenize runs/lm1b/samples.h5 --tokenizer gpt2:vocab.json,merges.txt --length 1024 --out samples_gpt2.h5
  mdlm score deck.cfg score.checkpoint=gpt2_large.h5 score.input=samples_gpt2.h5

The output appears under its name when it is complete. Exit status: 0; 2 after an error; 130 when interrupted."""


def main(argv: list[str] | None = None) -> int:
    return run(PROGRAM, _job, argv)


def _job(argv: list[str]) -> None:
    options = parse(argv)
    from mdlm_data.translation import retokenize

    retokenize(options, f"{PROGRAM} {shlex.join(argv)}")


def parser() -> Parser:
    p = Parser(
        prog=PROGRAM,
        description="Translate samples or data from one tokenizer's ids into another's.",
        epilog=NOTES,
    )
    p.add_argument("input", metavar="FILE.h5", help="samples of `mdlm sample`, or a data file")
    p.add_argument(
        "--tokenizer", required=True, metavar="KIND:…", help="the target tokenizer, as mdlm-prepare takes it"
    )
    p.add_argument("--special", action="append", default=[], metavar="ROLE=TOKEN", help="as in mdlm-prepare")
    p.add_argument(
        "--length", type=int, metavar="L", help="tokens in a row; longer texts are truncated (default: longest text)"
    )
    p.add_argument(
        "--vocabulary",
        metavar="FILE.h5",
        help="checkpoint or data file with the vocabulary of the input (default: its own, or that of its checkpoint)",
    )
    p.add_argument("--out", required=True, metavar="FILE.h5", help="the data file")
    p.add_argument("--quiet", action="store_true", help="no summary")
    return p


def parse(argv: list[str]) -> argparse.Namespace:
    o = parser().parse_args(argv)
    require(o.length is None or 2 <= o.length <= 1 << 20, f"--length {o.length}: a row has 2 to {1 << 20} tokens")
    o.special = special_tokens(o.special)
    check_paths([o.out], [o.input, *o.tokenizer.partition(":")[2].split(",")])
    check_replaced([o.out], "mdlm-data")
    return o


if __name__ == "__main__":
    sys.exit(main())
