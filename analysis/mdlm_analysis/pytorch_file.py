"""PyTorch checkpoints, read without PyTorch.

A PyTorch file is a pickle in a zip archive, and a pickle may name any Python class. This reader creates only tensors,
strings, numbers and containers; every other class becomes an Inert, so that loading a file runs no foreign code. An Inert
keeps the values that the pickle gives it: `plain` reads hyper-parameters of OmegaConf from them, without OmegaConf.
"""

from __future__ import annotations

import io
import math
import pickle
import zipfile
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mdlm_analysis.tensors import as_float32
from mdlm_data.errors import InputError

STORAGES = {
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "BFloat16Storage": "bf16",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}
# what a damaged archive or pickle raises
PICKLE_ERRORS = (
    zipfile.BadZipFile,
    pickle.UnpicklingError,
    EOFError,
    LookupError,
    AttributeError,
    ValueError,
    TypeError,
    OverflowError,
    MemoryError,  # a damaged length
    RecursionError,
)


@dataclass(frozen=True)
class Pickled:
    """A tensor in the archive, a strided view of a storage, read on demand."""

    archive: zipfile.ZipFile
    member: str
    dtype: str
    at: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def read(self) -> np.ndarray:
        try:
            whole = as_float32(self.archive.read(self.member), self.dtype)
        except (KeyError, ValueError, zipfile.BadZipFile) as e:
            raise InputError(f"{self.archive.filename}: {self.member} is missing or damaged: {e}") from e
        last = self.at + sum((n - 1) * s for n, s in zip(self.shape, self.strides))
        if math.prod(self.shape) and not 0 <= self.at <= last < len(whole):
            raise InputError(f"{self.archive.filename}: {self.member} is shorter than its tensor")
        return np.lib.stride_tricks.as_strided(whole[self.at :], self.shape, [4 * s for s in self.strides]).copy()


class Inert:
    """Stands in for an object of any other class: it accepts every call, does nothing and keeps its values."""

    state: Any
    items: dict[Any, Any]

    def __new__(cls, *_: Any, **__: Any) -> Inert:
        self = object.__new__(cls)
        self.state, self.items = None, {}
        return self

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __call__(self, *_: Any, **__: Any) -> Inert:
        return self

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __setitem__(self, key: Any, value: Any) -> None:
        self.items[key] = value

    def append(self, value: Any) -> None:
        pass

    def extend(self, values: Any) -> None:
        pass


def plain(value: Any, depth: int = 12) -> Any:
    """Containers, strings and numbers of a pickle; nodes of OmegaConf become their content, other objects None."""
    if isinstance(value, Inert):
        state = value.state if isinstance(value.state, dict) else {}
        value = next((state[key] for key in ("_content", "_val") if key in state), value.items or None)
    if isinstance(value, dict) and depth:
        return {str(k): plain(v, depth - 1) for k, v in value.items()}
    if isinstance(value, list | tuple) and depth:
        return [plain(v, depth - 1) for v in value]
    return value if isinstance(value, str | int | float | bool) else None


class _Unpickler(pickle.Unpickler):
    def __init__(self, archive: zipfile.ZipFile, member: str) -> None:
        super().__init__(io.BytesIO(archive.read(member)))  # read as a whole, which checks its checksum
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
            raise InputError(f"{self.archive.filename}: holds a {kind} of the unsupported type {storage}")
        return STORAGES[storage], f"{self.folder}data/{key}"

    def _tensor(self, storage: tuple[str, str], at: int, shape: tuple, strides: tuple, *_: Any) -> Pickled:
        whole = (at, *shape, *strides)
        if len(shape) != len(strides) or not all(isinstance(n, int) and n >= 0 for n in whole):
            raise InputError(f"{self.archive.filename}: {storage[1]} has a damaged shape; copy the file again")
        return Pickled(self.archive, storage[1], storage[0], at, tuple(shape), tuple(strides))


def pytorch_open(path: Path) -> Any:
    """What torch.load would return, with tensors that are read on demand."""
    try:
        archive = zipfile.ZipFile(path)
        member = next((n for n in archive.namelist() if n.endswith("/data.pkl")), None)
        if member is None:
            raise InputError(f"{path}: not a PyTorch file: no data.pkl in it")
        return _Unpickler(archive, member).load()
    except PICKLE_ERRORS as e:
        raise InputError(f"{path}: not a PyTorch file of version 1.6 or later: {str(e) or type(e).__name__}") from e
