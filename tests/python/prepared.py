"""A text, and what a data file of mdlm-prepare holds: for the tests."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

VERSES = [
    "In the beginning God created the heaven and the earth.",
    "And God said, Let there be light: and there was light.",
    "And the evening and the morning were the first day.",
]


def encode8(text: str) -> list[int]:
    """text8 ids: letters start at 8, then comes the space; 7 stands for all other characters."""
    return [8 + ord(c) - ord("a") if "a" <= c <= "z" else 34 if c == " " else 7 for c in text]


def read(path: Path) -> tuple[np.ndarray, np.ndarray, dict, dict]:
    with h5py.File(path) as f:
        return f["tokens"][:], f["lengths"][:], dict(f.attrs), dict(f["vocab"].attrs)


def scored(path: Path) -> list[int]:
    tokens, lengths, _, _ = read(path)
    return [int(t) for row, n in zip(tokens, lengths) for t in row[:n]]


def token_bytes(path: Path) -> list[bytes]:
    with h5py.File(path) as f:
        raw, offsets = f["vocab/bytes"][:].tobytes(), f["vocab/offsets"][:].tolist()
    return [raw[i:j] for i, j in zip(offsets, offsets[1:])]


def content(path: Path) -> bytes:
    """The text of the file's tokens, without bos, eos and pad."""
    spelling = token_bytes(path)
    vocab = read(path)[3]
    frame = {int(vocab[s]) for s in ("bos", "eos", "pad")}
    return b"".join(spelling[t] for t in scored(path) if t not in frame)
