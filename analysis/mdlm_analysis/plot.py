"""mdlm-plot RUN…: short for `mdlm-analysis metrics RUN… -o RUN/metrics.png`."""

from __future__ import annotations

import sys
from pathlib import Path

from mdlm_data.command import Parser, run

PROGRAM = "mdlm-plot"


def main(argv: list[str] | None = None) -> int:
    return run(PROGRAM, _job, argv)


def _job(argv: list[str]) -> None:
    from mdlm_analysis import cli, metrics

    p = Parser(
        prog=PROGRAM, description=__doc__, epilog="example: mdlm-plot runs/demo runs/demo_wide -o both.png --smooth 20"
    )
    metrics.add_arguments(p)
    cli.add_outputs(p)
    o = p.parse_args(argv)
    first: Path = o.runs[0]
    o.out = o.out or (first if first.is_dir() else first.parent) / "metrics.png"
    print(cli.write(cli.call(metrics, o), o.out, o.width)[0])


if __name__ == "__main__":
    sys.exit(main())
