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
