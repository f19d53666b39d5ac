"""The figure of mdlm-plot: one panel per quantity."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib import pyplot, ticker
from matplotlib.axes import Axes

from mdlm_analysis.runs import Run, Series
from mdlm_data.errors import InputError

TRAIN, VALID = "#4477aa", "#cc3311"
RUN_COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#bbbbbb")
matplotlib.use("Agg")  # no window: a batch job has no display


def smoothed(values: np.ndarray, window: float) -> np.ndarray:
    """Centred mean of the finite values among about `window` points, fewer at the ends."""
    half = int(window) // 2
    finite = np.isfinite(values)
    total = np.concatenate([[0.0], np.cumsum(np.where(finite, values, 0.0))])
    count = np.concatenate([[0], np.cumsum(finite)])
    at = np.arange(len(values))
    low, high = np.maximum(at - half, 0), np.minimum(at + half + 1, len(values))
    n = count[high] - count[low]
    return np.where(n > 0, (total[high] - total[low]) / np.maximum(n, 1), np.nan)


@dataclass(frozen=True)
class Style:
    smooth: float  # points averaged; 1: no smoothing
    several: bool  # several runs: colour distinguishes runs; else training and validation

    def train(self, index: int) -> str:
        return RUN_COLOURS[index % len(RUN_COLOURS)] if self.several else TRAIN

    def valid(self, index: int) -> str:
        return RUN_COLOURS[index % len(RUN_COLOURS)] if self.several else VALID


def _curve(ax: Axes, s: Series, colour: str, label: str, style: Style, log: bool = False) -> None:
    marker = "o" if len(s.steps) < 3 else ""
    if style.smooth > 1 and len(s.values) > 2:
        ax.plot(s.steps, s.values, color=colour, alpha=0.22, linewidth=0.8)
        mean = np.exp(smoothed(np.log(s.values), style.smooth)) if log else smoothed(s.values, style.smooth)
        ax.plot(s.steps, mean, color=colour, linewidth=1.4, label=label)
    else:
        ax.plot(s.steps, s.values, color=colour, linewidth=1.0, alpha=0.85, label=label, marker=marker, markersize=3)


def _points(ax: Axes, s: Series, colour: str, label: str, style: Style) -> None:
    edge = "black" if style.several else colour
    ax.plot(
        s.steps,
        s.values,
        color=colour,
        marker="o",
        markersize=4,
        markeredgecolor=edge,
        markeredgewidth=0.6,
        linewidth=1.4,
        linestyle="--" if style.several else "-",
        label=label,
        zorder=3,
    )


def _both(ax: Axes, runs: list[Run], train: str, valid: str, style: Style, log: bool = False) -> None:
    for i, run in enumerate(runs):
        prefix = f"{run.name}, " if style.several else ""
        if train in run.train:
            _curve(ax, run.train[train], style.train(i), prefix + "training", style, log)
        if valid in run.valid:
            _points(ax, run.valid[valid], style.valid(i), prefix + "validation", style)


def draw_loss(ax: Axes, runs: list[Run], style: Style) -> None:
    _both(ax, runs, "loss", "nll", style)


def draw_ppl(ax: Axes, runs: list[Run], style: Style) -> None:
    _both(ax, runs, "ppl", "ppl", style, log=True)
    for i, run in enumerate(runs):
        if {"ppl_low", "ppl_high"} <= run.valid.keys():
            low, high = run.valid["ppl_low"], run.valid["ppl_high"]
            n = min(len(low.values), len(high.values))
            ax.fill_between(
                low.steps[:n], low.values[:n], high.values[:n], color=style.valid(i), alpha=0.2, linewidth=0
            )
    ax.set_yscale("log")
    ax.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    ax.yaxis.set_major_formatter(ticker.StrMethodFormatter("{x:g}"))
    ax.yaxis.set_minor_formatter(ticker.NullFormatter())


def draw_one(name: str, smooth: bool = True) -> Callable[[Axes, list[Run], Style], None]:
    def draw(ax: Axes, runs: list[Run], style: Style) -> None:
        style = style if smooth else replace(style, smooth=1.0)
        for i, run in enumerate(runs):
            if name in run.train:
                _curve(ax, run.train[name], style.train(i), run.name, style)

    return draw


@dataclass(frozen=True)
class Panel:
    title: str
    train: str
    valid: str  # "": recorded in training only
    draw: Callable[[Axes, list[Run], Style], None]

    def sources(self, runs: list[Run]) -> list[Series]:
        return [s[name] for run in runs for s, name in ((run.train, self.train), (run.valid, self.valid)) if name in s]


PANELS = (
    Panel("Loss", "loss", "nll", draw_loss),
    Panel("Perplexity", "ppl", "ppl", draw_ppl),
    Panel("Gradient norm", "grad_norm", "", draw_one("grad_norm")),
    Panel("Learning rate", "lr", "", draw_one("lr", smooth=False)),
    Panel("Speed", "tokens_per_s", "", draw_one("tokens_per_s")),
    Panel("Model FLOP utilisation", "mfu", "", draw_one("mfu")),
)


def _label(panel: Panel, s: Series) -> str:
    name = panel.title[0].lower() + panel.title[1:]
    return f"{name} [{s.unit}]" if s.unit not in ("", "1") else name


def _finish(ax: Axes, panel: Panel, first: Series) -> None:
    ax.set_title(panel.title, fontsize=11, loc="left")
    ax.set_xlabel("step")
    ax.set_ylabel(_label(panel, first))
    ax.grid(True, which="major", color="0.9", linewidth=0.8)
    ax.spines[["top", "right"]].set_visible(False)
    if panel.title in ("Speed", "Gradient norm", "Model FLOP utilisation"):
        ax.set_ylim(bottom=0)
    if ax.get_yscale() == "linear":
        ax.yaxis.set_major_formatter(ticker.StrMethodFormatter("{x:g}"))
    ax.xaxis.set_major_locator(ticker.MaxNLocator(6, integer=True))
    if len(ax.get_legend_handles_labels()[0]) > 1:
        ax.legend(frameon=False, fontsize=8)


def plot(runs: list[Run], out: Path, smooth: float = 1.0, unigram: float | None = None) -> None:
    """Draw one panel for each quantity that at least one run recorded."""
    panels = [p for p in PANELS if p.sources(runs)]
    if not panels:
        raise InputError("no series to draw yet: the run has recorded nothing")
    style = Style(smooth, len(runs) > 1)
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    figure, axes = pyplot.subplots(
        rows, columns, figsize=(4.6 * columns, 3.4 * rows), squeeze=False, layout="constrained"
    )
    for ax, panel in zip(axes.flat, panels):
        panel.draw(ax, runs, style)
        if panel.title == "Perplexity" and unigram:
            ax.axhline(unigram, color="0.4", linestyle=":", linewidth=1.2, label=f"unigram model, {unigram:.0f}")
        _finish(ax, panel, panel.sources(runs)[0])
    for ax in axes.flat[len(panels) :]:
        ax.set_visible(False)
    figure.suptitle(", ".join(run.name for run in runs), fontsize=12)
    figure.savefig(out, dpi=130)
    pyplot.close(figure)
