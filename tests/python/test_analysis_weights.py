"""mdlm-analysis weights: norms, updates, spectra and tail exponents equal direct computations."""

from __future__ import annotations

import csv
from pathlib import Path

import h5py
import numpy as np
import pytest
from conftest import Call
from h5_files import make_checkpoint

import mdlm_h5
from mdlm_analysis import cli, spectrum, weights

SHAPES = {"blocks.0.mlp.weight": (96, 64), "blocks.1.mlp.weight": (96, 64), "norm.weight": (8,), "embed": (4, 8)}


def values(path: Path) -> dict[tuple[str, ...], float]:
    """run, step, tensor, quantity, k → value"""
    rows = csv.DictReader(path.open())
    return {tuple(r[c] for c in ("run", "step", "tensor", "quantity", "k")): float(r["value"]) for r in rows}


def test_quantities_are_those_of_numpy(tmp_path: Path, analysis: Call) -> None:
    one = make_checkpoint(tmp_path / "step-0000002.h5", seed=1, step=2, shapes=SHAPES)
    two = make_checkpoint(tmp_path / "step-0000004.h5", seed=2, step=4, shapes=SHAPES)
    make_checkpoint(tmp_path / "last.h5", seed=2, step=4, shapes=SHAPES)  # the same step again
    text = analysis("weights", tmp_path, "--weights", "live", "-o", tmp_path / "x.png", "--format", "csv")
    found, run = values(tmp_path / "x.csv"), tmp_path.name
    assert {key[1] for key in found} == {"2", "4"}
    for name in SHAPES:
        w, before = (mdlm_h5.checkpoint(p).parameter(name, "params").astype(float) for p in (two, one))
        norm, update = np.linalg.norm(w), np.linalg.norm(w - before) / np.linalg.norm(before)
        assert found[run, "4", name, "norm", ""] == pytest.approx(norm, rel=1e-12)
        assert found[run, "4", name, "rms", ""] == pytest.approx(np.sqrt(np.mean(w**2)), rel=1e-12)
        assert found[run, "4", name, "update", ""] == pytest.approx(update, rel=1e-6)
        if w.ndim == 2:
            s = np.linalg.svd(w, compute_uv=False)
            assert [found[run, "4", name, "singular value", str(k + 1)] for k in range(len(s))] == pytest.approx(s)
            assert found[run, "4", name, "stable rank", ""] == pytest.approx(norm**2 / s[0] ** 2)
    row = next(r for r in csv.DictReader(text.splitlines()) if r["tensors"] == "blocks.*.mlp.weight")
    both = [found[run, "4", f"blocks.{k}.mlp.weight", "alpha", ""] for k in (0, 1)]
    assert float(row["alpha"]) == pytest.approx(np.mean(both)) and row["number"] == "2"
    assert (run, "4", "embed", "alpha", "") not in found  # too few eigenvalues


def clauset(values: np.ndarray) -> tuple[float, float, int]:
    """Exponent, minimum and size of the tail, straight from the definition."""
    best = (np.inf, 0.0, 0.0, 0)
    for least in sorted(values)[:-1]:
        tail = sorted(v for v in values if v >= least)
        alpha = 1 + len(tail) / sum(np.log(v / least) for v in tail)
        worst = max(abs(k / len(tail) - (1 - (v / least) ** (1 - alpha))) for k, v in enumerate(tail))
        best = min(best, (worst, alpha, least, len(tail)))
    return best[1:]


def test_tail_is_clausets() -> None:
    for seed in range(5):
        x = np.exp(np.random.default_rng(seed).standard_normal(80))
        t = spectrum.power_law(x)
        assert (t.alpha, t.minimum, t.count) == pytest.approx(clauset(x), rel=1e-9)
        assert t.error == pytest.approx((t.alpha - 1) / np.sqrt(t.count))
    # by hand: of 1, e, e² with λ_min = 1 the logarithms add up to 3
    assert spectrum.power_law(np.exp([0.0, 1.0, 2.0])).alpha in (2.0, 3.0)


def test_tail_finds_the_exponent_of_pareto() -> None:
    errors = []
    for seed in range(20):
        x = (1 - np.random.default_rng(seed).random(2000)) ** (-1 / 1.5)  # p(x) ∝ x^−2.5
        t = spectrum.power_law(x)
        errors.append((t.alpha - 2.5) / t.error)
    assert abs(np.mean(errors)) < 1 and np.std(errors) < 2.5


def test_eigenvalues_of_wide_matrices_in_pieces() -> None:
    w = np.random.default_rng(1).standard_normal((7, 50)).astype(np.float32)
    s = np.linalg.svd(w.astype(float), compute_uv=False) ** 2
    assert spectrum.eigenvalues(w, rows=3) == pytest.approx(s)
    assert spectrum.eigenvalues(w.T, rows=3) == pytest.approx(s)


def drawn(*arguments: object) -> dict:
    line = ["weights", *map(str, arguments)]
    result = weights.run(cli.parser(cli.load(line)).parse_args(line))
    return {(ax.get_ylabel(), ax.get_xlabel()): ax for ax in result.draw("page").axes}


def test_figure_over_steps(tmp_path: Path) -> None:
    for step in (2, 4, 6):
        make_checkpoint(tmp_path / f"step-{step:07}.h5", seed=step, step=step, shapes=SHAPES)
    axes = drawn(tmp_path)
    assert {y for y, x in axes if x == "step"} == {
        "root mean square",
        "relative update",
        "stable rank",
        "tail exponent α",
    }
    ranks = []
    for step in (2, 4, 6):
        c = mdlm_h5.checkpoint(tmp_path / f"step-{step:07}.h5")
        both = [np.linalg.svd(c.parameter(f"blocks.{k}.mlp.weight"), compute_uv=False) ** 2 for k in (0, 1)]
        ranks.append(np.median([s.sum() / s[0] for s in both]))
    line = axes["stable rank", "step"].lines[0]
    assert list(line.get_xdata()) == [2, 4, 6] and line.get_ydata() == pytest.approx(ranks, rel=1e-5)
    assert [len(line.get_xdata()) for line in axes["relative update", "step"].lines] == [2, 2]


def test_figure_of_single_checkpoints(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        make_checkpoint(tmp_path / name / "last.h5", shapes=SHAPES)
    axes = drawn(tmp_path / "a", tmp_path / "b")
    assert {x for _, x in axes} == {"root mean square", "stable rank", "tail exponent α"}
    assert [t.get_text() for t in next(iter(axes.values())).figure.legends[0].get_texts()] == ["a/last", "b/last"]
    assert ("singular value σₖ/σ₁", "k/rank") in drawn(tmp_path / "a")


def test_not_finite_and_refused(tmp_path: Path, analysis: Call) -> None:
    path = make_checkpoint(tmp_path / "a.h5")
    with h5py.File(path, "a") as f:
        f["ema/blocks.0.mlp.weight"][0, 0] = np.nan
        f["ema/vocab_embed.embedding"][...] = 0
    assert "blocks.*.mlp.weight" in analysis("weights", path, "-o", tmp_path / "x.svg")
    (tmp_path / "empty").mkdir()
    assert "holds no step-NUMBER.h5 and no last.h5" in analysis("weights", tmp_path / "empty", fails=True)
    assert "no such file" in analysis("weights", tmp_path / "none.h5", fails=True)
    with h5py.File(path, "a") as f:
        del f["ema"]
    assert "a.h5: holds no ema" in analysis("weights", path, fails=True)
