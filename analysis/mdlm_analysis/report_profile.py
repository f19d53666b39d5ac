"""The section of a report on profiles, files of `mdlm profile`: what is hard for a network, and how well it knows that."""

from __future__ import annotations

from collections.abc import Sized
from typing import Any

import numpy as np

from mdlm_analysis.report_data import Contents
from mdlm_analysis.report_page import Block, PageFigure, page_figure, runs_table
from mdlm_analysis.table import Column, Table
from mdlm_h5 import Bins, Calibration, Profile

# of a cut: title of its figure and table, label of its bins, whether their axis is logarithmic
CUTS = {
    "share": ("Share of masked tokens", "masked tokens over all tokens of the sequence", False),
    "distance": ("Distance to the nearest visible token", "distance [token]", True),
    "frequency": ("Frequency of the token", "occurrences in the data", True),
    "position": ("Position in the sequence", "position", False),
}
ABOUT = (
    "How hard the tokens are to predict, by what was masked and where, and how far predicted probabilities are right."
)
TOTALS = "step nll accuracy confidence prediction_entropy ece variance_rows variance_draws".split()  # attributes
MOST_ROWS = 64  # of a table of bins; a longer one, of positions, is in the figure only
QUANTITIES = ("tokens", "loss", "nll", "std", "entropy", "accuracy", "confidence")


def profile(runs: list[Contents]) -> list[Block]:
    found = _named(runs)
    if not found:
        return []
    cuts = [cut for cut in CUTS if any(getattr(p, cut) for _, _, p in found)]
    several = max(runs, found, key=len)  # where there is one row, its name is left out
    first = Block(lines=[ABOUT], table=_totals(several, found))
    first.figures = [*(_difficulty(cut, found) for cut in cuts), _calibration(found)]
    tables = [_bins(several, cut, found) for cut in cuts]
    return [first, *(block for block in tables if len(block.table.rows) <= MOST_ROWS * len(found))]


def _named(runs: list[Contents]) -> list[tuple[str, int, Profile]]:
    """Every profile with its name and the number of its colour; where a run has several, also by the file."""
    files = any(len(run.profiles) > 1 for run in runs)
    all_of = [(run.name, i, file.stem, p) for i, run in enumerate(runs) for file, p in run.profiles.items()]
    return [(f"{run}, {file}", k, p) if files else (run, i, p) for k, (run, i, file, p) in enumerate(all_of)]


def _totals(runs: Sized, found: list[tuple[str, int, Profile]]) -> Any:
    columns = [Column("run"), Column("step", "", ","), Column("nll", "nat/token", ".5f")]
    columns += [Column("accuracy", "", ".4f"), Column("confidence", "", ".4f"), Column("entropy", "nat", ".4f")]
    columns += [Column("calibration error", "", ".4f"), Column("variance between rows", "nat²", ".4g")]
    table = Table([*columns, Column("between draws of a row", "nat²", ".4g")])
    for name, _, p in found:
        table.add(name, *(p.attributes.get(x) for x in TOTALS))
    return runs_table(runs, table, "Profile")


def _middles(cut: str, bins: Bins) -> tuple[np.ndarray, np.ndarray]:
    """Places of the bins on the axis, and which of them to draw."""
    drawn = np.isfinite(bins.nll)
    if cut == "distance":
        drawn[-1] = False  # nothing is visible
    return np.arange(len(drawn)) if bins.low is None else (bins.low + bins.high) / 2, drawn


def _difficulty(cut: str, found: list[tuple[str, int, Profile]]) -> PageFigure:
    title, label, log = CUTS[cut]

    def draw(ax: Any) -> None:
        from mdlm_analysis import figure

        for name, i, p in found:
            if bins := getattr(p, cut):
                x, drawn = _middles(cut, bins)
                style = dict(color=figure.colour(i), linestyle=figure.dash(i), label=name)
                ax.plot(x[drawn], bins.nll[drawn], marker=figure.marker(i) if drawn.sum() < 40 else "", **style)
        ax.set_xlabel(label)
        ax.set_ylabel("−log p [nat]")
        if log:
            figure.log_scale(ax, "x")

    return page_figure(title, f"{title}: mean of −log p(token), without the weights of the bound", draw)


def _calibration(found: list[tuple[str, int, Profile]]) -> PageFigure:
    def draw(ax: Any) -> None:
        from mdlm_analysis import figure

        ax.plot([0, 1], [0, 1], color=figure.GREY, linestyle=":", linewidth=0.8)
        for name, i, p in found:
            x, y = reliability(p.calibration)
            ax.plot(x, y, color=figure.colour(i), linestyle=figure.dash(i), marker=figure.marker(i), label=name)
        ax.set_xlabel("probability of the likeliest token")
        ax.set_ylabel("share of hits")
        ax.set_xlim(0, 1)
        ax.set_ylim(0, 1)

    return page_figure("Calibration", "Calibration: on the dotted line, probabilities are what they say", draw)


def reliability(c: Calibration) -> tuple[np.ndarray, np.ndarray]:
    """Confidence and accuracy of each tenth, the shares of masked tokens taken together."""
    some = c.tokens.sum(0) > 0
    x, y = (np.nansum(values * c.tokens, 0)[some] / c.tokens.sum(0)[some] for values in (c.confidence, c.accuracy))
    return x, y


def _bins(runs: Sized, cut: str, found: list[tuple[str, int, Profile]]) -> Block:
    title = CUTS[cut][0]
    columns = [Column("run"), Column("from", "", ",.6g"), Column("to", "", ",.6g"), Column("tokens", "", ",")]
    columns += [Column("part of the loss", "nat/token", ".5f"), Column("−log p", "nat", ".4f")]
    columns += [Column(name, unit, ".4f") for name, unit in (("std", "nat"), ("entropy", "nat"), ("accuracy", ""))]
    table = Table([*columns, Column("confidence", "", ".4f")])
    for name, _, p in found:
        if bins := getattr(p, cut):
            low, high = (np.arange(len(bins.nll)) if edge is None else edge for edge in (bins.low, bins.high))
            for row in zip(low, high, *(getattr(bins, quantity) for quantity in QUANTITIES)):
                table.add(name, *row)
    return Block(title, folded=True, table=runs_table(runs, table, title))
