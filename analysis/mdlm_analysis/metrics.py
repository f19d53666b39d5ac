"""The history of one or more runs, which may still be running: loss, perplexity, gradient norm, learning rate, speed.

Bands are 95 % intervals of the validation. --x flops: the common estimate 6·N·D of training (arXiv:2001.08361), with N the
parameters but those of the token embedding, D the tokens; metrics record no operations. A checkpoint of the run tells N."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import mdlm_h5
from mdlm_analysis.result import Result
from mdlm_analysis.runs import Run, read_runs
from mdlm_analysis.table import Column, Table
from mdlm_data.command import positive
from mdlm_data.errors import require
from mdlm_h5 import Series

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

HELP = "history of one or more runs: loss, perplexity, gradient norm, learning rate, speed"
EXAMPLE = "metrics runs/a runs/b -o both.pdf --smooth 20 --x tokens --panels loss,ppl"


@dataclass(frozen=True)
class Panel:
    title: str
    train: str
    valid: str = ""  # "": recorded in training only
    log: bool = False
    zero: bool = False  # the axis begins at 0
    smooth: bool = True


PANELS = {
    "loss": Panel("Loss", "loss", "nll"),
    "ppl": Panel("Perplexity", "ppl", "ppl", log=True),
    "grad_norm": Panel("Gradient norm", "grad_norm", zero=True),
    "lr": Panel("Learning rate", "lr", smooth=False),
    "speed": Panel("Speed", "tokens_per_s", zero=True),
    "mfu": Panel("Model FLOP utilisation", "mfu", zero=True),
}
AXES = {
    "steps": ("step", ""),
    "tokens": ("tokens", ""),
    "seconds": ("training time", "s"),
    "flops": ("compute 6·N·D", "FLOP"),
}
RECORDED = {"flops": "tokens"}  # the series that an axis is made of; else that of its name
EMBEDDINGS = ("vocab_embed.embedding", "embeddings.word_embeddings.weight")


def add_arguments(p: argparse.ArgumentParser) -> None:
    p.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="a run's folder, a metrics.h5 or a checkpoint")
    p.add_argument(
        "--smooth", type=positive, default=1.0, metavar="N", help="draw the mean over about N points as well"
    )
    p.add_argument("--unigram", type=positive, metavar="PPL", help="draw a line at the perplexity of a unigram model")
    p.add_argument("--x", choices=AXES, default="steps", help="the horizontal axis (default: steps)")
    p.add_argument("--panels", metavar="LIST", help=f"some of {','.join(PANELS)} (default: all that were recorded)")


def run(o: argparse.Namespace) -> Result:
    runs = read_runs(o.runs)
    panels, flat = choose(runs, o.panels)
    notes = [f"no panel for {PANELS[name].title.lower()}, which is constant" for name in flat]
    return Result(
        summary(runs), lambda width: draw(runs, panels, o, width), numbers(runs, panels, o.x), notes=tuple(notes)
    )


def choose(runs: list[Run], wanted: str | None) -> tuple[list[str], list[str]]:
    """The panels to draw, and those left out since nothing changes in them."""
    names = wanted.split(",") if wanted else list(PANELS)
    for name in names:
        require(name in PANELS, f"--panels: no panel {name}; there are {','.join(PANELS)}")
    recorded = [name for name in names if sources(PANELS[name], runs)]
    shown = [name for name in recorded if not constant(sources(PANELS[name], runs))]
    require(shown, f"{runs[0].path}: no series to draw yet: nothing that changes has been recorded")
    return shown, [name for name in recorded if name not in shown]


def constant(series: list[Series]) -> bool:
    """Whether several points have one value, the same for all."""
    found = np.concatenate([finite(s.values) for s in series])
    return len(found) > len(series) and len(np.unique(found)) == 1


def sources(panel: Panel, runs: list[Run]) -> list[Series]:
    return [s[name] for run in runs for s, name in ((run.train, panel.train), (run.valid, panel.valid)) if name in s]


def finite(values: np.ndarray) -> np.ndarray:
    return values[np.isfinite(values)]


# ---- numbers


def smoothed(values: np.ndarray, window: float) -> np.ndarray:
    """Centred mean of the finite values among about `window` points, fewer at the ends."""
    half = int(window) // 2
    good = np.isfinite(values)
    total = np.concatenate([[0.0], np.cumsum(np.where(good, values, 0.0))])
    count = np.concatenate([[0], np.cumsum(good)])
    at = np.arange(len(values))
    low, high = np.maximum(at - half, 0), np.minimum(at + half + 1, len(values))
    n = count[high] - count[low]
    return np.where(n > 0, (total[high] - total[low]) / np.maximum(n, 1), np.nan)


def interval(run: Run, panel: Panel) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Steps, lower and upper ends of the 95 % interval of a validation; that of the loss is the logarithm of ppl's."""
    if panel.valid not in ("ppl", "nll") or not {"ppl_low", "ppl_high"} <= run.valid.keys():
        return None
    low, high = run.valid["ppl_low"], run.valid["ppl_high"]
    n = min(len(low.values), len(high.values))
    scale = np.log if panel.valid == "nll" else np.asarray
    return low.steps[:n], scale(low.values[:n]), scale(high.values[:n])


def axis(run: Run, name: str, steps: np.ndarray) -> np.ndarray:
    """The places of steps on the horizontal axis; between the rows of training by linear interpolation."""
    if name == "steps":
        return steps
    series = RECORDED.get(name, name)
    require(series in run.train, f"{run.path}: records no {series}; use --x steps")
    s = run.train[series]
    values = elapsed(s.values) if name == "seconds" else s.values
    scale = 6.0 * parameters(run) if name == "flops" else 1.0
    return scale * np.interp(steps, np.concatenate([[0], s.steps]), np.concatenate([[0], values]), right=np.nan)


@cache
def _parameters(file: Path) -> int:
    shapes = mdlm_h5.checkpoint(file).shapes
    return sum(math.prod(shape) for name, shape in shapes.items() if not name.endswith(EMBEDDINGS))


def parameters(run: Run) -> int:
    """Of the run's network, without the token embedding."""
    beside = [run.path] if run.path.name != "metrics.h5" else [run.path.parent / f"{x}.h5" for x in ("last", "best")]
    file = next((f for f in beside if f.is_file()), None)
    require(file, f"{run.path}: no checkpoint beside it tells the number of parameters; use --x tokens")
    return _parameters(file)


def elapsed(seconds: np.ndarray) -> np.ndarray:
    """Time since the start of the run. A resumed run counts from 0 again; what came before, as far as logged, is added."""
    restart = np.concatenate([[False], np.diff(seconds) < 0])
    return seconds + np.cumsum(np.where(restart, np.concatenate([[0], seconds[:-1]]), 0))


def summary(runs: list[Run]) -> Table:
    """A row for each run."""
    loss, ppl = "nat/token", ".4g"
    columns = [Column("run"), Column("step", "", ".0f"), Column("tokens", "", ".4g"), Column("time", "s", ".4g")]
    columns += [Column("training loss", loss, ".4f"), Column("validation nll", loss, ".4f")]
    columns += [Column(name, "", ppl) for name in ("validation ppl", "ci95 low", "ci95 high", "lowest ppl")]
    table = Table([*columns, Column("at step", "", ".0f"), Column("speed", "token/s", ".4g")])
    for r in runs:
        seconds = elapsed(values(r.train, "seconds"))
        table.add(
            r.name,
            max(last(s.steps) for part in (r.train, r.valid) for s in part.values()),
            last(values(r.train, "tokens")),
            last(seconds),
            last(values(r.train, "loss")),
            *(last(values(r.valid, name)) for name in ("nll", "ppl", "ppl_low", "ppl_high")),
            *lowest(r.valid.get("ppl")),
            float(np.median(finite(values(r.train, "tokens_per_s")) if "tokens_per_s" in r.train else [np.nan])),
        )
    return table


def values(part: dict[str, Series], name: str) -> np.ndarray:
    return part[name].values if name in part else np.empty(0)


def last(x: np.ndarray) -> float:
    return float(x[-1]) if len(x) else float("nan")


def lowest(s: Series | None) -> tuple[float, float]:
    """The lowest value, and its step."""
    if s is None or not len(finite(s.values)):
        return float("nan"), float("nan")
    at = int(np.nanargmin(s.values))
    return float(s.values[at]), float(s.steps[at])


def numbers(runs: list[Run], panels: list[str], x: str) -> Table:
    """Every point of the figure."""
    columns = [Column("run"), Column("part"), Column("series"), Column("unit"), Column("step")]
    columns += [Column(x, AXES[x][1])] if x != "steps" else []
    table = Table([*columns, Column("value")])
    for r in runs:
        for part, series, names in (("train", r.train, "train"), ("valid", r.valid, "valid")):
            wanted = {getattr(PANELS[p], names) for p in panels}
            wanted |= {"ppl_low", "ppl_high"} if part == "valid" and wanted & {"ppl", "nll"} else set()
            for name in sorted(wanted & series.keys()):
                s = series[name]
                place = axis(r, x, s.steps)
                for step, at, value in zip(s.steps, place, s.values):
                    table.add(r.name, part, name, s.unit, int(step), *([at] if x != "steps" else []), value)
    return table


# ---- drawing


def draw(runs: list[Run], panels: list[str], o: argparse.Namespace, width: str) -> Figure:
    """A panel for each quantity, a colour for each run; of a single run, for training and for validation."""
    from mdlm_analysis import figure

    drawing, axes = figure.panels(len(panels), width)
    for ax, name in zip(axes, panels):
        panel = PANELS[name]
        for i, r in enumerate(runs):
            _run(ax, r, i, panel, o, several=len(runs) > 1)
        if name == "ppl" and o.unigram:
            ax.axhline(o.unigram, color=figure.GREY, linestyle=":", label=f"unigram model, {o.unigram:.0f}")
        ax.set_xlabel(figure.label(*AXES[o.x]))
        ax.set_ylabel(figure.label(panel.title.lower().replace("flop", "FLOP"), sources(panel, runs)[0].unit))
        if panel.log:
            figure.log_scale(ax)
        elif panel.zero:
            ax.set_ylim(bottom=0)
        ax.xaxis.set_major_locator(figure.ticker.MaxNLocator(5, integer=o.x == "steps"))
        if o.x in ("tokens", "flops"):
            ax.xaxis.set_major_formatter(figure.ticker.EngFormatter(sep=""))
    figure.legend(drawing, axes)
    return drawing


def _run(ax: Axes, r: Run, i: int, panel: Panel, o: argparse.Namespace, several: bool) -> None:
    from mdlm_analysis import figure

    train = figure.colour(i) if several else figure.colour(0)
    valid = figure.colour(i) if several else figure.colour(1)
    prefix = f"{r.name}, " if several else ""
    if panel.train in r.train:
        s = r.train[panel.train]
        window = o.smooth if panel.smooth else 1.0
        _curve(ax, axis(r, o.x, s.steps), s.values, train, figure.dash(i), prefix + "training", window, panel.log)
    if panel.valid in r.valid:
        s = r.valid[panel.valid]
        style = dict(color=valid, marker=figure.marker(i), markeredgecolor="black" if several else valid, zorder=3)
        dash = "--" if several else "-"
        ax.plot(
            axis(r, o.x, s.steps), s.values, linestyle=dash, markeredgewidth=0.5, label=prefix + "validation", **style
        )
        ends = interval(r, panel)
        if ends:
            figure.band(ax, axis(r, o.x, ends[0]), ends[1], ends[2], valid)


def _curve(ax: Axes, x: Sequence, y: np.ndarray, colour: str, dash: str, label: str, window: float, log: bool) -> None:
    if window > 1 and len(y) > 2:
        ax.plot(x, y, color=colour, alpha=0.25, linewidth=0.6)
        y = np.exp(smoothed(np.log(y), window)) if log else smoothed(y, window)
    ax.plot(x, y, color=colour, linestyle=dash, label=label, marker="o" if len(y) < 3 else "")
