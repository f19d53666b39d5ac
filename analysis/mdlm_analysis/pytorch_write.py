"""PyTorch files, written without PyTorch: a pickle in a zip archive, and the values of each tensor in a member of its own."""

from __future__ import annotations

import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mdlm_data.output import replacing


@dataclass(frozen=True)
class Lazy:
    """A float32 tensor whose values are made when they are written."""

    shape: tuple[int, ...]
    read: Callable[[], np.ndarray]


@dataclass(frozen=True)
class _Global:
    """What pickles as the name of a class or function of a module that need not be installed."""

    module: str
    name: str


class _Pickler(pickle._Pickler):  # the pure Python version, which can be extended
    """Collects the tensors, in the order of their keys."""

    def __init__(self, to: Any, tensors: list[Lazy]) -> None:
        super().__init__(to, protocol=2)
        self.tensors = tensors

    def save(self, obj: Any, save_persistent_id: bool = True) -> None:
        if isinstance(obj, _Global):
            self.write(pickle.GLOBAL + f"{obj.module}\n{obj.name}\n".encode())
        elif isinstance(obj, Lazy):
            self._tensor(obj)
        else:
            super().save(obj, save_persistent_id)

    def _tensor(self, t: Lazy) -> None:
        strides = [int(np.prod(t.shape[i + 1 :], dtype=int)) for i in range(len(t.shape))]
        kind, key = _Global("torch", "FloatStorage"), str(len(self.tensors))
        self.save(_Global("torch._utils", "_rebuild_tensor_v2"))
        self.write(pickle.MARK)
        self.save(("storage", kind, key, "cpu", int(np.prod(t.shape, dtype=int))))
        self.write(pickle.BINPERSID)
        for argument in (0, tuple(t.shape), tuple(strides), False, OrderedDict()):
            self.save(argument)
        self.write(pickle.TUPLE + pickle.REDUCE)
        self.tensors.append(t)


def pytorch_write(path: Path, state: dict[str, Any]) -> None:
    """What torch.save(state, path) writes, with a tensor for each Lazy; only one is in memory at a time."""
    tensors: list[Lazy] = []
    with replacing(path) as partial, zipfile.ZipFile(partial, "w") as z:
        with z.open(f"{path.stem}/data.pkl", "w") as f:
            _Pickler(f, tensors).dump(state)
        z.writestr(f"{path.stem}/byteorder", "little")
        for i, t in enumerate(tensors):
            value = np.asarray(t.read(), "<f4", order="C")
            assert value.shape == t.shape
            z.writestr(f"{path.stem}/data/{i}", value.tobytes())
        z.writestr(f"{path.stem}/version", "3\n")
