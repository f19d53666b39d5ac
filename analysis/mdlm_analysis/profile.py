"""Where the loss of a data set comes from, and how well predictions are calibrated: files of mdlm profile.

Reliability: accuracy over confidence, the mean probability of the likeliest token, in tenths of that probability; on the
diagonal a prediction is right as often as it claims. ECE: its mean distance from the diagonal, weighted by tokens. Then mean
−log p of the target by share of masked tokens, position, frequency of the target and distance to the nearest visible token, and
the size of the residual stream. Bands: 95 % intervals of tokens taken as independent, several draws of one as one; Wilson's for
accuracies."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import mdlm_h5
from mdlm_analysis.result import Result
from mdlm_analysis.runs import distinct
from mdlm_analysis.table import Column, Table
from mdlm_data.errors import require

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from mdlm_h5 import Bins, Profile

HELP = "calibration; loss by share of masked tokens, position, frequency, distance; residual stream"
EXAMPLE = "profile runs/a/profile.h5 runs/b/profile.h5 -o profile.pdf"
CUTS = {  # panel → label of its horizontal axis
    "share": "share of masked tokens",
    "position": "position",
    "frequency": "rank of the token, tenths",
    "distance": "distance to a visible token",
}
NORMAL = 1.959964  # quantile of 97.5 %
QUANTITIES = ("nll", "std", "entropy", "accuracy", "confidence")


def add_arguments(p: argparse.ArgumentParser) -> None:
    p.add_argument("files", nargs="+", type=Path, metavar="PROFILE.h5")


def run(o: argparse.Namespace) -> Result:
    require(len({f.resolve() for f in o.files}) == len(o.files), "a file is named twice")
    profiles = dict(zip(distinct(o.files), map(mdlm_h5.profile, o.files)))
    return Result(summary(profiles), lambda width: draw(profiles, width), numbers(profiles))


def summary(profiles: dict[str, Profile]) -> Table:
    columns = [Column("profile"), Column("nll", "nat/token", ".4f"), Column("ppl", "", ".4g")]
    columns += [Column(name, "", ".4f") for name in ("accuracy", "confidence", "ECE")]
    table = Table([*columns, Column("entropy of predictions", "nat", ".4f")])
    for name, p in profiles.items():
        a = p.attributes
        table.add(name, p.nll, p.ppl, *(a[k] for k in ("accuracy", "confidence", "ece", "prediction_entropy")))
    return table


def bins(p: Profile) -> dict[str, Bins]:
    return {cut: found for cut in CUTS if (found := getattr(p, cut)) is not None}


def edges(b: Bins) -> tuple[np.ndarray, np.ndarray]:
    """Of the bins; of positions their numbers."""
    if b.low is None or b.high is None:
        at = np.arange(len(b.tokens), dtype=float)
        return at, at
    return np.asarray(b.low, float), np.asarray(b.high, float)


def places(cut: str, b: Bins) -> np.ndarray:
    """Where the bins stand on the axis: shares in the middle, positions from 0, the rest from 1."""
    low, high = edges(b)
    return (low + high) / 2 if cut == "share" else np.arange(len(b.tokens)) + (0.0 if cut == "position" else 1.0)


def names(b: Bins) -> list[str]:
    """Of the bins of distance."""
    spans = [f"{low:g}" if low == high else f"{low:g}–{high:g}" for low, high in zip(*edges(b))]
    return [*spans[:-1], "none"]


def distances(profiles: Iterable[Profile]) -> list[str]:
    """The bins of distance of all profiles in order: long rows have more, and uniform noise has 0; the last is "none"."""
    found: dict[float, str] = {}
    for b in (p.distance for p in profiles if p.distance is not None):
        found.update(zip(edges(b)[1][:-1], names(b)[:-1]))
    return [name for _, name in sorted(found.items())] + ["none"]


def half_interval(b: Bins, draws: int) -> np.ndarray:
    """Half the 95 % interval of the mean of −log p."""
    return NORMAL * b.std / np.sqrt(np.maximum(b.tokens / draws, 1))


def wilson(share: np.ndarray, n: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The 95 % interval of a share of n, which has a width for 0 and 1, too."""
    n = np.maximum(n, 1)
    middle = (share + NORMAL**2 / (2 * n)) / (1 + NORMAL**2 / n)
    half = NORMAL * np.sqrt(share * (1 - share) / n + NORMAL**2 / (4 * n**2)) / (1 + NORMAL**2 / n)
    return middle - half, middle + half


def reliability(p: Profile) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tokens, accuracy and confidence by tenths of the largest probability, of all shares together."""
    c = p.calibration
    tokens = c.tokens.sum(axis=0)

    def mean(x: np.ndarray) -> np.ndarray:
        total = np.where(c.tokens > 0, np.nan_to_num(x) * c.tokens, 0).sum(axis=0)
        return np.where(tokens > 0, total / np.maximum(tokens, 1), np.nan)

    return tokens, mean(c.accuracy), mean(c.confidence)


def numbers(profiles: dict[str, Profile]) -> Table:
    """Every bin; the reliability diagram as the cut `calibration`, the residual stream as `residual`."""
    table = Table([Column(name) for name in ("profile", "cut", "low", "high", "tokens", *QUANTITIES, "rms")])
    for name, p in profiles.items():
        for cut, b in bins(p).items():
            for row in zip(*edges(b), b.tokens, *(getattr(b, q) for q in QUANTITIES)):
                table.add(name, cut, *map(float, row), None)
        for low, high, *(tokens, accuracy, confidence) in zip(p.calibration.low, p.calibration.high, *reliability(p)):
            row = (low, high, tokens, np.nan, np.nan, np.nan, accuracy, confidence)
            table.add(name, "calibration", *map(float, row), None)
        for k, size in enumerate(p.residual):
            table.add(name, "residual", k, k, *[None] * (1 + len(QUANTITIES)), float(size))
    return table


def draw(profiles: dict[str, Profile], width: str) -> Figure:
    from mdlm_analysis import figure

    cuts = [cut for cut in CUTS if any(cut in bins(p) for p in profiles.values())]
    spans = distances(profiles.values())
    drawing, axes = figure.panels(2 + len(cuts), width)
    axes[0].plot([0, 1], [0, 1], color=figure.GREY, linestyle=":", label="calibrated")
    for k, (name, p) in enumerate(profiles.items()):
        style = dict(color=figure.colour(k), marker=figure.marker(k), linestyle=figure.dash(k), label=name)
        _reliability(axes[0], p, style)
        for ax, cut in zip(axes[1:], cuts):
            if cut in bins(p):
                _cut(ax, cut, p, style, spans)
        axes[-1].plot(np.arange(len(p.residual)), p.residual, **style)
    for ax, cut in zip(axes[1:], cuts):
        ax.set(xlabel=CUTS[cut], ylabel=figure.label("−log p", "nat"))
        ax.set_ylim(bottom=0)
        if cut == "distance":
            ax.set_xticks(range(1, len(spans) + 1), spans, fontsize=6, rotation=45, ha="right", rotation_mode="anchor")
    axes[-1].set(xlabel="branches of blocks", ylabel="residual stream, RMS")
    axes[-1].set_ylim(bottom=0)
    axes[-1].xaxis.get_major_locator().set_params(integer=True)
    figure.legend(drawing, axes)
    return drawing


def _reliability(ax: Axes, p: Profile, style: dict) -> None:
    from mdlm_analysis import figure

    tokens, accuracy, confidence = reliability(p)
    ax.plot(confidence, accuracy, **style)
    figure.band(ax, confidence, *wilson(accuracy, tokens / p.attributes["draws"]), style["color"])
    ax.set(xlabel="confidence", ylabel="accuracy", xlim=(0, 1), ylim=(0, 1))


def _cut(ax: Axes, cut: str, p: Profile, style: dict, spans: list[str]) -> None:
    """Draw the bins of a profile; spans: the distances on the axis."""
    from mdlm_analysis import figure

    b, x = bins(p)[cut], places(cut, bins(p)[cut])
    if cut == "distance":
        x = np.array([1.0 + spans.index(name) for name in names(b)])
    full = b.tokens > 0
    ax.plot(x[full], b.nll[full], **(style | {"marker": style["marker"] if full.sum() <= 32 else ""}))
    half = half_interval(b, p.attributes["draws"])
    figure.band(ax, x[full], (b.nll - half)[full], (b.nll + half)[full], style["color"])
