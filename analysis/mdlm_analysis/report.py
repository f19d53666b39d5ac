"""A report of one or more runs as a single HTML file that fetches nothing: results, curves, samples, configuration, speed."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from mdlm_data.command import check_paths, positive
from mdlm_data.errors import require
from mdlm_data.output import replacing

if TYPE_CHECKING:
    from mdlm_analysis.report_data import Contents

HELP = "one HTML file of a run, or of several side by side"
EXAMPLE = "report runs/a runs/b -o report.html"


def add_arguments(p: argparse.ArgumentParser) -> None:
    p.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="a run's folder, a metrics.h5 or a checkpoint")
    p.add_argument(
        "-o", "--out", type=Path, metavar="HTML", help="default: report.html beside the first run's metrics.h5"
    )
    p.add_argument("--title", metavar="TEXT", help="default: the names of the runs")
    p.add_argument(
        "--smooth",
        type=positive,
        metavar="N",
        help="draw the mean over about N points as well (default: a 100th of many)",
    )
    p.add_argument("--unigram", type=positive, metavar="PPL", help="draw a line at the perplexity of a unigram model")


def run(o: argparse.Namespace) -> list[Path]:
    """Write the report."""
    from mdlm_analysis.report_data import read_contents
    from mdlm_analysis.report_page import html
    from mdlm_analysis.report_sections import cards, sections

    first: Path = o.runs[0]
    out = o.out or (first if first.is_dir() else first.parent) / "report.html"
    require(out.suffix.lower() in (".html", ".htm"), f"{out}: a report's name ends with .html")
    check_paths([str(out)], [str(path) for path in o.runs])
    runs = read_contents(o.runs)
    made = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    names = ", ".join(r.name for r in runs)
    started = ", ".join(str(r.attributes["started"]) for r in runs if "started" in r.attributes)
    subtitle = "; ".join(filter(None, [names if o.title else "", started and f"last started {started}"]))
    page = html(
        o.title or names,
        subtitle,
        cards(runs[0]) if len(runs) == 1 else [],
        sections(runs, o.smooth or smoothing(runs), o.unigram),
        f"Made by mdlm-analysis report on {made}. This file is complete: it fetches nothing.",
    )
    with replacing(out) as partial:
        Path(partial).write_text(page, "utf-8")
    return [out]


def smoothing(runs: list[Contents]) -> float:
    """Points to average where nobody says: none of a short history, since all of it can be seen."""
    rows = max((len(s.values) for r in runs for s in r.series.train.values()), default=0)
    return rows / 100 if rows > 400 else 1.0
