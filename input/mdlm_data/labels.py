"""Classes of documents: from the values of a field of records to numbers.

Integers are the numbers of their classes. The names of classes get numbers in their sorted order, or those of another data
file. A document without a value, or with -1 or null, has no class.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np

from mdlm_data.errors import InputError, require
from mdlm_data.seal import sealed_open

MOST = 1 << 20  # classes
MOST_BYTES = 60_000  # of all names: an attribute of HDF5 holds 64 KiB
UNKNOWN = -1


@dataclass(frozen=True)
class Classes:
    """What a data file says of its labels; src/store/shards.h defines it."""

    count: int
    names: list[str]  # in order; empty: they have none


def classes_of(path: str) -> Classes:
    """Those of a data file."""
    with sealed_open(path) as f:
        require("label" in f, f"{path}: has no labels; --label-classes takes a file made with --label-field")
        a = f["label"].attrs
        names = str(a.get("names", ""))
        return Classes(int(a["classes"]), names.split("\n") if names else [])


class Labels:
    """The corpus adds the value of each document; the rows take them in the same order, as provisional numbers."""

    def __init__(self, field: str, like: Classes | None = None) -> None:
        self.field, self.like = field, like
        self.numbers: dict[str, int] = {name: i for i, name in enumerate(like.names)} if like else {}
        self.most = -1  # the largest integer
        self.unknown = self.known = 0  # documents
        self.waiting: deque[int] = deque()

    def add(self, value: Any, where: str) -> None:
        number = self._number(value, where)
        self.unknown, self.known = self.unknown + (number < 0), self.known + (number >= 0)
        self.waiting.append(number)

    def take(self, n: int) -> np.ndarray:
        return np.array([self.waiting.popleft() for _ in range(n)], np.int32)

    def finish(self) -> Classes:
        """The classes; `final` then turns provisional numbers into theirs."""
        require(self.known > 0, f"no document has a class in the field {self.field!r}")
        if self.like:
            return self.like
        names = sorted(self.numbers)
        require(
            len("\n".join(names).encode()) <= MOST_BYTES,
            f"the names of {len(names):,} classes take more than {MOST_BYTES:,} bytes: give the classes as integers",
        )
        return Classes(len(names) or self.most + 1, names)

    def final(self, provisional: np.ndarray) -> np.ndarray:
        if self.like or not self.numbers:
            return provisional
        place = np.empty(len(self.numbers) + 1, np.int32)
        place[UNKNOWN] = UNKNOWN
        for i, name in enumerate(sorted(self.numbers)):
            place[self.numbers[name]] = i
        return place[provisional]

    def _number(self, value: Any, where: str) -> int:
        if value is None:
            return UNKNOWN
        if isinstance(value, str):
            return self._named(value, where)
        here = f"{where}: field {self.field!r}"
        whole = isinstance(value, (bool, int)) or (isinstance(value, float) and value.is_integer())
        require(whole, f"{here} is neither an integer nor a name: {str(value)[:40]}")
        number = int(value)
        require(
            UNKNOWN <= number < MOST, f"{here} is {number}: classes are numbered from 0 to {MOST - 1:,}, -1 is none"
        )
        require(number < 0 or not self.numbers, f"{here} is the number {number}, where others are names of classes")
        most = self.like.count if self.like else MOST
        require(number < most, f"{here} is {number}: the file of --label-classes has {most:,} classes")
        self.most = max(self.most, number)
        return number

    def _named(self, name: str, where: str) -> int:
        here = f"{where}: field {self.field!r}"
        require(name.isprintable() and name, f"{here} is {name[:40]!r}: the name of a class is one line of text")
        require(self.most < 0, f"{here} is the name {name!r}, where others are numbers of classes")
        if self.like:
            require(name in self.numbers, f"{here} is {name!r}, which is no class of the file of --label-classes")
        if len(self.numbers) >= MOST:
            raise InputError(f"{here}: more than {MOST:,} classes")
        return self.numbers.setdefault(name, len(self.numbers))
