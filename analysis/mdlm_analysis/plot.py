"""mdlm-plot: the history of one or more runs as a PNG; the command line."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mdlm_data.command import Parser, run
from mdlm_data.errors import InputError

PROGRAM = "mdlm-plot"


def main(argv: list[str] | None = None) -> int:
    return run(PROGRAM, _job, argv)


def _job(argv: list[str]) -> None:
    o = parse(argv)
    from mdlm_analysis.figure import plot
    from mdlm_analysis.runs import read_run

    first: Path = o.runs[0]
    out = o.out or (first if first.is_dir() else first.parent) / "metrics.png"
    runs = [read_run(path) for path in o.runs]
    try:
        plot(runs, out, o.smooth, o.unigram)
    except (OSError, ValueError) as e:  # an unwritable folder, an unknown image format
        raise InputError(f"{out}: {e}") from e
    print(out)


def parse(argv: list[str]) -> argparse.Namespace:
    p = Parser(
        prog=PROGRAM,
        description="Plot training and validation loss and perplexity, gradient norm, learning rate and speed "
        "of one or more runs, which may still be running.",
        epilog="example: mdlm-plot runs/demo runs/demo_wide -o both.png --smooth 20",
    )
    p.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="a run's folder, a metrics.h5 or a checkpoint")
    p.add_argument(
        "-o", "--out", type=Path, metavar="PNG", help="default: metrics.png beside the first run's metrics.h5"
    )
    p.add_argument(
        "--smooth",
        type=float,
        default=1.0,
        metavar="N",
        help="draw the mean over about N points as well",
    )
    p.add_argument("--unigram", type=float, metavar="PPL", help="draw a line at the perplexity of a unigram model")
    return p.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
