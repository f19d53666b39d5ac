"""What every command shares: one-line errors, exit codes, option parsing, checks of paths.

The module of a command imports numpy, h5py and the like only inside its job: --help and a bad option need none of them,
and a missing package is reported in one line.
"""

from __future__ import annotations

import argparse
import math
import os
import signal
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, NoReturn

from mdlm_data.errors import InputError, require


class Parser(argparse.ArgumentParser):
    """Raises InputError for a bad option, takes no abbreviations, prints the epilog verbatim; sets options.program."""

    def __init__(self, **options: Any) -> None:
        options.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(allow_abbrev=False, **options)
        self.set_defaults(program=self.prog)

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message} ({self.prog} --help lists the options)")


def run(program: str, job: Callable[[list[str]], None], argv: list[str] | None) -> int:
    """Run job(arguments) and return 0; after an error print one line and exit with 2, after an interrupt with 130."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # nohup ignores SIGHUP
            signal.signal(number, _interrupt)
    try:
        job(sys.argv[1:] if argv is None else argv)
    except ModuleNotFoundError as e:
        package = (e.name or "").partition(".")[0]
        remedy = f"run `make setup`, or {sys.executable} -m pip install {package}"
        _stop(program, f"error: Python package {package!r} is missing: {remedy}", 2)
    except KeyboardInterrupt as e:
        _stop(program, f"interrupted; {str(e) or 'no file was written'}", 130)
    except (InputError, OSError, MemoryError) as e:
        _stop(program, f"error: {e or 'out of memory'}", 2)
    return 0


def _stop(program: str, message: str, status: int) -> NoReturn:
    """Print the message and exit at once.

    A file that a full disk refused must neither be flushed again nor be freed: HDF5 prints messages of its own, or
    crashes. So this is called while the exception still holds the file, and the exit runs no clean-up.
    """
    clear = "\r\033[K" if sys.stderr.isatty() else ""  # there may be a progress line
    print(f"{clear}{program}: {message}", file=sys.stderr, flush=True)
    with suppress(OSError):
        sys.stdout.flush()
    os._exit(status)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def positive(text: str) -> float:
    """The type of an option that is a finite number above 0."""
    value = float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not a finite number above 0")
    return value


def warn(program: str, text: str) -> None:
    print(f"{program}: warning: {text}", file=sys.stderr)


def check_paths(written: Iterable[str], read: Iterable[str]) -> None:
    """Refuse outputs that are also inputs, named twice, in no folder, or no regular files: /dev/null would be replaced."""
    taken = {os.path.realpath(path) for path in read if path not in ("-", "")}
    seen: set[str] = set()
    for path in written:
        real = os.path.realpath(path)
        require(real not in taken, f"{path}: is both read and written; choose another output name")
        require(real not in seen, f"{path}: is named for both outputs; choose two names")
        require(os.path.isdir(os.path.dirname(real)), f"{path}: no folder {os.path.dirname(real)}; make it first")
        require(not os.path.isdir(real), f"{path}: is a folder; name a file")
        require(not os.path.exists(real) or os.path.isfile(real), f"{path}: is not a regular file; name another")
        seen.add(real)
