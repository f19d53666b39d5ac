"""The metrics of a run, read from metrics.h5 (documented at the head of src/store/metrics.h) or a checkpoint.

A run may still be writing: the file is opened without a lock, so that the run never waits for a reader, and read again
if it was caught in the middle of a write.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np

from mdlm_data.errors import InputError


@dataclass
class Series:
    steps: np.ndarray
    values: np.ndarray
    unit: str
    description: str


@dataclass
class Run:
    name: str
    train: dict[str, Series] = field(default_factory=dict)
    valid: dict[str, Series] = field(default_factory=dict)


def read_run(path: Path, attempts: int = 20, wait: float = 0.1) -> Run:
    """The series of a run folder, a metrics.h5 or a checkpoint; reads again if the run is just writing it."""
    file = path / "metrics.h5" if path.is_dir() else path
    if not file.is_file():
        raise InputError(f"{file}: no such file; give a run's folder or its metrics.h5")
    problem: Exception | None = None
    for attempt in range(attempts):
        try:
            return _read_once(file)
        except (OSError, RuntimeError, KeyError, ValueError) as e:  # what h5py raises for a half-written file
            problem = e
            time.sleep(wait if attempt + 1 < attempts else 0)
    raise InputError(f"{file}: cannot be read as HDF5: {problem}")


def _read_once(file: Path) -> Run:
    with h5py.File(file, "r", locking=False) as f:
        root = f.get("metrics", f)
        run = Run(file.parent.name if file.name == "metrics.h5" else f"{file.parent.name}/{file.stem}".lstrip("/"))
        for part in ("train", "valid"):
            if part in root and "step" in root[part]:
                setattr(run, part, _series(root[part]))
        if not run.train and not run.valid and "train" not in root and "valid" not in root:
            raise InputError(f"{file}: holds no metrics (no group /train or /valid)")
        return run


def _series(group: h5py.Group) -> dict[str, Series]:
    """Every series of a group, truncated to the shorter of it and `step`."""
    steps = group["step"][:]
    found = {}
    for name, data in group.items():
        if isinstance(data, h5py.Dataset) and data.ndim == 1:
            values = data[:].astype(float)
            n = min(len(steps), len(values))
            if name == "step" or np.isfinite(values[:n]).any():
                found[name] = Series(
                    steps[:n], values[:n], str(data.attrs.get("unit", "")), str(data.attrs.get("description", ""))
                )
    return found
