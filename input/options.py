"""What the scripts' command lines share: complaints of one line, the roles of special tokens, paths of outputs."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable
from typing import Any, NoReturn

from errors import InputError

ROLES = ("mask", "bos", "eos", "pad")


class Parser(argparse.ArgumentParser):
    """One that raises its complaints, takes no abbreviations and shows the epilog as it stands."""

    def __init__(self, **options: Any) -> None:
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message} ({self.prog} --help lists the options)")


def require(condition: object, message: str) -> None:
    if not condition:
        raise InputError(message)


def special_tokens(texts: Iterable[str]) -> dict[str, str]:
    """ROLE=TOKEN of each --special."""
    roles = {}
    for text in texts:
        role, equals, token = text.partition("=")
        require(equals and token and role in ROLES, f"--special {text}: give mask=, bos=, eos= or pad=TOKEN")
        roles[role] = token
    return roles


def check_paths(written: Iterable[str], read: Iterable[str]) -> None:
    """Outputs lie in folders that are there, and are neither each other nor anything that is read."""
    taken = {os.path.realpath(path) for path in read if path not in ("-", "")}
    seen: set[str] = set()
    for path in written:
        real = os.path.realpath(path)
        require(real not in taken, f"{path}: is both read and written; choose another output name")
        require(real not in seen, f"{path}: is named for both outputs; choose two names")
        require(os.path.isdir(os.path.dirname(real)), f"{path}: no folder {os.path.dirname(real)}; make it first")
        require(not os.path.isdir(real), f"{path}: is a folder; name a file")
        seen.add(real)
