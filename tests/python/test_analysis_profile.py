"""mdlm-analysis profile: bins and reliability diagram have the numbers of the file."""

from __future__ import annotations

import csv
from pathlib import Path

import h5py
import numpy as np
import pytest
from conftest import Call
from h5_files import make_checkpoint, make_profile
from matplotlib.axes import Axes

from mdlm_analysis import cli, profile


def drawn(*files: Path) -> dict[str, Axes]:
    line = ["profile", *map(str, files)]
    axes = profile.run(cli.parser(cli.load(line)).parse_args(line)).draw("page").axes
    return {ax.get_xlabel(): ax for ax in axes}


def test_panels_are_the_bins(tmp_path: Path) -> None:
    path = make_profile(tmp_path / "a.h5")
    axes = drawn(path)
    labels = {"share": "share of masked tokens", "position": "position", "frequency": "rank of the token, tenths"}
    first = {"share": 0.05, "position": 0, "frequency": 1, "distance": 1}
    with h5py.File(path) as f:
        for cut, label in (labels | {"distance": "distance to a visible token"}).items():
            ax, n = axes[label], len(f[cut]["nll"]) - 1  # the last bin is empty
            (line,) = ax.lines
            assert list(line.get_ydata()) == f[cut]["nll"][:n].tolist() and line.get_xdata()[0] == first[cut]
            k = int(np.argmax(f[cut]["nll"][:n] + 1.959964 * f[cut]["std"][:n] / np.sqrt(f[cut]["tokens"][:n] / 2)))
            top = f[cut]["nll"][k] + 1.959964 * f[cut]["std"][k] / np.sqrt(f[cut]["tokens"][k] / 2)  # two draws
            assert ax.collections[0].get_paths()[0].vertices[:, 1].max() == pytest.approx(top)
    assert [t.get_text() for t in axes["distance to a visible token"].get_xticklabels()][-1] == "none"
    assert list(axes["branches of blocks"].lines[0].get_ydata()) == [1, 2, 4]


@pytest.mark.parametrize("order", (1, -1))
def test_profiles_share_the_axis_of_distances(tmp_path: Path, order: int) -> None:
    ends = {"short": [1, 2, 32], "long": [1, 2, 4, 64], "uniform": [0, 1, 32]}  # the last one is "none"
    files = [make_profile(tmp_path / f"{name}.h5", distances=len(high)) for name, high in ends.items()]
    for path, high in zip(files, ends.values()):
        with h5py.File(path, "a") as f:
            f["distance/low"][:] = f["distance/high"][:] = high
            f["distance/nll"][-1] = f["distance/tokens"][-1] = 60
    ax = drawn(*files[::order])["distance to a visible token"]
    assert [t.get_text() for t in ax.get_xticklabels()] == ["0", "1", "2", "4", "none"]
    assert [list(line.get_xdata()) for line in ax.lines][::order] == [[2, 3, 5], [2, 3, 4, 5], [1, 2, 5]]


def test_reliability_takes_shares_together(tmp_path: Path) -> None:
    path = make_profile(tmp_path / "a.h5")
    _, line = drawn(path)["confidence"].lines
    with h5py.File(path) as f:
        n, hit, sure = (f[f"calibration/{name}"][()] for name in ("tokens", "accuracy", "confidence"))
    assert list(line.get_ydata()) == pytest.approx([np.average(hit[:, k], weights=n[:, k]) for k in range(10)])
    assert list(line.get_xdata()) == pytest.approx([np.average(sure[:, k], weights=n[:, k]) for k in range(10)])


def test_wilson() -> None:
    low, high = profile.wilson(np.array([0.5, 0.0, 1.0]), np.array([100.0, 10.0, 10.0]))
    # 50 of 100: 0.4038 to 0.5962; 0 of 10: 0 to 0.2775 (Wilson 1927; as R's prop.test without correction)
    assert low == pytest.approx([0.4038, 0, 0.7225], abs=1e-4) and high == pytest.approx([0.5962, 0.2775, 1], abs=1e-4)


def test_table_and_numbers(tmp_path: Path, analysis: Call) -> None:
    a, b = make_profile(tmp_path / "a.h5"), make_profile(tmp_path / "b.h5", seed=2, masked=False)
    first, _ = csv.DictReader(analysis("profile", a, b, "--format", "csv", "-o", tmp_path / "x.png").splitlines())
    with h5py.File(a) as f:
        assert float(first["nll [nat/token]"]) == pytest.approx(f["loss"][()].sum() / f["tokens"][()].sum())
        rows = list(csv.DictReader((tmp_path / "x.csv").open()))
        mine = [r for r in rows if r["profile"] == f"{tmp_path.name}/a" and r["cut"] == "frequency"]
        assert [float(r["accuracy"]) for r in mine] == f["frequency/accuracy"][()].tolist()
    assert {r["cut"] for r in rows if r["profile"].endswith("/b")} == {
        "position",
        "frequency",
        "calibration",
        "residual",
    }


def test_refusals(tmp_path: Path, analysis: Call) -> None:
    a = make_profile(tmp_path / "a.h5")
    assert "is named twice" in analysis("profile", a, a, fails=True)
    assert "no such file" in analysis("profile", tmp_path / "none", fails=True)
    other = make_checkpoint(tmp_path / "c.h5")
    assert "has the format mdlm-checkpoint, not mdlm-profile" in analysis("profile", other, fails=True)
    with h5py.File(a, "a") as f:
        del f["calibration"]
    assert "cannot be read as mdlm-profile" in analysis("profile", a, fails=True)
