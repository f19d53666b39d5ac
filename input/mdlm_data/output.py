"""Output files that appear under their name only when they are complete."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

from mdlm_data.errors import InputError, no_room, reason


def check_replaced(paths: Iterable[str], format: str) -> None:
    """Refuse to replace what is not an HDF5 file of this format, such as a checkpoint or a text; an empty file may be."""
    for path in paths:
        if os.path.isfile(path) and os.path.getsize(path) > 0 and format_of(path) != format:
            raise InputError(f"{path}: exists and is not a {format} file; choose another output, or remove it")


def format_of(path: str) -> str:
    """The attribute `format` of an HDF5 file; of others, and of what cannot be read, nothing."""
    import h5py

    try:
        with h5py.File(path, "r", locking=False) as f:
            return str(f.attrs.get("format", ""))
    except OSError:
        return ""


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[str]:
    """PATH.tmp, to be written; then it is flushed to the disk and renamed to PATH, or removed after an error.

    The system's error for a full disk names no file: it becomes an InputError that names PATH."""
    partial = f"{os.fspath(path)}.tmp"
    try:
        yield partial
        flush_to_disk(partial)
        os.replace(partial, path)
    except OSError as e:
        if no_room(e):
            raise InputError(f"{path}: cannot write it: {reason(e)}") from e
        raise
    finally:
        with suppress(FileNotFoundError):
            os.remove(partial)


def flush_to_disk(path: str) -> None:
    with open(path, "rb") as f:
        os.fsync(f.fileno())
