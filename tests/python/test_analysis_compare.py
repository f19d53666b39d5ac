"""mdlm-analysis compare: distances equal NumPy's, single bits are found, large tensors are read in pieces."""

from __future__ import annotations

import csv
from pathlib import Path

import h5py
import numpy as np
import pytest
from conftest import Call
from h5_files import make_checkpoint

import mdlm_h5
from mdlm_analysis import compare


def table(text: str) -> dict[str, dict[str, str]]:
    return {row["tensor"]: row for row in csv.DictReader(text.splitlines())}


def edit(path: Path, name: str, index: tuple[int, ...], value: float | np.ndarray) -> None:
    with h5py.File(path, "a") as f:
        f[name][index] = value


def test_equal(tmp_path: Path, analysis: Call) -> None:
    a, b = make_checkpoint(tmp_path / "a.h5"), make_checkpoint(tmp_path / "b.h5")
    text = analysis("compare", a, b, "-o", tmp_path / "x.png")
    assert text.endswith("equal: every bit of every tensor\n") and " no\n" not in text
    assert len(table((tmp_path / "x.csv").read_text())) == 4 * 3


def test_distances_are_those_of_numpy(tmp_path: Path, analysis: Call) -> None:
    a, b = make_checkpoint(tmp_path / "a.h5", seed=1), make_checkpoint(tmp_path / "b.h5", seed=2)
    found = table(analysis("compare", a, b, "--format", "csv", status=1))
    with h5py.File(a) as f, h5py.File(b) as g:
        for name, row in found.items():
            x, y = (np.float64(h[name][()]).ravel() for h in (f, g))
            assert float(row["max |Δ|"]) == np.abs(y - x).max()
            assert float(row["‖Δ‖/‖A‖"]) == pytest.approx(np.linalg.norm(y - x) / np.linalg.norm(x), rel=1e-12)
            assert float(row["cosine"]) == pytest.approx(x @ y / np.linalg.norm(x) / np.linalg.norm(y), rel=1e-9)
            assert int(row["values"]) == x.size and int(row["differing"]) == np.count_nonzero(x != y)


@pytest.mark.parametrize("group", mdlm_h5.GROUPS)
def test_a_single_bit(tmp_path: Path, analysis: Call, group: str) -> None:
    a, b = make_checkpoint(tmp_path / "a.h5"), make_checkpoint(tmp_path / "b.h5")
    with h5py.File(b, "a") as f:
        word = f[f"{group}/blocks.0.mlp.weight"][3:4, 5:6].view(np.uint32) ^ 1
        f[f"{group}/blocks.0.mlp.weight"][3:4, 5:6] = word.view(np.float32)
    found = table(analysis("compare", a, b, "--format", "csv", status=1))
    assert [(n, r["differing"]) for n, r in found.items() if r["equal"] == "False"] == [
        (f"{group}/blocks.0.mlp.weight", "1")
    ]
    analysis("compare", a, b, "--groups", ",".join(set(mdlm_h5.GROUPS) - {group}), status=0)


def test_nans_and_signs_of_zero_are_bits(tmp_path: Path, analysis: Call) -> None:
    a, b = make_checkpoint(tmp_path / "a.h5"), make_checkpoint(tmp_path / "b.h5")
    for path in (a, b):
        edit(path, "ema/norm.weight", (0,), np.nan)
        edit(path, "ema/norm.weight", (1,), 0.0)
    assert "ema/norm.weight: 1 values are not finite" in analysis("compare", a, b)
    edit(b, "ema/norm.weight", (1,), -0.0)
    row = table(analysis("compare", a, b, "--format", "csv", status=1))["ema/norm.weight"]
    assert (row["differing"], float(row["max |Δ|"])) == ("1", 0)
    edit(b, "ema/norm.weight", (1,), 0.0)
    edit(b, "ema/norm.weight", (0,), np.array([0x7FC00001], np.uint32).view(np.float32)[0])  # another NaN
    analysis("compare", a, b, status=1)


def test_pieces_are_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_checkpoint(tmp_path / "a.h5")
    whole, c = mdlm_h5.checkpoint(path).parameter("blocks.0.mlp.weight"), mdlm_h5.checkpoint(path)
    for size in (4, 64, 100, 4 * 8 * 16, 1 << 26):
        pieces = list(c.blocks("blocks.0.mlp.weight", size=size))
        assert np.array_equal(np.concatenate(pieces), whole.ravel()) and max(p.nbytes for p in pieces) <= max(size, 4)
    d = compare.Distance()
    for piece in c.blocks("blocks.0.mlp.weight", size=100):
        d.add(piece, 2 * piece)
    assert (d.size, d.relative, d.cosine) == (whole.size, 1, pytest.approx(1))


def test_other_tensors_are_different(tmp_path: Path, analysis: Call) -> None:
    a, b = make_checkpoint(tmp_path / "a.h5"), make_checkpoint(tmp_path / "b.h5")
    with h5py.File(b, "a") as f:
        del f["adam_v"], f["ema/norm.weight"]
        f["ema/norm.weight"] = np.ones(7, np.float32)
    text = analysis("compare", a, b, status=1)
    assert "adam_v/norm.weight: [8] in A, missing in B" in text and "ema/norm.weight: [8] in A, [7] in B" in text
    assert "4 of 12 tensors differ" in text
    assert "step: 4 in A, 9 in B" in analysis("compare", a, make_checkpoint(tmp_path / "c.h5", step=9))


def test_refusals(tmp_path: Path, analysis: Call) -> None:
    a, other = make_checkpoint(tmp_path / "a.h5"), tmp_path / "x"
    assert "no such file" in analysis("compare", a, other, fails=True)
    other.write_bytes(b"nonsense")
    assert "cannot be read as mdlm-checkpoint" in analysis("compare", other, a, fails=True)
    with h5py.File(other, "w") as f:
        f.attrs["format"] = "mdlm-eval"
    assert "has the format mdlm-eval, not mdlm-checkpoint" in analysis("compare", a, other, fails=True)
    assert "no group emma; there are params,ema" in analysis("compare", a, a, "--groups", "emma", fails=True)
    make_checkpoint(other)
    with h5py.File(other, "a") as f:
        del f["ema/norm.weight"]
        f["ema/norm.weight"] = ["text"] * 8
    assert "ema/norm.weight holds no real numbers" in analysis("compare", a, other, fails=True)
    with h5py.File(other, "a") as f:
        f.create_group("params/deeper")
    assert "cannot be read as mdlm-checkpoint" in analysis("compare", a, other, fails=True)
    with h5py.File(other, "w") as f:
        f.create_group("params")
    assert "cannot be read as mdlm-checkpoint" in analysis("compare", a, other, fails=True)
