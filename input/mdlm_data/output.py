"""Output files that appear under their name only when they are complete."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from mdlm_data.errors import InputError, no_room, reason


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
