"""The cells of a sweep with their 95 % intervals, or the differences of checkpoints on the same rows with the same masks.

The intervals are those of the source: how well the value of the text is known from which the rows were drawn. Cells are
compared within a protocol only, which the letters mark: the same data, framing, length, tokenizer and detokenizer. Whether two
intervals overlap tells nothing of their difference: what is hard in a row is hard for both; --differences goes row by row.
Its p values are those of single comparisons, not adjusted for their number."""

from __future__ import annotations

import argparse
import string
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import mdlm_h5
from mdlm_analysis.result import Result
from mdlm_analysis.runs import distinct
from mdlm_analysis.table import Column, Table
from mdlm_data.errors import require

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HELP = "tables and forest plots of a sweep: perplexities with intervals, paired differences"
EXAMPLE = "sweep runs/sweep/sweep.h5 --differences --format latex -o differences.pdf"
PROTOCOL = ("data_digest", "wrap", "length", "tokenizer", "detokenizer")
OPTIONS = ("step", "estimator", "draws", "T", "seed")
COLUMNS = {"name", "checkpoint", "data", "status", "nll", "low", "high", "bits_per_byte", *PROTOCOL, *OPTIONS}
NLL = "nat/token"


@dataclass(frozen=True)
class Cell:
    mark: str  # of its protocol
    data: str
    checkpoint: str  # the shortest name
    values: dict[str, Any]  # its row of the file

    @property
    def done(self) -> bool:
        return self.values["status"] == "done"


@dataclass(frozen=True)
class Point:
    """A row of the figure."""

    panel: str
    name: str
    value: float
    low: float
    high: float
    colour: int


def add_arguments(p: argparse.ArgumentParser) -> None:
    p.add_argument("sweep", type=Path, metavar="SWEEP.h5", help="or its folder")
    p.add_argument("--differences", action="store_true", help="of pairs of cells, instead of the cells")


def run(o: argparse.Namespace) -> Result:
    found = mdlm_h5.sweep(o.sweep)
    missing = COLUMNS - found.columns.keys()
    require(missing != {"low", "high"}, f"{o.sweep}: has no intervals; the same mdlm sweep again writes them")
    require(not missing, f"{o.sweep}: its cells have no {', '.join(sorted(missing))}")
    cells = read_cells(found)
    table, points, label = differences(found, cells) if o.differences else values(cells)
    notes = [f"{mark}: {words(cell)}" for mark, cell in {c.mark: c for c in reversed(cells)}.items()][::-1]
    undone = [c for c in cells if not c.done]
    notes += [f"not done: {c.checkpoint} on {c.data}: {c.values['status']}" for c in undone]
    return Result(table, lambda width: draw(points, label, 0 if o.differences else None, width), notes=tuple(notes))


# ---- reading


def read_cells(found: mdlm_h5.Sweep) -> list[Cell]:
    columns = found.columns
    rows = [{name: column[i] for name, column in columns.items()} for i in range(len(columns["name"]))]
    protocols = list(dict.fromkeys(tuple(row[name] for name in PROTOCOL) for row in rows))
    require(len(protocols) <= 26, f"{len(protocols)} protocols in one sweep: more than letters")
    paths = list(dict.fromkeys(columns["checkpoint"]))
    short = dict(zip(paths, distinct([Path(p) for p in paths])))
    mark = dict(zip(protocols, string.ascii_lowercase))
    return [Cell(mark[tuple(r[n] for n in PROTOCOL)], r["data"], short[r["checkpoint"]], r) for r in rows]


def words(cell: Cell) -> str:
    """The protocol of a cell."""
    v = cell.values
    framing = "wrapped from running text" if v["wrap"] else "a text a row"
    tokens = f"length {v['length']:.0f}, {framing}, tokenizer {v['tokenizer']}, detokenizer {v['detokenizer']}"
    return f"{cell.data}: {tokens}, digest {v['data_digest']}"


def option(cell: Cell, name: str) -> Any:
    """None where the value is exact, so that nothing is drawn."""
    value = cell.values[name]
    if name in ("draws", "T", "seed") and cell.values["estimator"] == "exact":
        return None
    return value if isinstance(value, str) else int(value)


def label(cell: Cell, varying: list[str]) -> str:
    """The checkpoint, with the options that are not the same in all cells."""
    told = [f"{name} {x}" if name != "estimator" else x for name in varying if (x := option(cell, name)) is not None]
    return ", ".join([cell.checkpoint, *told])


def varies(cells: list[Cell]) -> list[str]:
    """The options of which one checkpoint has several values."""
    seen: dict[tuple[str, str], set] = {}
    for c in cells:
        for name in OPTIONS:
            seen.setdefault((c.checkpoint, name), set()).add(option(c, name))
    return [name for name in OPTIONS if any(len(seen[c.checkpoint, name]) > 1 for c in cells)]


# ---- numbers


def values(cells: list[Cell]) -> tuple[Table, list[Point], str]:
    """A row for each cell."""
    columns = [Column("protocol"), Column("data"), Column("checkpoint"), *(Column(name) for name in OPTIONS)]
    columns += [Column(name, NLL, ".4f") for name in ("nll", "nll low", "nll high")]
    columns += [Column(name, "", ".4g") for name in ("ppl", "ppl low", "ppl high")]
    table, points = Table([*columns, Column("bits per byte", "", ".4f")]), []
    order, varying = list(dict.fromkeys(c.checkpoint for c in cells)), varies(cells)
    for c in sorted(cells, key=lambda c: c.mark):
        nll = [float(c.values[name]) for name in ("nll", "low", "high")]
        ppl = [mdlm_h5.exp(x) for x in nll]
        bits = float(c.values["bits_per_byte"])
        table.add(c.mark, c.data, c.checkpoint, *(option(c, name) for name in OPTIONS), *nll, *ppl, bits)
        if c.done:
            place = order.index(c.checkpoint)
            points.append(Point(f"{c.data}, protocol {c.mark}", label(c, varying), *ppl, place))
    require(points, "no cell is done yet")
    return table, points, "perplexity"


def differences(found: mdlm_h5.Sweep, cells: list[Cell]) -> tuple[Table, list[Point], str]:
    """A row for each pair of cells with the same rows and masks."""
    require(found.pairs, "no two cells have the same rows and masks: there is no difference to tell")
    columns = [Column("protocol"), Column("data"), Column("A"), Column("B"), *(Column(name) for name in OPTIONS[1:])]
    columns += [Column(name, NLL, "+.5f") for name in ("nll B − A", "low", "high")]
    table, points = Table([*columns, Column("p", "", ".2g"), Column("better")]), []
    varying = [name for name in varies(cells) if name != "step"]
    for i in range(len(found.pairs["a"])):
        a, b = (cells[int(found.pairs[side][i])] for side in "ab")
        require(a.mark == b.mark, f"cells {a.values['name']} and {b.values['name']} have different protocols")
        value, low, high, p = (float(found.pairs[name][i]) for name in ("difference", "low", "high", "p"))
        better = None if np.isnan(p) else "none" if p >= 0.05 else "B" if value < 0 else "A"
        names = [label(c, ["step"] if a.checkpoint == b.checkpoint else []) for c in (a, b)]
        table.add(a.mark, a.data, *names, *(option(a, name) for name in OPTIONS[1:]), value, low, high, p, better)
        told = label(a, varying)[len(a.checkpoint) :]
        points.append(Point(f"{a.data}, protocol {a.mark}", f"{names[1]} − {names[0]}{told}", value, low, high, 0))
    return table, points, f"difference of nll [{NLL}]"


# ---- drawing


def draw(points: list[Point], label: str, line: float | None, width: str) -> Figure:
    """A forest plot, a panel for each protocol and data set."""
    from mdlm_analysis import figure

    names = list(dict.fromkeys(p.panel for p in points))
    inside = [[p for p in points if p.panel == name] for name in names]
    across = 1 if width == "column" else 2
    drawing, axes = figure.panels(len(names), width, across, 0.7 + 0.16 * max(max(map(len, inside)), 3))
    for ax, name, rows in zip(axes, names, inside):
        for k, p in enumerate(rows):
            errors = [[p.value - p.low], [p.high - p.value]] if np.isfinite([p.low, p.high]).all() else None
            style = dict(color=figure.colour(p.colour), marker=figure.marker(p.colour), linestyle="")
            ax.errorbar([p.value], [k], xerr=errors, elinewidth=1, capsize=2, **style)
        figure.rows(ax, [p.name for p in rows], label)
        figure.verbatim([ax.set_title(name, loc="left")])
        if line is not None:
            ax.axvline(line, color=figure.GREY, linewidth=0.8)
    return drawing
