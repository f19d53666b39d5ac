"""Tensors in other programs' files: safetensors, read and written, and PyTorch checkpoints, read without PyTorch.

A PyTorch file is a pickle in a zip archive, and a pickle may name any class of Python. Here it gets tensors, strings,
numbers and containers; whatever else it names becomes an Inert, which does nothing.
"""

from __future__ import annotations

import json
import math
import os
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "bf16", "I64": "<i8", "I32": "<i4", "U8": "u1", "BOOL": "?"}
STORAGES = {
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "BFloat16Storage": "bf16",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}
# what reading a damaged archive or pickle ends in
PICKLE_ERRORS = (
    zipfile.BadZipFile,
    pickle.UnpicklingError,
    EOFError,
    LookupError,
    AttributeError,
    ValueError,
    TypeError,
)


class FileError(Exception):
    """What is wrong with a file, as one line."""


class Tensor(Protocol):
    shape: tuple[int, ...]

    def read(self) -> np.ndarray:
        """The values as float32."""


def _values(raw: bytes | memoryview, dtype: str) -> np.ndarray:
    if dtype == "bf16":  # the upper half of a float32
        return (np.frombuffer(raw, "<u2").astype("<u4") << 16).view("<f4")
    return np.frombuffer(raw, dtype).astype("<f4")


def _size(dtype: str) -> int:
    return 2 if dtype == "bf16" else np.dtype(dtype).itemsize


# ---- safetensors


@dataclass(frozen=True)
class Stored:
    path: Path
    at: int
    dtype: str
    shape: tuple[int, ...]

    def read(self) -> np.ndarray:
        with open(self.path, "rb") as f:
            f.seek(self.at)
            raw = f.read(math.prod(self.shape) * _size(self.dtype))
        return _values(raw, self.dtype).reshape(self.shape)


def safetensors_open(path: Path) -> dict[str, Tensor]:
    with open(path, "rb") as f:
        head = f.read(8)
        length = struct.unpack("<Q", head)[0] if len(head) == 8 else 0
        if not 2 <= length <= os.path.getsize(path) - 8:
            raise FileError(f"{path}: not a safetensors file")
        try:
            header = json.loads(f.read(length))
        except ValueError as e:
            raise FileError(f"{path}: not a safetensors file: {e}") from e
    found: dict[str, Tensor] = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        if entry["dtype"] not in DTYPES:
            raise FileError(f"{path}: {name} is {entry['dtype']}, which is not read")
        dtype, shape, (first, end) = DTYPES[entry["dtype"]], tuple(entry["shape"]), entry["data_offsets"]
        if end - first != math.prod(shape) * _size(dtype):
            raise FileError(f"{path}: {name} has {end - first} bytes for a shape of {list(shape)}")
        if 8 + length + end > os.path.getsize(path):
            raise FileError(f"{path}: ends early, in {name}; copy it again")
        found[name] = Stored(path, 8 + length + first, dtype, shape)
    return found


def safetensors_write(path: Path, shapes: dict[str, tuple[int, ...]], values: Iterable[np.ndarray]) -> None:
    """Float32 tensors in this order, one after another in memory; under NAME.tmp until it is complete."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, shape in shapes.items():
        end = at + 4 * math.prod(shape)
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [at, end]}
        at = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    partial = path.with_name(path.name + ".tmp")
    try:
        with open(partial, "wb") as f:
            f.write(struct.pack("<Q", len(text)) + text)
            for value, shape in zip(values, shapes.values(), strict=True):
                assert value.shape == shape
                f.write(np.ascontiguousarray(value, "<f4").data)
            f.flush()
            os.fsync(f.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


# ---- PyTorch


@dataclass(frozen=True)
class Pickled:
    """A strided view of a storage in the archive."""

    archive: zipfile.ZipFile
    member: str
    dtype: str
    at: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def read(self) -> np.ndarray:
        try:
            whole = _values(self.archive.read(self.member), self.dtype)
        except (KeyError, ValueError, zipfile.BadZipFile) as e:
            raise FileError(f"{self.archive.filename}: {self.member} is missing or damaged: {e}") from e
        last = self.at + sum((n - 1) * s for n, s in zip(self.shape, self.strides))
        if math.prod(self.shape) and not 0 <= self.at <= last < len(whole):
            raise FileError(f"{self.archive.filename}: {self.member} is shorter than its tensor")
        return np.lib.stride_tricks.as_strided(whole[self.at :], self.shape, [4 * s for s in self.strides]).copy()


class Inert:
    """Stands for an object of a class that is not made here."""

    def __new__(cls, *_: Any, **__: Any) -> Inert:
        return object.__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __call__(self, *_: Any, **__: Any) -> Inert:
        return self

    def __setstate__(self, state: Any) -> None:
        pass

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def append(self, value: Any) -> None:
        pass

    def extend(self, values: Any) -> None:
        pass


class _Unpickler(pickle.Unpickler):
    def __init__(self, archive: zipfile.ZipFile, member: str) -> None:
        super().__init__(archive.open(member))
        self.archive, self.folder = archive, member.removesuffix("data.pkl")

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module == "torch._utils" and name in ("_rebuild_tensor_v2", "_rebuild_parameter"):
            return self._tensor if name == "_rebuild_tensor_v2" else lambda tensor, *_: tensor
        if module == "torch" and name in STORAGES:
            return name
        return Inert

    def persistent_load(self, pid: Any) -> tuple[str, str]:
        kind, storage, key = pid[0], pid[1], pid[2]
        if kind != "storage" or storage not in STORAGES:
            raise FileError(f"{self.archive.filename}: holds a {kind} of {storage}, which is not read")
        return STORAGES[storage], f"{self.folder}data/{key}"

    def _tensor(self, storage: tuple[str, str], at: int, shape: tuple, strides: tuple, *_: Any) -> Pickled:
        return Pickled(self.archive, storage[1], storage[0], at, tuple(shape), tuple(strides))


def pytorch_open(path: Path) -> Any:
    """What torch.load would give, with tensors that are read when asked."""
    try:
        archive = zipfile.ZipFile(path)
        member = next((n for n in archive.namelist() if n.endswith("/data.pkl")), None)
        if member is None:
            raise FileError(f"{path}: not a PyTorch file: no data.pkl in it")
        return _Unpickler(archive, member).load()
    except PICKLE_ERRORS as e:
        raise FileError(f"{path}: not a PyTorch file of version 1.6 or later: {e}") from e
