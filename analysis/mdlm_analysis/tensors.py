"""Tensors in files of other programs, and their element types."""

from __future__ import annotations

from typing import Protocol

import numpy as np


class Tensor(Protocol):
    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> str:
        """Of the file: a NumPy type string, or bf16."""

    def read(self) -> np.ndarray:
        """The values as float32."""


def is_real(dtype: str) -> bool:
    return dtype == "bf16" or np.dtype(dtype).kind == "f"


def as_float32(raw: bytes | memoryview, dtype: str) -> np.ndarray:
    if dtype == "bf16":  # the upper half of a float32
        return (np.frombuffer(raw, "<u2").astype("<u4") << 16).view("<f4")
    return np.frombuffer(raw, dtype).astype("<f4")


def item_bytes(dtype: str) -> int:
    return 2 if dtype == "bf16" else np.dtype(dtype).itemsize
