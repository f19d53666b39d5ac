"""The loss along the straight line between the weights of two checkpoints: (1 − α)·A + α·B for α from 0 to 1.

Each point is a checkpoint of `mdlm mix`, evaluated by `mdlm eval` with the deck of A on the same rows with the same masks, and
then removed. The barrier is how far the loss rises at most above the chord between both ends (arXiv:1912.05671). The band is
the 95 % interval of eval."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import mdlm_h5
from mdlm_analysis.program import mdlm
from mdlm_analysis.result import Result
from mdlm_analysis.table import Column, Table
from mdlm_data.errors import require

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HELP = "loss along the straight line between two checkpoints"
EXAMPLE = (
    "line runs/a/best.h5 runs/b/best.h5 --points 11 --mdlm 'mpirun -n 4 build/mdlm' --keys eval.draws=2 -o line.pdf"
)
NLL = "nat/token"


def add_arguments(p: argparse.ArgumentParser) -> None:
    p.add_argument("a", type=Path, metavar="A.h5")
    p.add_argument("b", type=Path, metavar="B.h5")
    p.add_argument("--points", type=int, default=11, metavar="N", help="on the line, both ends included (default: 11)")
    p.add_argument("--data", metavar="FILES", help="as in eval.data (default: that of A's deck)")
    p.add_argument("--keys", nargs="+", default=[], metavar="KEY=VALUE", help="for mdlm eval, such as eval.draws=2")
    p.add_argument("--weights", choices=("ema", "live"), default="ema", help="which of each checkpoint (default: ema)")
    p.add_argument("--mdlm", metavar="COMMAND", help="how to run mdlm (default: mdlm, or build/mdlm)")
    p.add_argument("--work", type=Path, metavar="DIR", help="where a mixture has room (default: the system's)")


def run(o: argparse.Namespace) -> Result:
    require(o.points >= 2, "--points: at least 2, the ends")
    require(all("=" in word for word in o.keys), f"--keys {' '.join(o.keys)}: expected KEY=VALUE")
    deck = str(mdlm_h5.checkpoint(o.a).attributes["deck"])
    mdlm_h5.checkpoint(o.b)
    places = np.linspace(0, 1, o.points)
    with tempfile.TemporaryDirectory(prefix="mdlm-line-", dir=o.work) as folder:
        (Path(folder) / "deck.cfg").write_text(deck)
        found = [evaluate(o, Path(folder), float(at)) for at in places]
    table, barrier = line(places, found)
    notes = (f"barrier: {barrier:.4f} {NLL}, the most above the chord",)
    return Result(table, lambda width: draw(table, width), notes=notes)


def evaluate(o: argparse.Namespace, folder: Path, at: float) -> mdlm_h5.Evaluation:
    mixture, result = folder / "mixture.h5", folder / "eval.h5"
    mdlm(o.mdlm, "mix", mixture, f"{o.a}={1 - at!r}", f"{o.b}={at!r}", f"weights={o.weights}")
    data = [f"eval.data={o.data}"] if o.data else []
    own = (f"run.dir={folder}", f"eval.checkpoint={mixture}", f"eval.output={result}")
    mdlm(o.mdlm, "eval", folder / "deck.cfg", *data, *o.keys, *own)
    found = mdlm_h5.evaluation(result)
    mixture.unlink()
    result.unlink()
    return found


def line(places: np.ndarray, found: list[mdlm_h5.Evaluation]) -> tuple[Table, float]:
    """The table, and the height of the barrier."""
    ends = found[0].nll, found[-1].nll
    columns = [Column("weight of B", "", ".4g")] + [Column(name, NLL, ".4f") for name in ("nll", "nll low", "nll high")]
    table = Table([*columns, Column("ppl", "", ".4g"), Column("above chord", NLL, "+.4f")])
    for at, e in zip(places, found):
        low, high = float(e.attributes["nll_low"]), float(e.attributes["nll_high"])
        table.add(float(at), e.nll, low, high, e.ppl, e.nll - float((1 - at) * ends[0] + at * ends[1]))
    return table, max(row[-1] for row in table.rows)


def draw(table: Table, width: str) -> Figure:
    from mdlm_analysis import figure

    at, nll, low, high = np.array([row[:4] for row in table.rows]).T
    drawing, (ax,) = figure.panels(1, width, height=figure.PANEL["column"])
    ax.plot(at[[0, -1]], nll[[0, -1]], color=figure.GREY, linestyle=":", label="chord")
    ax.plot(at, nll, color=figure.colour(0), marker="o", label="on the line")
    figure.band(ax, at, low, high, figure.colour(0))
    ax.set_xlabel("weight of B")
    ax.set_ylabel(figure.label("nll", NLL))
    figure.legend(drawing, [ax])
    return drawing
