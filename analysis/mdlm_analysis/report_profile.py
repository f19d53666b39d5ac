"""The section of a report on profiles, files of `mdlm profile`: what is hard for a network, and how well it knows that."""

from __future__ import annotations

from typing import Any

import numpy as np

from mdlm_analysis.report_data import Contents, Profile
from mdlm_analysis.report_page import Block, PageFigure, page_figure, runs_table
from mdlm_analysis.table import Column, Table

# of a cut: title of its figure and table, label of its bins, whether their axis is logarithmic
CUTS = {
    "share": ("Share of masked tokens", "masked tokens over all tokens of the sequence", False),
    "distance": ("Distance to the nearest visible token", "distance [token]", True),
    "frequency": ("Frequency of the token", "occurrences in the data", True),
    "position": ("Position in the sequence", "position", False),
}
TOTALS = "step nll accuracy confidence prediction_entropy ece variance_rows variance_draws".split()  # attributes
MOST_ROWS = 64  # of a table of bins; a longer one, of positions, is in the figure only
QUANTITIES = ("tokens", "loss", "nll", "std", "entropy", "accuracy", "confidence")


def profile(runs: list[Contents]) -> list[Block]:
    found = [(run.name, i, p) for i, run in enumerate(runs) for p in run.profiles.values()]
    if not found:
        return []
    first = Block(
        lines=[
            "How hard the tokens are to predict, by what was masked and where, and how far predicted probabilities are right."
        ]
    )
    first.table = _totals(runs, found)
    first.figures = [_difficulty(cut, found) for cut in CUTS if any(cut in p.cuts for _, _, p in found)]
    first.figures += [_calibration(found)] if any("calibration" in p.cuts for _, _, p in found) else []
    tables = [_bins(runs, cut, found) for cut in CUTS if any(cut in p.cuts for _, _, p in found)]
    return [first, *(block for block in tables if len(block.table.rows) <= MOST_ROWS * len(found))]


def _totals(runs: list[Contents], found: list[tuple[str, int, Profile]]) -> Any:
    columns = [Column("run"), Column("step", "", ","), Column("nll", "nat/token", ".5f")]
    columns += [Column("accuracy", "", ".4f"), Column("confidence", "", ".4f"), Column("entropy", "nat", ".4f")]
    columns += [Column("calibration error", "", ".4f"), Column("variance between rows", "nat²", ".4g")]
    table = Table([*columns, Column("between draws of a row", "nat²", ".4g")])
    for name, _, p in found:
        table.add(name, *(p.attributes.get(x) for x in TOTALS))
    return runs_table(runs, table, "Profile")


def _middles(cut: str, p: Profile) -> tuple[np.ndarray, np.ndarray]:
    """Places of the bins on the axis, and which of them to draw."""
    bins = p.cuts[cut]
    drawn = np.isfinite(bins["nll"])
    if cut == "position":
        return np.arange(len(drawn)), drawn
    middles = (bins["low"] + bins["high"]) / 2
    if cut == "distance":  # the last bin: nothing is visible
        drawn = drawn & (bins["low"] < p.attributes.get("length", np.inf))
    return middles, drawn


def _difficulty(cut: str, found: list[tuple[str, int, Profile]]) -> PageFigure:
    title, label, log = CUTS[cut]

    def draw(ax: Any) -> None:
        from mdlm_analysis import figure

        for name, i, p in found:
            if cut in p.cuts:
                x, drawn = _middles(cut, p)
                marker = figure.marker(i) if drawn.sum() < 40 else ""
                y = p.cuts[cut]["nll"][drawn]
                ax.plot(x[drawn], y, color=figure.colour(i), linestyle=figure.dash(i), marker=marker, label=name)
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
            if "calibration" in p.cuts:
                x, y = reliability(p)
                ax.plot(x, y, color=figure.colour(i), linestyle=figure.dash(i), marker=figure.marker(i), label=name)
        ax.set_xlabel("probability of the likeliest token")
        ax.set_ylabel("share of hits")
        ax.set_xlim(0, 1)
        ax.set_ylim(0, 1)

    return page_figure("Calibration", "Calibration: on the dotted line, probabilities are what they say", draw)


def reliability(p: Profile) -> tuple[np.ndarray, np.ndarray]:
    """Confidence and accuracy of each tenth, the shares of masked tokens taken together."""
    c = p.cuts["calibration"]
    tokens = np.atleast_2d(c["tokens"])
    some = tokens.sum(0) > 0
    x, y = (
        np.nansum(np.atleast_2d(c[name]) * tokens, 0)[some] / tokens.sum(0)[some] for name in ("confidence", "accuracy")
    )
    return x, y


def _bins(runs: list[Contents], cut: str, found: list[tuple[str, int, Profile]]) -> Block:
    title = CUTS[cut][0]
    columns = [Column("run"), Column("from", "", ",.6g"), Column("to", "", ",.6g"), Column("tokens", "", ",")]
    columns += [Column("part of the loss", "nat/token", ".5f"), Column("−log p", "nat", ".4f")]
    columns += [Column(name, unit, ".4f") for name, unit in (("std", "nat"), ("entropy", "nat"), ("accuracy", ""))]
    table = Table([*columns, Column("confidence", "", ".4f")])
    for name, _, p in found:
        bins = p.cuts.get(cut, {})
        n = len(bins["nll"]) if bins else 0
        low, high = (bins.get(edge, np.arange(n)) for edge in ("low", "high"))
        for k in range(n):
            table.add(name, low[k], high[k], *(bins[q][k] for q in QUANTITIES))
    return Block(title, folded=True, table=runs_table(runs, table, title))
