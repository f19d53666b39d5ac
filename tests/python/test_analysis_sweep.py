"""mdlm-analysis sweep: tables and forest plots have the numbers of the file; protocols are kept apart."""

from __future__ import annotations

import csv
from pathlib import Path

import h5py
import numpy as np
import pytest
from conftest import Call
from h5_files import make_sweep

import mdlm_h5
from mdlm_analysis import cli, sweep


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(text.splitlines()))


def drawn(*arguments: object, width: str = "page") -> dict:
    line = ["sweep", *map(str, arguments)]
    result = sweep.run(cli.parser(cli.load(line)).parse_args(line))
    return {ax.get_title(loc="left"): ax for ax in result.draw(width).axes}


def test_values_are_those_of_the_sequences(tmp_path: Path, analysis: Call) -> None:
    path = make_sweep(tmp_path / "sweep.h5")
    found = rows(analysis("sweep", tmp_path, "--format", "csv", "-o", tmp_path / "x.pdf"))
    assert (tmp_path / "x.csv").read_text().count("\n") == 1 + len(found) == 6
    assert [(r["protocol"], r["checkpoint"]) for r in found] == [
        *[("a", "a/best"), ("a", "b/best"), ("b", "a/best"), ("b", "b/best"), ("b", "a/best")]
    ]
    values = mdlm_h5.sweep(path).values
    for r, name in zip(found, ["c0", "c2", "c1", "c3"]):
        nll = values[name].losses.sum() / values[name].tokens.sum()
        assert float(r["nll [nat/token]"]) == pytest.approx(nll) and float(r["ppl"]) == pytest.approx(np.exp(nll))
        assert float(r["ppl low"]) == pytest.approx(np.exp(float(r["nll low [nat/token]"])))
    assert found[4]["ppl"] == ""


def test_protocols_are_marked(tmp_path: Path, analysis: Call) -> None:
    text = analysis("sweep", make_sweep(tmp_path / "sweep.h5"))
    assert "a: one: length 8, wrapped from running text, tokenizer bpe, detokenizer none, digest digest of one" in text
    assert "b: two: length 8, a text a row, " in text and "not done: a/best on two: missing" in text


def test_forest_plot(tmp_path: Path) -> None:
    path = make_sweep(tmp_path / "sweep.h5")
    panels, columns = drawn(path), mdlm_h5.sweep(path).columns
    assert list(panels) == ["one, protocol a", "two, protocol b"]
    for ax, cells in zip(panels.values(), ([0, 2], [1, 3])):
        assert ax.get_xlabel() == "perplexity"
        assert [t.get_text() for t in ax.get_yticklabels()] == ["a/best, seed 1", "b/best, seed 1"]
        for bar, i in zip(ax.containers, cells):
            point, _, (line,) = bar.lines
            assert point.get_xdata()[0] == pytest.approx(np.exp(columns["nll"][i]))
            ends = line.get_segments()[0][:, 0]
            assert ends == pytest.approx(np.exp([columns["low"][i], columns["high"][i]]))


def test_differences(tmp_path: Path, analysis: Call) -> None:
    path = make_sweep(tmp_path / "sweep.h5")
    found = rows(analysis("sweep", path, "--differences", "--format", "csv"))
    values = mdlm_h5.sweep(path).values
    for r, (a, b), better in zip(found, (("c0", "c2"), ("c1", "c3")), ("A", "none")):
        x, y = values[a], values[b]
        assert float(r["nll B − A [nat/token]"]) == pytest.approx((y.losses - x.losses).sum() / x.tokens.sum())
        assert r["better"] == better and (r["A"], r["B"]) == ("a/best", "b/best")
    panels = drawn(path, "--differences", width="column")
    assert list(panels) == ["one, protocol a", "two, protocol b"]
    (bar,) = panels["one, protocol a"].containers
    ends = bar.lines[2][0].get_segments()[0][:, 0]
    assert ends == pytest.approx([float(found[0][f"{end} [nat/token]"]) for end in ("low", "high")])


def test_markdown_and_latex(tmp_path: Path, analysis: Call) -> None:
    path = make_sweep(tmp_path / "sweep.h5")
    lines = analysis("sweep", path, "--format", "markdown").splitlines()
    assert len(lines) == 7 and {line.count("|") for line in lines} == {16} and lines[1].startswith("| --- | --- |")
    lines = analysis("sweep", path, "--differences", "--format", "latex").splitlines()
    assert lines[0].startswith(r"\begin{tabular}{llll") and lines[-1] == r"\end{tabular}"
    assert {line.count(" & ") for line in lines[2:-2] if line != r"\midrule"} == {lines[2].count(" & ")}
    assert "nll B $-$ A" in lines[2]


def test_refusals(tmp_path: Path, analysis: Call) -> None:
    path = make_sweep(tmp_path / "sweep.h5")
    assert "no such file" in analysis("sweep", tmp_path / "none", fails=True)
    with h5py.File(path, "a") as f:
        del f["pairs"]
    assert "no two cells have the same rows" in analysis("sweep", path, "--differences", fails=True)
    with h5py.File(path, "a") as f:
        del f["cells/low"], f["cells/high"]
    assert "has no intervals; the same mdlm sweep again" in analysis("sweep", path, fails=True)
    make_sweep(path, {"status": ["missing"] * 5})
    assert "no cell is done yet" in analysis("sweep", path, fails=True)
    with h5py.File(path, "w") as f:
        f.attrs["format"] = "mdlm-eval"
    assert "has the format mdlm-eval, not mdlm-sweep" in analysis("sweep", path, fails=True)
