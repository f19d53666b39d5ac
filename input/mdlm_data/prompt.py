"""mdlm-prompt: text with holes to the HDF5 file that sample.prompt names; the command line."""

from __future__ import annotations

import argparse
import shlex
import sys

from mdlm_data.command import Parser, check_paths, run
from mdlm_data.errors import require
from mdlm_data.output import check_replaced

PROGRAM = "mdlm-prompt"

NOTES = """\
Each line is a prompt; an empty line fixes nothing. [MASK] or ____ (four underscores) is a hole of one token,
[MASK]{12} or ____{12} one of twelve. All positions after the last token of a line are holes too. Other text is fixed.
Byte-level tokens include the blank before a word, so a blank before a hole belongs to the hole. A prompt begins with
the bos token, like the rows of the data, unless --no-bos is given; with --eos it ends with the eos token.

examples:
  mdlm-prompt prompts.txt --data train.h5 --out prompts.h5
  echo 'And God said, ____{8} and there was light.' | mdlm-prompt - --data train.h5 --out prompts.h5
  mdlm sample deck.cfg sample.prompt=prompts.h5 sample.count=16

The output appears under its name when it is complete. Exit status: 0; 2 after an error; 130 when interrupted."""


def main(argv: list[str] | None = None) -> int:
    return run(PROGRAM, _job, argv)


def _job(argv: list[str]) -> None:
    options = parse(argv)
    from mdlm_data.prompt_file import make_prompts

    make_prompts(options, f"{PROGRAM} {shlex.join(argv)}")


def parse(argv: list[str]) -> argparse.Namespace:
    p = Parser(prog=PROGRAM, description="Tokenize text with holes into prompts for mdlm sample.", epilog=NOTES)
    p.add_argument("inputs", nargs="+", metavar="TEXT", help="files as mdlm-prepare reads them; - for standard input")
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
    check_replaced([o.out], "mdlm-prompts")
    return o


if __name__ == "__main__":
    sys.exit(main())
