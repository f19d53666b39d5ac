"""mdlm-tasks: contexts with continuations to the HDF5 file that likelihood.requests names; the command line."""

from __future__ import annotations

import argparse
import shlex
import sys

from mdlm_data.command import Parser, check_paths, run
from mdlm_data.errors import require
from mdlm_data.output import check_replaced

PROGRAM = "mdlm-tasks"

NOTES = """\
Each line of the input is a JSON object of one of these forms:
  {"context": "…", "continuation": "…"}                     one target
  {"question": "…", "choices": ["…", "…"], "gold": 1}       a question with options; gold counts from 0. "context" is
                                                            another word for "question". --delimiter joins them
  a line of lm-evaluation-harness --log_samples             its pairs of context and continuation, options of one
                                                            question where there are several, with its target
Blanks at the end of a context move to the continuation. Context and continuation are tokenized together, and what
comes after the tokens of the context alone is the target. A context begins with the bos token, like the rows of the
data, unless --no-bos is given.

examples:
  mdlm-tasks arc.jsonl --data train.h5 --out arc.h5
  mdlm-tasks samples_piqa_*.jsonl --data train.h5 --out piqa.h5
  mdlm likelihood deck.cfg run.dir=runs/a likelihood.requests=arc.h5 eval.draws=128

The output appears under its name when it is complete. Exit status: 0; 2 after an error; 130 when interrupted."""


def main(argv: list[str] | None = None) -> int:
    return run(PROGRAM, _job, argv)


def _job(argv: list[str]) -> None:
    options = parse(argv)
    from mdlm_data.task_file import make_requests

    make_requests(options, f"{PROGRAM} {shlex.join(argv)}")


def parse(argv: list[str]) -> argparse.Namespace:
    p = Parser(
        prog=PROGRAM, description="Tokenize questions and answers into requests for mdlm likelihood.", epilog=NOTES
    )
    p.add_argument("inputs", nargs="+", metavar="JSONL", help="files of JSON lines; - for standard input")
    p.add_argument("--data", required=True, metavar="FILE.h5", help="data file whose tokenizer is used")
    p.add_argument("--out", required=True, metavar="FILE.h5", help="the file of requests")
    p.add_argument("--delimiter", default=" ", metavar="TEXT", help="between question and choice (default: one blank)")
    p.add_argument(
        "--bos", action=argparse.BooleanOptionalAction, default=True, help="begin with the bos token (default: --bos)"
    )
    p.add_argument("--quiet", action="store_true", help="no summary")
    o = p.parse_args(argv)
    require(o.inputs.count("-") < 2, "- is given twice; standard input is read once")
    check_paths([o.out], [*o.inputs, o.data])
    check_replaced([o.out], "mdlm-requests")
    return o


if __name__ == "__main__":
    sys.exit(main())
