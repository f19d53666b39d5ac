"""The metrics of a run with its name, read by mdlm_h5 from metrics.h5 or a checkpoint; the run may still be writing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import mdlm_h5
from mdlm_data.errors import InputError
from mdlm_h5 import Series


@dataclass
class Run:
    name: str
    train: dict[str, Series]
    valid: dict[str, Series]


def read_run(path: Path) -> Run:
    """The series of a run folder, a metrics.h5 or a checkpoint."""
    file = path / "metrics.h5" if path.is_dir() else path
    if not file.is_file():
        raise InputError(f"{file}: no such file; give a run's folder or its metrics.h5")
    try:
        found = mdlm_h5.metrics(file)
    except mdlm_h5.FormatError as e:
        raise InputError(str(e)) from e
    name = file.parent.name if file.name == "metrics.h5" else f"{file.parent.name}/{file.stem}".lstrip("/")
    return Run(name, found.train, found.valid)
