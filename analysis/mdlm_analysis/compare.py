"""Two checkpoints, tensor by tensor: equal bit by bit or not, and how far apart.

Bits are compared, so that 0 and -0 differ and a NaN equals itself. Distances are those of the values that are finite in both
files, in double precision: max |Δ|, ‖Δ‖₂/‖A‖₂ with Δ = B − A, and the cosine of A and B. Both are read in pieces of 16 MiB."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import mdlm_h5
from mdlm_analysis.result import Result
from mdlm_analysis.table import Column, Table
from mdlm_data.errors import InputError, require

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HELP = "two checkpoints, tensor by tensor: equal bits, largest and relative difference, cosine"
EXAMPLE = "compare runs/a/best.h5 runs/b/best.h5 --groups ema -o difference.png"
STATUS = "Exit status: 0 equal; 1 different; 2 after an error; 130 when interrupted."
SHOWN = 40  # tensors in the figure at most


@dataclass
class Distance:
    """Sums over the pieces of a tensor."""

    size: int = 0
    differing: int = 0  # values whose bits differ
    infinite: int = 0  # values that are not finite in both
    largest: float = 0.0  # |Δ|
    aa: float = 0.0
    bb: float = 0.0
    ab: float = 0.0
    dd: float = 0.0

    def add(self, a: np.ndarray, b: np.ndarray) -> None:
        bits = np.dtype(f"u{a.dtype.itemsize}")
        self.size += a.size
        self.differing += int(np.count_nonzero(a.view(bits) != b.view(bits)))
        x, y = a.astype(np.float64), b.astype(np.float64)
        finite = np.isfinite(x) & np.isfinite(y)
        if not finite.all():
            self.infinite += int(a.size - np.count_nonzero(finite))
            x, y = x[finite], y[finite]
        delta = y - x
        self.largest = max(self.largest, float(np.abs(delta).max(initial=0)))
        self.aa, self.bb, self.ab = self.aa + float(x @ x), self.bb + float(y @ y), self.ab + float(x @ y)
        self.dd += float(delta @ delta)

    @property
    def relative(self) -> float:
        return np.sqrt(self.dd / self.aa) if self.aa else 0.0 if self.dd == 0 else np.inf

    @property
    def cosine(self) -> float:
        return self.ab / np.sqrt(self.aa * self.bb) if self.aa and self.bb else np.nan


def add_arguments(p: argparse.ArgumentParser) -> None:
    p.add_argument("a", type=Path, metavar="A.h5")
    p.add_argument("b", type=Path, metavar="B.h5")
    p.add_argument(
        "--groups",
        default="",
        metavar="LIST",
        help=f"some of {','.join(mdlm_h5.GROUPS)}: live weights, moving average, moments of Adam (default: all)",
    )


def run(o: argparse.Namespace) -> Result:
    a, b = mdlm_h5.checkpoint(o.a), mdlm_h5.checkpoint(o.b)
    in_a, in_b = tensors(a, o.groups), tensors(b, o.groups)
    table = Table(
        [Column("tensor"), Column("values", "", "d"), Column("differing", "", "d"), Column("max |Δ|", "", ".3g")]
        + [Column("‖Δ‖/‖A‖", "", ".3g"), Column("cosine", "", ".9f"), Column("equal")]
    )
    notes = []
    for group, name in in_a | in_b:
        at = (group, name)
        if in_a.get(at) != in_b.get(at):
            table.add(f"{group}/{name}", None, None, None, None, None, False)
            notes.append(f"{group}/{name}: {words(in_a.get(at))} in A, {words(in_b.get(at))} in B")
            continue
        d = distance(a, b, group, name)
        table.add(f"{group}/{name}", d.size, d.differing, d.largest, d.relative, d.cosine, d.differing == 0)
        if d.infinite:
            notes.append(f"{group}/{name}: {d.infinite} values are not finite, and left out of the distances")
    different = [row for row in table.rows if not row[-1]]
    notes.append(
        f"{len(different)} of {len(table.rows)} tensors differ" if different else "equal: every bit of every tensor"
    )
    notes += [f"{what}: {x} in A, {y} in B" for what, x, y in others(a, b) if x != y]
    return Result(table, lambda width: draw(table, width), notes=tuple(notes), status=1 if different else 0)


def tensors(c: mdlm_h5.Checkpoint, groups: str) -> dict[tuple[str, str], tuple[int, ...]]:
    """The shapes of all tensors, by group and name."""
    wanted = groups.split(",") if groups else mdlm_h5.GROUPS
    for group in wanted:
        require(group in mdlm_h5.GROUPS, f"--groups: no group {group}; there are {','.join(mdlm_h5.GROUPS)}")
    found = c.groups()
    shapes = {(g, n): shape for g in wanted for n, shape in found.get(g, {}).items()}
    require(shapes, f"{c.path}: holds no tensor of {','.join(wanted)}")
    return shapes


def distance(a: mdlm_h5.Checkpoint, b: mdlm_h5.Checkpoint, group: str, name: str) -> Distance:
    d = Distance()
    for x, y in zip(a.blocks(name, group), b.blocks(name, group)):
        if x.dtype != y.dtype:
            raise InputError(f"{group}/{name}: is {x.dtype} in {a.path} and {y.dtype} in {b.path}")
        d.add(x, y)
    return d


def words(shape: tuple[int, ...] | None) -> str:
    return "missing" if shape is None else f"[{','.join(map(str, shape))}]"


def others(a: mdlm_h5.Checkpoint, b: mdlm_h5.Checkpoint) -> list[tuple[str, object, object]]:
    """What else may differ; it does not make checkpoints different."""
    pairs = [("step", a.step, b.step), ("length", a.length, b.length)]
    names = [f.vocabulary.attributes.get("hash") for f in (a, b)]
    return [*pairs, ("vocabulary", *names), ("data", a.attributes.get("data_digest"), b.attributes.get("data_digest"))]


def draw(table: Table, width: str) -> Figure:
    """‖Δ‖/‖A‖ of the tensors that differ; where there are many, of those that differ most."""
    from mdlm_analysis import figure

    rows = [row for row in table.rows if not row[-1] and row[4]]
    most = sorted(sorted(rows, key=lambda row: -row[4])[:SHOWN], key=rows.index)
    drawing, (ax,) = figure.panels(1, width, height=0.6 + 0.14 * max(len(most), 4))
    ax.plot([row[4] for row in most], range(len(most)), marker="o", linestyle="", color=figure.colour(0))
    figure.rows(ax, [row[0] for row in most], "‖Δ‖₂/‖A‖₂")
    if most:
        figure.log_scale(ax, "x")
    else:
        ax.text(0.5, 0.5, "no tensor has a distance", transform=ax.transAxes, ha="center", va="center")
    if len(most) < len(rows):
        ax.set_title(f"the {SHOWN} largest of {len(rows)} tensors that differ", loc="left")
    return drawing
