"""mdlm-analysis: exit codes, one line for files that are missing or foreign, tables in all forms, figures in all sizes."""

from __future__ import annotations

import csv
import resource
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from conftest import Call, command
from h5_files import make_checkpoint, make_profile, make_samples, make_score, make_sweep
from matplotlib.backends.backend_agg import FigureCanvasAgg

from mdlm_analysis import cli, figure
from mdlm_analysis.table import Column, Table

TWO = ("compare", "line")  # commands of two files


def garbage(path: Path) -> Path:
    path.write_bytes(b"not HDF5" * 100)
    return path


def cut(path: Path) -> Path:
    make_checkpoint(path)
    path.write_bytes(path.read_bytes()[:3000])
    return path


def empty(path: Path) -> Path:
    h5py.File(path, "w").close()
    return path


def texts(path: Path) -> Path:
    """All that the commands look for, as text."""
    with h5py.File(path, "w") as f:
        for name in ("train/step", "params", "ema", "cells/name", "tokens", "text", "loss", "position", "vocab"):
            f[name] = "text"
    return path


def folder(path: Path) -> Path:
    path.mkdir()
    return path


FOREIGN: dict[str, Callable[[Path], Path]] = {
    "missing": lambda path: path,
    "garbage": garbage,
    "cut": cut,
    "empty": empty,
    "texts": texts,
    "folder": folder,
    "checkpoint": make_checkpoint,
    "sweep": make_sweep,
    "profile": make_profile,
    "samples": lambda path: make_samples(path, ["a b"], [0.1]),
    "score": lambda path: make_score(path, [1.0], [2], [0.1], "x.h5"),
}
OWN = dict.fromkeys(("compare", "weights", "line"), "checkpoint") | {n: n for n in ("sweep", "samples", "profile")}


@pytest.mark.parametrize("name, kind", [(n, k) for n in cli.COMMANDS for k in FOREIGN if OWN.get(n) != k])
def test_foreign_files_are_one_line(tmp_path: Path, analysis: Call, name: str, kind: str) -> None:
    path, out = FOREIGN[kind](tmp_path / f"{kind}.h5"), tmp_path / "out.png"
    files = [make_checkpoint(tmp_path / "a.h5"), path] if name in TWO else [path]
    message = analysis(name, *files, "-o", out, fails=True)
    assert str(path) in message and not out.exists()


def test_exit_codes_and_streams(tmp_path: Path) -> None:
    a, b = make_checkpoint(tmp_path / "a.h5"), make_checkpoint(tmp_path / "b.h5", seed=2)

    def run(*words: object) -> subprocess.CompletedProcess:
        return subprocess.run(command("mdlm_analysis", *words), capture_output=True, text=True, timeout=300)

    assert run("compare", a, a).returncode == 0
    done = run("compare", a, b, "-o", tmp_path / "x.png", "--format", "csv")
    assert done.returncode == 1 and len(list(csv.DictReader(done.stdout.splitlines()))) == 12
    assert done.stderr == "".join(f"mdlm-analysis: wrote {tmp_path / x}\n" for x in ("x.png", "x.csv"))
    done = run("compare", a, tmp_path / "none")
    assert (done.returncode, done.stdout) == (2, "") and done.stderr.count("\n") == 1
    done = run("--help")
    assert done.returncode == 0 and all(name in done.stdout for name in cli.COMMANDS)


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_help(name: str, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as done:
        cli.analyse([name, "--help"])
    text = capsys.readouterr().out
    assert done.value.code == 0 and f"example: mdlm-analysis {name} " in text and "Exit status: 0" in text


def test_outputs_are_refused_before_the_work(tmp_path: Path, analysis: Call) -> None:
    a = make_checkpoint(tmp_path / "a.h5")
    assert "a figure's name ends with .png, .pdf or .svg" in analysis("compare", a, a, "-o", "x.jpg", fails=True)
    assert "no folder" in analysis("compare", a, a, "-o", tmp_path / "none/x.png", fails=True)
    (tmp_path / "x.csv").mkdir()
    assert "is a folder" in analysis("compare", a, a, "-o", tmp_path / "x.png", fails=True)


@pytest.mark.parametrize("line", ["profile a.h5 -o old.png", "profile a.h5 -o old.pdf", "report m.h5 -o old.html"])
def test_full_disk_keeps_the_old_file(tmp_path: Path, line: str) -> None:
    make_profile(tmp_path / "a.h5")
    with h5py.File(tmp_path / "m.h5", "w") as f:
        f.attrs.update(format="mdlm-metrics", format_version=1)
        f["train/step"], f["train/loss"] = np.arange(3.0), np.arange(3.0)
    name = line.split()[-1]
    (tmp_path / name).write_text("the old one")
    before = {path.name for path in tmp_path.iterdir()}

    def small_files() -> None:  # a write beyond the limit fails as on a full disk
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (3_000, 3_000))

    words = command("mdlm_analysis", *line.split())
    done = subprocess.run(words, cwd=tmp_path, preexec_fn=small_files, capture_output=True, timeout=300)
    assert done.stderr.decode() == f"mdlm-analysis: error: {name}: cannot write it: File too large\n"
    assert done.returncode == 2 and (tmp_path / name).read_text() == "the old one"
    assert {path.name for path in tmp_path.iterdir()} == before


def test_table_forms() -> None:
    table = Table([Column("name"), Column("x", "nat", ".2f"), Column("n"), Column("same")])
    table.add("a_b|c & 5 %", -1.0 / 3, 7, True)
    table.add("d", float("nan"), None, False)
    assert table.text().splitlines() == [
        "name         x [nat]  n  same",
        "a_b|c & 5 %    -0.33  7  yes",
        "d                  -  -  no",
    ]
    first, second = csv.DictReader(table.csv().splitlines())
    assert (
        float(first["x [nat]"]) == -1 / 3 and first["name"] == "a_b|c & 5 %" and second["x [nat]"] == second["n"] == ""
    )
    assert table.markdown().splitlines()[1:3] == ["| --- | ---: | ---: | --- |", r"| a_b\|c & 5 % | -0.33 | 7 | yes |"]
    assert (
        r"a\_b\textbar{}c \& 5 \% & $-$0.33 & 7 & yes \\" in table.latex() and r"\begin{tabular}{lrrl}" in table.latex()
    )


@pytest.mark.parametrize("width", figure.WIDTHS)
def test_nothing_is_cut_off_and_panels_do_not_overlap(tmp_path: Path, width: str) -> None:
    """Also with labels of many runs: every text lies inside the figure."""
    drawing, axes = figure.panels(3, width)
    for ax in axes:
        for i in range(9):
            ax.plot([1, 2, 3], np.arange(3) + i, color=figure.colour(i), label=f"a rather long name of run {i}")
        ax.set(xlabel="step", ylabel=figure.label("quantity", "nat/token"))
    figure.legend(drawing, axes)
    figure.save(drawing, tmp_path / "x.png")
    whole, renderer = drawing.bbox, FigureCanvasAgg(drawing).get_renderer()
    boxes = [ax.get_tightbbox(renderer) for ax in axes] + [drawing.legends[0].get_window_extent(renderer)]
    for i, box in enumerate(boxes):
        assert whole.x0 <= box.x0 and box.x1 <= whole.x1 and whole.y0 <= box.y0 and box.y1 <= whole.y1
        assert not any(box.overlaps(other) for other in boxes[:i])
    assert drawing.get_figwidth() == figure.WIDTHS[width]


def test_colours_differ_for_the_colour_blind() -> None:
    """In sRGB as seen without one kind of cones (Viénot, Brettel, Mollon 1999): neighbours in the list stay apart."""
    seen = {
        "protan": [[0.11238, 0.88762, 0], [0.11238, 0.88762, 0], [0.00401, -0.00401, 1]],
        "deutan": [[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]],
    }
    rgb = np.array([[int(c[i : i + 2], 16) / 255 for i in (1, 3, 5)] for c in figure.COLOURS])
    for matrix in seen.values():
        colours = (rgb**2.2 @ np.array(matrix).T).clip(0, 1) ** (1 / 2.2)
        gaps = [np.linalg.norm(a - b) for i, a in enumerate(colours) for b in colours[:i]]
        assert min(gaps) > 0.08
