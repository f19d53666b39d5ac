"""The metrics of runs, each under the shortest name that tells it from the others; a run may still be writing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import mdlm_h5
from mdlm_data.errors import InputError, require
from mdlm_h5 import Series


@dataclass
class Run:
    name: str
    path: Path  # of the file
    train: dict[str, Series]
    valid: dict[str, Series]


def read_runs(paths: Sequence[Path]) -> list[Run]:
    """The series of run folders, metrics.h5 files or checkpoints."""
    files = [path / "metrics.h5" if path.is_dir() else path for path in paths]
    require(len({f.resolve() for f in files}) == len(files), "a run is named twice")
    for file in files:
        require(file.is_file(), f"{file}: no such file; give a run's folder or its metrics.h5")
    runs = []
    for file, name in zip(files, distinct(files)):
        try:
            found = mdlm_h5.metrics(file)
        except mdlm_h5.FormatError as e:
            raise InputError(str(e)) from e
        runs.append(Run(name, file, found.train, found.valid))
    return runs


def distinct(files: Sequence[Path]) -> list[str]:
    """The shortest ends of the paths that tell the files apart: a folder for metrics.h5, folder/name for others."""
    parts = [_parts(file) for file in files]
    ends = [_end(mine, [other for k, other in enumerate(parts) if k != i]) for i, mine in enumerate(parts)]
    short = [f"{end[0]}/…/{end[-1]}" if len(end) > 3 else "/".join(end) for end in ends]
    names = ["/".join(end) if short.count(name) > 1 else name for end, name in zip(ends, short)]
    # matplotlib hides labels that begin with _
    return [f"./{name}" if name.startswith("_") else name for name in names]


def _parts(file: Path) -> tuple[str, ...]:
    """The components of the name; the last is always shown."""
    *folders, last = file.absolute().with_suffix("").parts
    if last in ("metrics", "sweep"):
        return tuple(folders)
    return (*folders[:-1], f"{folders[-1]}/{last}")


def _end(mine: tuple[str, ...], others: list[tuple[str, ...]]) -> tuple[str, ...]:
    """The shortest end that no other has."""
    k = next((k for k in range(1, len(mine)) if all(o[-k:] != mine[-k:] for o in others)), len(mine))
    return mine[-k:]
