"""Weights of checkpoints: norms, sizes of updates, spectra, stable ranks, exponents of their tails.

Of a run's folder: its numbered checkpoints (train.keep_every) and last.h5, in the order of steps; files of one folder are one
run. update: ‖W − W′‖₂/‖W′‖₂, where W′ is the checkpoint before. stable rank: ‖W‖_F²/‖W‖₂². alpha: exponent of the tail of the
eigenvalues of WᵀW, p(λ) ∝ λ^−α, by maximum likelihood above the λ_min nearest in Kolmogorov and Smirnov's distance (Clauset,
Shalizi, Newman, arXiv:0706.1062; WeightWatcher's alpha, arXiv:2002.06716), for matrices with at least 50 eigenvalues. The table
and the figure show medians over blocks, with bands from the lowest to the highest; the CSV has every tensor."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import mdlm_h5
from mdlm_analysis import spectrum
from mdlm_analysis.result import Result
from mdlm_analysis.runs import distinct
from mdlm_analysis.table import Column, Table
from mdlm_data.errors import require

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

HELP = "norms, updates between kept checkpoints, spectra, stable rank, tail exponent"
EXAMPLE = "weights runs/a -o weights.pdf"
GROUPS = {"ema": "ema", "live": "params"}
QUANTITIES = {  # name → printed form
    "rms": ".4g",
    "update": ".4g",
    "largest singular value": ".4g",
    "stable rank": ".1f",
    "alpha": ".2f",
    "alpha se": ".2f",
}
BLOCK = re.compile(r"(^|\.)(blocks|layers|h)\.\d+\.")


@dataclass
class State:
    """The tensors of a checkpoint."""

    step: int
    values: dict[str, dict[str, float]] = field(default_factory=dict)  # tensor → quantity → value
    singular: dict[str, np.ndarray] = field(default_factory=dict)  # of each matrix, largest first


@dataclass
class History:
    name: str
    states: list[State]


def add_arguments(p: argparse.ArgumentParser) -> None:
    p.add_argument("paths", nargs="+", type=Path, metavar="RUN|CHECKPOINT", help="a run's folder or a checkpoint")
    p.add_argument("--weights", choices=GROUPS, default="ema", help="moving average or live weights (default: ema)")


def run(o: argparse.Namespace) -> Result:
    folders = gather(o.paths)
    names = distinct([files[0].parent / "metrics.h5" if len(files) > 1 else files[0] for files in folders])
    histories = [History(name, states(files, GROUPS[o.weights])) for name, files in zip(names, folders)]
    return Result(summary(histories), lambda width: draw(histories, width), numbers(histories))


# ---- reading


def gather(paths: Sequence[Path]) -> list[list[Path]]:
    """The checkpoints of each run, by step."""
    found: dict[Path, dict[Path, int]] = {}
    for path in paths:
        files = [path]
        if path.is_dir():
            files = [f for f in [*sorted(path.glob("step-*.h5")), path / "last.h5"] if f.is_file()]
            require(files, f"{path}: holds no step-NUMBER.h5 and no last.h5; train.keep_every keeps checkpoints")
        for file in files:
            found.setdefault(file.parent.resolve(), {})[file] = mdlm_h5.checkpoint(file).step
    return [without_repeats(files) for files in found.values()]


def without_repeats(steps: dict[Path, int]) -> list[Path]:
    """In the order of steps; of several checkpoints of one step (the last and a numbered one) the first."""
    files: dict[int, Path] = {}
    for file, step in steps.items():
        files.setdefault(step, file)
    return [files[step] for step in sorted(files)]


def states(files: list[Path], group: str) -> list[State]:
    found, before = [], None
    for file in files:
        now = mdlm_h5.checkpoint(file)
        require(now.groups().get(group), f"{file}: holds no {group}")
        found.append(State(now.step))
        for name in now.shapes:
            measure(found[-1], now.parameter(name, group), name, before and before.parameter(name, group))
        before = now
    return found


def measure(state: State, w: np.ndarray, name: str, before: np.ndarray | None) -> None:
    norm = length(w)
    values = state.values[name] = {"norm": norm, "rms": norm / np.sqrt(max(w.size, 1))}
    if before is not None and before.shape == w.shape:
        values["update"] = length(w - before) / length(before) if before.any() else np.nan
    if w.ndim != 2 or min(w.shape) < 2 or not np.isfinite(norm):
        return
    eigenvalues = spectrum.eigenvalues(w)
    state.singular[name] = np.sqrt(eigenvalues)
    values["largest singular value"] = float(state.singular[name][0])
    values["stable rank"] = spectrum.stable_rank(eigenvalues)
    tail = spectrum.tail(eigenvalues)
    if tail:
        values |= {"alpha": tail.alpha, "alpha se": tail.error, "tail eigenvalues": tail.count}
        values |= {"tail minimum": tail.minimum, "tail distance": tail.distance}


def length(w: np.ndarray) -> float:
    """The 2-norm, summed in double precision."""
    return float(np.sqrt(np.sum(np.square(w, dtype=np.float64))))


# ---- numbers


def kind(name: str) -> str:
    """What a tensor has in common with those of other blocks."""
    return BLOCK.sub(r"\1\2.*.", name)


def kinds(state: State, quantity: str) -> dict[str, np.ndarray]:
    """The values of a quantity, of all tensors of a kind together."""
    found: dict[str, list[float]] = {}
    for name, values in state.values.items():
        if quantity in values:
            found.setdefault(kind(name), []).append(values[quantity])
    return {name: np.array(values) for name, values in found.items()}


def summary(histories: list[History]) -> Table:
    """The last checkpoint of each run, a row for each kind of tensors."""
    columns = [Column("run"), Column("step", "", "d"), Column("tensors"), Column("number", "", "d")]
    table = Table(columns + [Column(name, "", form) for name, form in QUANTITIES.items()])
    for h in histories:
        state = h.states[-1]
        found = {quantity: kinds(state, quantity) for quantity in QUANTITIES}
        for name, rms in found["rms"].items():
            medians = [float(np.median(found[q][name])) if name in found[q] else None for q in QUANTITIES]
            table.add(h.name, state.step, name, len(rms), *medians)
    return table


def numbers(histories: list[History]) -> Table:
    """Every quantity of every tensor of every checkpoint; of the last, all singular values."""
    table = Table([Column(name) for name in ("run", "step", "tensor", "quantity", "k", "value")])
    for h in histories:
        for state in h.states:
            for name, values in state.values.items():
                for quantity, value in values.items():
                    table.add(h.name, state.step, name, quantity, None, float(value))
        for name, singular in h.states[-1].singular.items():
            for k, value in enumerate(singular, 1):
                table.add(h.name, h.states[-1].step, name, "singular value", k, float(value))
    return table


# ---- drawing


PANELS = (  # quantity, label, logarithmic
    ("rms", "root mean square", True),
    ("update", "relative update", True),
    ("stable rank", "stable rank", True),
    ("alpha", "tail exponent α", False),
)


def draw(histories: list[History], width: str) -> Figure:
    """Matrices only, a colour for each kind. Over steps where a run has several checkpoints; else a row for each kind."""
    from mdlm_analysis import figure

    names = list(dict.fromkeys(kind(name) for h in histories for s in h.states for name in s.singular))
    require(names, "no matrix to draw: the checkpoints hold vectors only")
    recorded = {q for h in histories for s in h.states for values in s.values.values() for q in values}
    shown = [panel for panel in PANELS if panel[0] in recorded]
    n, single = len(shown) + (len(histories) == 1), all(len(h.states) == 1 for h in histories)
    across = {"column": 1, "page": n if single else 2 if n == 4 else 3}[width]
    height = max(0.7 + 0.2 * len(names), figure.PANEL[width]) if single else None
    drawing, axes = figure.panels(n, width, across, height)
    for k, (ax, (quantity, label, log)) in enumerate(zip(axes, shown)):
        if single:
            _over_kinds(ax, histories, names, quantity)
            figure.rows(ax, names if k % across == 0 else [""] * len(names), label)
        else:
            _over_steps(ax, histories, names, quantity)
            ax.set_xlabel("step")
            ax.set_ylabel(label)
        if log:
            figure.log_scale(ax, "x" if single else "y")
    if len(histories) == 1:
        _spectra(axes[-1], histories[0].states[-1], names)
    for i, h in enumerate(histories if len(histories) > 1 else ()):
        axes[0].plot([], [], color=figure.GREY, marker=figure.marker(i), linestyle="", label=h.name)
    figure.legend(drawing, axes)
    return drawing


def _over_steps(ax: Axes, histories: list[History], names: list[str], quantity: str) -> None:
    from mdlm_analysis import figure

    for i, h in enumerate(histories):
        found = [(s.step, kinds(s, quantity)) for s in h.states]
        for k, name in enumerate(names):
            points = [(step, values[name]) for step, values in found if name in values]
            if not points:
                continue
            steps = [step for step, _ in points]
            style = dict(color=figure.colour(k), linestyle=figure.dash(k), marker=figure.marker(i))
            ax.plot(steps, [np.median(v) for _, v in points], label=name, **style)
            if len(histories) == 1:
                figure.band(ax, steps, [v.min() for _, v in points], [v.max() for _, v in points], style["color"])


def _over_kinds(ax: Axes, histories: list[History], names: list[str], quantity: str) -> None:
    from mdlm_analysis import figure

    for i, h in enumerate(histories):
        values, errors = kinds(h.states[-1], quantity), kinds(h.states[-1], f"{quantity} se")
        shift = 0.5 * ((i + 0.5) / len(histories) - 0.5)
        for k, name in enumerate(names):
            if name not in values:
                continue
            places = k + shift + 0.12 * np.linspace(-1, 1, len(values[name]) + 2)[1:-1]
            error = 1.96 * errors[name] if name in errors else None
            style = dict(color=figure.colour(k), marker=figure.marker(i), linestyle="", elinewidth=0.6)
            ax.errorbar(values[name], places, xerr=error, **style)


def _spectra(ax: Axes, state: State, names: list[str]) -> None:
    """Singular values over the largest, as functions of their place; of several blocks the median."""
    from mdlm_analysis import figure

    for k, name in enumerate(names):
        found = [s / s[0] for n, s in state.singular.items() if kind(n) == name and s[0] > 0]
        if found:
            middle = np.median(found, axis=0)
            place = (np.arange(len(middle)) + 1) / len(middle)
            ax.plot(place, middle, color=figure.colour(k), linestyle=figure.dash(k))
    ax.set_yscale("log")
    ax.set_ylim(bottom=1e-4)
    ax.set_xlabel("k/rank")
    ax.set_ylabel("singular value σₖ/σ₁")
