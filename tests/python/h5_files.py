"""Small files as mdlm writes them, made by hand, for the tests of mdlm-analysis."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

SHAPES = {"blocks.0.mlp.weight": (16, 8), "norm.weight": (8,), "vocab_embed.embedding": (4, 8)}


def make_checkpoint(
    path: Path, seed: int = 1, step: int = 4, shapes: dict[str, tuple[int, ...]] = SHAPES, scale: float = 1.0
) -> Path:
    """Random tensors of these shapes in all four groups."""
    random = np.random.default_rng(seed)
    with h5py.File(path, "w") as f:
        f.attrs.update(format="mdlm-checkpoint", format_version=1, step=step, length=6, deck="", data_digest="d")
        for group in ("params", "ema", "adam_m", "adam_v"):
            for name, shape in shapes.items():
                f[f"{group}/{name}"] = scale * random.standard_normal(shape).astype(np.float32)
        f["vocab/bytes"], f["vocab/offsets"] = np.frombuffer(b"abcd", np.uint8), np.arange(5, dtype=np.uint64)
        f["vocab"].attrs.update(size=4, mask=3, hash="h", tokenizer="t", kind="k")
    return path


def make_sweep(path: Path, fill: dict[str, object] | None = None) -> Path:
    """Two checkpoints on two data sets of different protocols, the differences of each, and a cell that is missing."""
    random = np.random.default_rng(5)
    checkpoints, data, n = ["r/a/best.h5", "r/b/best.h5"], ["one", "two"], 40
    cells = [(c, d) for c in checkpoints for d in data] + [(checkpoints[0], "two")]
    columns: dict[str, list] = {
        "name": [f"c{i}" for i in range(5)],
        "checkpoint": [c for c, _ in cells],
        "data": [d for _, d in cells],
        "data_digest": [f"digest of {d}" for _, d in cells],
        "status": ["done"] * 4 + ["missing"],
        "estimator": ["count"] * 5,
        "tokenizer": ["bpe"] * 5,
        "detokenizer": ["none"] * 5,
        "seed": [1, 1, 1, 1, 2],
    }
    columns |= {"step": [7.0] * 5, "draws": [2.0] * 5, "T": [0.0] * 5, "wrap": [1, 0, 1, 0, 0], "length": [8.0] * 5}
    losses = [random.gamma(4, 3 + i, n) for i in range(4)]
    nll = [x.sum() / (8 * n) for x in losses]
    se = [np.sqrt(n / (n - 1) * np.sum((x - 8 * m) ** 2)) / (8 * n) for x, m in zip(losses, nll)]
    nan = [np.nan]
    columns |= {"nll": nll + nan, "low": [m - 2 * s for m, s in zip(nll, se)] + nan, "bits_per_byte": nan * 5}
    columns |= {"high": [m + 2 * s for m, s in zip(nll, se)] + nan} | (fill or {})
    with h5py.File(path, "w") as f:
        f.attrs.update(format="mdlm-sweep", format_version=1)
        for name, values in columns.items():
            f[f"cells/{name}"] = values
        for i, x in enumerate(losses):
            f[f"values/c{i}/loss"], f[f"values/c{i}/tokens"] = x, np.full(n, 8)
        d = np.array([nll[2] - nll[0], nll[3] - nll[1]])
        pairs = {
            "a": [0, 1],
            "b": [2, 3],
            "difference": d,
            "low": d - 0.1,
            "high": d + 0.2,
            "se": [0.1, 0.1],
            "p": [0.01, 0.5],
        }
        for name, values in pairs.items():
            f[f"pairs/{name}"] = np.asarray(values, float)
    return path


def make_samples(path: Path, texts: list[str], entropy: list[float], **options: object) -> Path:
    """Samples whose tokens are the numbers of their words."""
    words = {w: i for i, w in enumerate(dict.fromkeys(w for text in texts for w in text.split()))}
    longest = max(len(text.split()) for text in texts)
    with h5py.File(path, "w") as f:
        f.attrs.update(format="mdlm-samples", format_version=1, checkpoint_digest="c", sampler="ancestral", steps=8)
        f.attrs.update(
            temperature=1.0, nucleus=1.0, evaluations=24, remask="cap", remask_eta=0.0, num_strides=0, draw="f64"
        )
        f.attrs.update(options)
        rows = [[words[w] for w in text.split()] for text in texts]
        f["tokens"] = np.array([row + [-1] * (longest - len(row)) for row in rows], np.int32)
        f["text"], f["entropy"] = texts, np.array(entropy)
    return path


def make_score(path: Path, losses: list[float], tokens: list[int], entropy: list[float], source: str) -> Path:
    nll = sum(losses) / sum(tokens)
    with h5py.File(path, "w") as f:
        f.attrs.update(
            format="mdlm-score", format_version=1, input=source, nll=nll, nll_low=nll - 0.1, nll_high=nll + 0.2
        )
        f["loss"], f["tokens"], f["entropy"] = np.array(losses), np.array(tokens), np.array(entropy)
    return path


def make_profile(path: Path, seed: int = 1, masked: bool = True, distances: int = 3) -> Path:
    """Random bins: 10 shares, 6 positions, 10 tenths of frequency and some distances; one bin is empty."""
    random = np.random.default_rng(seed)
    names = ("tokens", "loss", "nll", "std", "entropy", "accuracy", "confidence")
    cuts = {"position": 6, "frequency": 10} | ({"share": 10, "distance": distances} if masked else {})
    with h5py.File(path, "w") as f:
        f.attrs.update(format="mdlm-profile", format_version=1, draws=2, accuracy=0.3, confidence=0.4, ece=0.1)
        f.attrs.update(prediction_entropy=1.5)
        f["loss"], f["tokens"] = random.gamma(4, 3, 12), np.full(12, 6)
        for cut, n in cuts.items():
            for name in names:
                f[f"{cut}/{name}"] = random.integers(50, 100, n) if name == "tokens" else random.random(n)
            if cut != "position":
                f[f"{cut}/low"], f[f"{cut}/high"] = np.arange(n) / n, (np.arange(n) + 1) / n
            f[f"{cut}/tokens"][n - 1] = 0
            f[f"{cut}/nll"][n - 1] = np.nan
        shares = 10 if masked else 1
        for name in ("tokens", "accuracy", "confidence"):
            f[f"calibration/{name}"] = (
                random.random((shares, 10)) if name != "tokens" else random.integers(1, 9, (shares, 10))
            )
        f["calibration/low"], f["calibration/high"] = np.arange(10) / 10, (np.arange(10) + 1) / 10
        f["calibration/ece"] = random.random(shares)
        f["residual/rms"] = np.array([1.0, 2.0, 4.0])
    return path
