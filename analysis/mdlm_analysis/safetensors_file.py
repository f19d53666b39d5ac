"""safetensors files, read and written."""

from __future__ import annotations

import json
import math
import os
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mdlm_analysis.tensors import Tensor, as_float32, item_bytes
from mdlm_data.errors import InputError
from mdlm_data.output import replacing

DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "bf16"}
DTYPES |= {"I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1", "U8": "u1", "BOOL": "?"}  # of buffers


@dataclass(frozen=True)
class Stored:
    """A tensor in a safetensors file, read on demand."""

    path: Path
    at: int
    dtype: str
    shape: tuple[int, ...]

    def read(self) -> np.ndarray:
        with open(self.path, "rb") as f:
            f.seek(self.at)
            raw = f.read(math.prod(self.shape) * item_bytes(self.dtype))
        return as_float32(raw, self.dtype).reshape(self.shape)


def safetensors_open(path: Path) -> dict[str, Tensor]:
    with open(path, "rb") as f:
        head = f.read(8)
        length = struct.unpack("<Q", head)[0] if len(head) == 8 else 0
        if not 2 <= length <= os.path.getsize(path) - 8:
            raise InputError(f"{path}: not a safetensors file")
        try:
            header = json.loads(f.read(length))
        except ValueError as e:
            raise InputError(f"{path}: not a safetensors file: {e}") from e
    if not isinstance(header, dict):
        raise InputError(f"{path}: not a safetensors file: its header is no JSON object")
    found: dict[str, Tensor] = {}
    for name, entry in header.items():
        if name != "__metadata__":
            try:
                found[name] = _stored(path, name, entry, 8 + length)
            except (KeyError, TypeError, ValueError) as e:
                raise InputError(f"{path}: not a safetensors file: the entry of {name} is damaged") from e
    return found


def _stored(path: Path, name: str, entry: dict[str, Any], start: int) -> Stored:
    if entry["dtype"] not in DTYPES:
        raise InputError(f"{path}: {name} has the unsupported type {entry['dtype']}")
    dtype, shape, (first, end) = DTYPES[entry["dtype"]], tuple(map(int, entry["shape"])), entry["data_offsets"]
    if end - first != math.prod(shape) * item_bytes(dtype):
        raise InputError(f"{path}: {name} has {end - first} bytes for a shape of {list(shape)}")
    if start + end > os.path.getsize(path):
        raise InputError(f"{path}: ends early, in {name}; copy it again")
    return Stored(path, start + first, dtype, shape)


def safetensors_write(path: Path, shapes: dict[str, tuple[int, ...]], values: Iterable[np.ndarray]) -> None:
    """Write float32 tensors in this order; only one is in memory at a time."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, shape in shapes.items():
        end = at + 4 * math.prod(shape)
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [at, end]}
        at = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with replacing(path) as partial, open(partial, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for value, shape in zip(values, shapes.values(), strict=True):
            assert value.shape == shape
            f.write(np.ascontiguousarray(value, "<f4").data)
