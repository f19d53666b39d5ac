"""The error of every command, and the reason inside an HDF5 message."""

from __future__ import annotations

import errno
import os
import re


class InputError(Exception):
    """A mistake of the user or a refusal of the system, as one line that says what to change."""


def require(condition: object, message: str) -> None:
    if not condition:
        raise InputError(message)


def reason(error: Exception) -> str:
    """The system's reason inside a message of the HDF5 library."""
    found = re.search(r"error message = '([^']*)'", str(error))
    if found:
        return found[1]
    number = getattr(error, "errno", None) or 0
    return os.strerror(number) if number in errno.errorcode else str(error).splitlines()[0]


def no_room(error: Exception) -> bool:
    """Whether a write failed for lack of room: a full disk, a quota, a limit on the size of files."""
    return reason(error) in map(os.strerror, (errno.ENOSPC, errno.EDQUOT, errno.EFBIG))
