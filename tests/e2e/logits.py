#!/usr/bin/env python3
"""logits.py — make input for `mdlm logits`, and check its output against the formulas of the objective.

logits.py make FILE N L V MASK [length]   z [N,L] with a share t of the tokens masked, t [N]; the last row fully masked;
                                          x [N,L] for blocks
logits.py check INPUT OUTPUT MASK OBJECTIVE [masking]   log_p from logits by the published formulas; shapes and types
"""

import sys

import h5py
import numpy as np


def make(path, N, L, V, mask, *more):
    r = np.random.RandomState(3)
    t = np.linspace(0.05, 1, N)
    z = r.randint(0, V, (N, L))
    z[r.rand(N, L) < t[:, None]] = mask
    with h5py.File(path, "w", libver=("v108", "v108")) as f:
        f["z"], f["t"] = z.astype("i4"), t
        f["x"] = r.randint(0, V, (N, L)).astype("i4")
        if more:
            f["length"] = np.linspace(2, L, N).astype("i4")


def log_softmax(f):
    f = f - f.max(-1, keepdims=True)
    return f - np.log(np.exp(f).sum(-1, keepdims=True))


def check(source, result, mask, objective, *masking):
    with h5py.File(source) as f:
        z, t = f["z"][()], f["t"][()]
    with h5py.File(result) as f:
        assert f["logits"].dtype == np.float32 and f["log_p"].dtype == np.float32
        logits, got = f["logits"][()].astype(float), f["log_p"][()]
        assert f.attrs["format"] == "mdlm-logits"
    V = logits.shape[-1]
    assert logits.shape == got.shape == (*z.shape, V) and np.isfinite(logits).all() and logits.std() > 0
    without = logits.copy()
    without[..., mask] = -np.inf
    if objective == "sedd":
        sigma = -np.log1p(-(1 - 1e-3) * t)[:, None, None]
        want = logits - np.log(np.expm1(sigma)) - np.log(V - 1)
        np.put_along_axis(want, z[..., None], 0, -1)
    elif objective == "d3pm" and not masking:
        want = log_softmax(logits)
    else:
        want = log_softmax(without)
    if objective == "subs":
        want = np.where((z == mask)[..., None], want, np.where(np.arange(V) == z[..., None], 0, -np.inf))
    assert (np.isneginf(got) == np.isneginf(want)).all()
    off = np.abs(np.where(np.isneginf(want), 0, got - want)).max()
    print(f"{objective}: log_p is off by {off:.1e}")
    assert off < 1e-5


if __name__ == "__main__":
    command, *rest = sys.argv[1:]
    {"make": make, "check": check}[command](*[int(x) if x.isdigit() else x for x in rest])
