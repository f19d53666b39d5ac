"""What all figures share: colours, sizes, fonts, axes with units, intervals as bands, files.

Colours are Paul Tol's "bright" scheme, which people with any colour blindness tell apart
(https://personal.sron.nl/~pault/data/colourschemes.pdf, section 1); markers and dashes repeat what colour says.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from io import BytesIO
from pathlib import Path

import matplotlib
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

from mdlm_data.errors import InputError
from mdlm_data.output import replacing

matplotlib.use("Agg")  # no window: a batch job has no display

COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#bbbbbb")
GREY = "0.45"
DASHES = ("-", "--", ":", "-.")  # for more curves than colours
MARKERS = "osD^vPX"
WIDTHS = {"column": 3.35, "page": 6.9}  # inches: of a column and of a page of two columns
ACROSS = {"column": 1, "page": 3}  # panels side by side at most
PANEL = {"column": 2.3, "page": 2.0}  # inches: height of a panel
SUFFIXES = (".png", ".pdf", ".svg")

matplotlib.rcParams.update(
    {
        "font.size": 8,
        "axes.titlesize": 8,
        "axes.labelsize": 8,
        "xtick.labelsize": 7,
        "ytick.labelsize": 7,
        "legend.fontsize": 7,
        "legend.frameon": False,
        "axes.linewidth": 0.6,
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "grid.color": "0.9",
        "grid.linewidth": 0.6,
        "lines.linewidth": 1.2,
        "lines.markersize": 3,
        "pdf.fonttype": 42,  # text stays text in PDF and SVG
        "svg.fonttype": "none",
        "svg.hashsalt": "mdlm",
    }
)


def colour(i: int) -> str:
    return COLOURS[i % len(COLOURS)]


def dash(i: int) -> str:
    return DASHES[i // len(COLOURS) % len(DASHES)]


def marker(i: int) -> str:
    return MARKERS[i % len(MARKERS)]


def panels(n: int, width: str, across: int | None = None, height: float | None = None) -> tuple[Figure, list[Axes]]:
    """A figure as wide as a column or a page with n panels; height: of a panel, in inches."""
    columns = min(n, across or ACROSS[width])
    rows = -(-n // columns)
    figure = Figure(figsize=(WIDTHS[width], (height or PANEL[width]) * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).flat
    for ax in axes[n:]:
        ax.remove()
    return figure, list(axes[:n])


def label(name: str, unit: str = "") -> str:
    return f"{name} [{unit}]" if unit not in ("", "1") else name


def band(ax: Axes, x: Sequence, low: Sequence, high: Sequence, colour: str) -> None:
    """An interval around a curve."""
    ax.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0)


def log_scale(ax: Axes, axis: str = "y") -> None:
    """A logarithmic axis, with plain numbers at its ticks where it spans less than four decades; for positive data only."""
    if not getattr(ax.dataLim, f"minpos{axis}") < float("inf"):
        return
    getattr(ax, f"set_{axis}scale")("log")
    low, high = getattr(ax, f"get_{axis}lim")()
    if high < 1e4 * low:
        at = ax.yaxis if axis == "y" else ax.xaxis
        few = ticker.LogLocator(subs=(1, 2, 5), numticks=10) if high > 5 * low else ticker.MaxNLocator(4)
        at.set_major_locator(few)
        at.set_major_formatter(ticker.StrMethodFormatter("{x:g}"))
        at.set_minor_formatter(ticker.NullFormatter())


def rows(ax: Axes, names: Sequence[str], label: str) -> None:
    """A named row for each value of the vertical axis, the first on top; label: of the horizontal axis."""
    ax.set_yticks(range(len(names)), names, fontsize=6)
    verbatim(ax.get_yticklabels())
    ax.set_ylim(max(len(names), 1) - 0.5, -0.5)
    ax.grid(axis="y", visible=False)
    ax.set_xlabel(label, loc="right")


def legend(figure: Figure, axes: Sequence[Axes]) -> None:
    """One legend for all panels, above them, for which the figure grows; names of several panels are shown once."""
    found: dict = {}
    for ax in axes:
        for handle, name in zip(*ax.get_legend_handles_labels()):
            found.setdefault(name, handle)
    if len(found) > 1:
        most = max(1, int(figure.get_figwidth() / (0.45 + 0.062 * max(map(len, found)))))
        columns = min(most, len(found))
        verbatim(figure.legend(found.values(), found.keys(), loc="outside upper left", ncols=columns).get_texts())
        figure.set_figheight(figure.get_figheight() + 0.15 * -(-len(found) // columns))


def verbatim(texts: Iterable[Text]) -> None:
    """Shows dollar signs in names of runs and files as they are, not as mathematics."""
    for text in texts:
        text.set_parse_math(False)


def check(path: Path) -> Path:
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"{path}: a figure's name ends with {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}")
    return path


def save(figure: Figure, path: Path) -> None:
    """As PNG, PDF or SVG, by the name; the same figure gives the same file."""
    kind = check(path).suffix.lower()
    dates = {".pdf": {"CreationDate": None}, ".svg": {"Date": None}}
    picture = BytesIO()  # in memory: on a full disk matplotlib's writer of PDF fails on its own error
    figure.savefig(picture, format=kind[1:], dpi=200, metadata=dates.get(kind))
    with replacing(path) as partial:
        Path(partial).write_bytes(picture.getvalue())
