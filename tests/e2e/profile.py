#!/usr/bin/env python3
"""profile.py EVAL PROFILE DRAWS BRANCHES — whether a profile is whole: the values of each sequence are those of the evaluation,
the bins of every cut add up to its bound and hold the same tokens, and what depends on other numbers of the file agrees."""

import sys

import h5py
import numpy as np

MEANS = ("nll", "std", "entropy", "accuracy", "confidence")


def mean(cut: h5py.Group, name: str) -> float:
    n, x = cut["tokens"][()].astype(float), cut[name][()]
    assert np.isnan(x[n == 0]).all() and np.isfinite(x[n > 0]).all(), (cut.name, name)
    return (n * np.nan_to_num(x)).sum() / n.sum()


def check_cut(f: h5py.File, name: str, count: int) -> None:
    cut = f[name]
    assert cut["tokens"][()].sum() == count, (name, cut["tokens"][()].sum(), count)
    total = cut["loss"][()].sum()
    assert abs(total - f.attrs["nll"]) < 1e-12 * abs(f.attrs["nll"]), (name, total, f.attrs["nll"])
    for item in cut.values():
        assert item.attrs["description"] and "unit" in item.attrs, item.name


def check_calibration(f: h5py.File, shares: int, count: int) -> None:
    c = f["calibration"]
    n = c["tokens"][()].astype(float)
    hits, top = n * np.nan_to_num(c["accuracy"][()]), n * np.nan_to_num(c["confidence"][()])
    assert n.shape == (shares, 10) and n.sum() == count
    inside = (c["confidence"][()] >= c["low"][()] - 1e-6) & (c["confidence"][()] <= c["high"][()] + 1e-6)
    assert inside[n > 0].all()
    with np.errstate(invalid="ignore"):
        np.testing.assert_allclose(c["ece"][()], np.abs(hits - top).sum(1) / n.sum(1), atol=1e-12)
    masked = slice(1, None) if shares == 11 else slice(None)  # without the pass over visible tokens
    hits, top, n = hits[masked], top[masked], n[masked]
    np.testing.assert_allclose(f.attrs["ece"], np.abs((hits - top).sum(0)).sum() / n.sum(), atol=1e-12)
    np.testing.assert_allclose(f.attrs["accuracy"], hits.sum() / n.sum(), atol=1e-12)
    np.testing.assert_allclose(f.attrs["confidence"], top.sum() / n.sum(), atol=1e-12)
    if "share" in f:
        np.testing.assert_array_equal(c["tokens"][()].sum(1), f["share/tokens"][()])


def check(evaluation: str, profile: str, draws: int, branches: int) -> None:
    with h5py.File(evaluation) as e, h5py.File(profile) as f:
        assert f.attrs["format"] == "mdlm-profile"
        for name in ("loss", "square", "tokens"):
            np.testing.assert_array_equal(e[name][()], f[name][()])
        for name in ("nll", "nll_low", "nll_high", "tokens", "estimator", "data_digest", "checkpoint_digest", "seed"):
            assert e.attrs[name] == f.attrs[name], name
        masks = "share" in f
        assert masks == ("distance" in f)
        count = f["position/tokens"][()].sum()
        cuts = ["share", "position", "frequency", "distance"] if masks else ["position", "frequency"]
        for name in cuts:
            check_cut(f, name, count)
            for x in MEANS:
                if x != "std":
                    assert abs(mean(f[name], x) - mean(f["position"], x)) < 1e-9, (name, x)
        rms = f["residual/rms"][()]
        assert len(rms) == branches + 1 and (rms > 0).all() and f["residual/rms"].attrs["description"]
        check_calibration(f, len(f["share/low"]) if masks else 1, count)
        if not masks:
            assert count == f.attrs["tokens"] and f.attrs["variance_draws"] == 0
        else:
            n = len(e["loss"])
            want = e["square"][()].mean() / (draws - 1)
            residual = e["loss"][()] - e.attrs["nll"] * e["tokens"][()]
            np.testing.assert_allclose(f.attrs["variance_draws"], want, rtol=1e-9)
            np.testing.assert_allclose(
                f.attrs["variance_rows"], (residual**2).sum() / (n - 1) - want / draws, rtol=1e-6
            )


if __name__ == "__main__":
    check(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
