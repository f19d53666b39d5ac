#!/usr/bin/env python3
"""plot_metrics.py — the history of one or more runs as one PNG.

Reads metrics.h5 (its layout is documented at the head of src/store/metrics.h) or the copy in a checkpoint. A run may
still be writing: the file is opened without a lock, so that the run never waits for this script, and read again if
caught in mid-write.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import h5py
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402  (the backend comes first)
import numpy as np  # noqa: E402
from matplotlib.axes import Axes  # noqa: E402

TRAIN, VALID = "#4477aa", "#cc3311"
RUN_COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#bbbbbb")


class PlotError(Exception):
    """The user's mistake as one line."""


@dataclass
class Series:
    steps: np.ndarray
    values: np.ndarray
    unit: str
    description: str


@dataclass
class Run:
    name: str
    train: dict[str, Series] = field(default_factory=dict)
    valid: dict[str, Series] = field(default_factory=dict)


# ---- reading


def read_run(path: Path, attempts: int = 20, wait: float = 0.1) -> Run:
    """The series of a run folder, a metrics.h5 or a checkpoint; tried again while the run is writing."""
    file = path / "metrics.h5" if path.is_dir() else path
    if not file.is_file():
        raise PlotError(f"{file}: no such file; give a run's folder or its metrics.h5")
    problem: Exception | None = None
    for attempt in range(attempts):
        try:
            return _read_once(file)
        except (OSError, RuntimeError, KeyError, ValueError) as e:  # what HDF5 says of a file caught in mid-write
            problem = e
            time.sleep(wait if attempt + 1 < attempts else 0)
    raise PlotError(f"{file}: cannot be read as HDF5: {problem}")


def _read_once(file: Path) -> Run:
    with h5py.File(file, "r", locking=False) as f:
        root = f["metrics"] if "metrics" in f else f
        run = Run(file.parent.name if file.name == "metrics.h5" else f"{file.parent.name}/{file.stem}".lstrip("/"))
        for part in ("train", "valid"):
            if part in root and "step" in root[part]:
                setattr(run, part, _series(root[part]))
        if not run.train and not run.valid and "train" not in root and "valid" not in root:
            raise PlotError(f"{file}: holds no metrics (no group /train or /valid)")
        return run


def _series(group: h5py.Group) -> dict[str, Series]:
    """Every series of a group, cut to the length that it and `step` both have already."""
    steps = group["step"][:]
    found = {}
    for name, data in group.items():
        if isinstance(data, h5py.Dataset) and data.ndim == 1:
            values = data[:].astype(float)
            n = min(len(steps), len(values))
            if name == "step" or np.isfinite(values[:n]).any():
                found[name] = Series(
                    steps[:n], values[:n], str(data.attrs.get("unit", "")), str(data.attrs.get("description", ""))
                )
    return found


def smoothed(values: np.ndarray, window: float) -> np.ndarray:
    """Mean over about `window` points around each one, fewer at the ends, of those that are finite."""
    half = int(window) // 2
    finite = np.isfinite(values)
    total = np.concatenate([[0.0], np.cumsum(np.where(finite, values, 0.0))])
    count = np.concatenate([[0], np.cumsum(finite)])
    at = np.arange(len(values))
    low, high = np.maximum(at - half, 0), np.minimum(at + half + 1, len(values))
    n = count[high] - count[low]
    return np.where(n > 0, (total[high] - total[low]) / np.maximum(n, 1), np.nan)


# ---- drawing


@dataclass(frozen=True)
class Style:
    smooth: float  # points averaged; 1: none
    several: bool  # colour tells runs apart; else training from validation

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
    ax.yaxis.set_major_locator(matplotlib.ticker.LogLocator(subs=(1, 2, 5)))
    ax.yaxis.set_major_formatter(matplotlib.ticker.StrMethodFormatter("{x:g}"))
    ax.yaxis.set_minor_formatter(matplotlib.ticker.NullFormatter())


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
    valid: str  # "" if only training has it
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
        ax.yaxis.set_major_formatter(matplotlib.ticker.StrMethodFormatter("{x:g}"))
    ax.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(6, integer=True))
    if len(ax.get_legend_handles_labels()[0]) > 1:
        ax.legend(frameon=False, fontsize=8)


def plot(runs: list[Run], out: Path, smooth: float = 1.0, unigram: float | None = None) -> None:
    """Draw what the runs have, a panel for each quantity that at least one of them recorded."""
    panels = [p for p in PANELS if p.sources(runs)]
    if not panels:
        raise PlotError("no series to draw yet: the run has recorded nothing")
    style = Style(smooth, len(runs) > 1)
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(4.6 * columns, 3.4 * rows), squeeze=False, layout="constrained")
    for ax, panel in zip(axes.flat, panels):
        panel.draw(ax, runs, style)
        if panel.title == "Perplexity" and unigram:
            ax.axhline(unigram, color="0.4", linestyle=":", linewidth=1.2, label=f"unigram model, {unigram:.0f}")
        _finish(ax, panel, panel.sources(runs)[0])
    for ax in axes.flat[len(panels) :]:
        ax.set_visible(False)
    figure.suptitle(", ".join(run.name for run in runs), fontsize=12)
    figure.savefig(out, dpi=130)
    plt.close(figure)


# ---- command line


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="plot_metrics.py",
        description="Draw training and validation loss and perplexity, gradient norm, "
        "learning rate and speed of one or more runs. A run may still be going on.",
        epilog="example: plot_metrics.py runs/demo runs/demo_wide -o both.png --smooth 20",
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
        help="mean over about N points, drawn over the points themselves",
    )
    p.add_argument("--unigram", type=float, metavar="PPL", help="draw a line at the perplexity of a unigram model")
    return p


def main(argv: list[str]) -> int:
    o = parser().parse_args(argv)
    first: Path = o.runs[0]
    out = o.out or (first if first.is_dir() else first.parent) / "metrics.png"
    try:
        plot([read_run(path) for path in o.runs], out, o.smooth, o.unigram)
    except PlotError as e:
        message = str(e)
    except (OSError, ValueError) as e:  # an unwritable folder, a format matplotlib does not write
        message = f"{out}: {e}"
    else:
        print(out)
        return 0
    print(f"plot_metrics.py: error: {message}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
