"""Ready token ids: NumPy's .npy, .bin of llm.c and of nanoGPT, .bin and .idx of Megatron.

A document ends with the eos id. A file that begins with eos and does not end with it, as llm.c writes them, has the eos
before each document. A bos id before a document is dropped: rows get their own.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np

from mdlm_data.errors import InputError, require
from mdlm_data.forms.item import TokenRule
from mdlm_data.forms.stream import Peek

Parts = Iterator[tuple[np.ndarray, bool]]
BLOCK = 1 << 20  # ids read at a time
LLM_C = {20240520: "<u2", 20240801: "<u4"}  # magic number of GPT-2's and of Llama 3's files
LLM_C_HEADER = 1024  # bytes
INDEX = b"MMIDIDX\0\0"
INDEX_TYPES = {1: "u1", 2: "i1", 3: "<i2", 4: "<i4", 5: "<i8", 8: "<u2"}


def is_npy(head: bytes) -> bool:
    return head.startswith(b"\x93NUMPY")


def is_llm_c(head: bytes) -> bool:
    return len(head) >= LLM_C_HEADER and struct.unpack("<i", head[:4])[0] in LLM_C and not any(head[12:LLM_C_HEADER])


def is_index(head: bytes) -> bool:
    return head.startswith(INDEX)


def from_npy(stream: Peek, rule: TokenRule, folder: str | None) -> Parts:
    file = stream.seekable_file(folder)
    try:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(file)
    except ValueError as e:
        raise InputError(f"{stream.name}: damaged .npy file: {e}") from e
    require(dtype.kind in "iu" and len(shape) == 1, f"{stream.name}: holds {dtype}{list(shape)}, not a list of ids")
    yield from _documents(_Ids(file, stream.name, dtype, file.tell(), shape[0]), rule)


def from_llm_c(stream: Peek, rule: TokenRule, folder: str | None) -> Parts:
    magic, _, n = struct.unpack("<3i", stream.head(12))
    file = stream.seekable_file(folder)
    yield from _documents(_Ids(file, stream.name, np.dtype(LLM_C[magic]), LLM_C_HEADER, n), rule)


def from_raw(stream: Peek, rule: TokenRule, folder: str | None) -> Parts:
    """Ids without a header, as nanoGPT writes them."""
    file, dtype = stream.seekable_file(folder), np.dtype(rule.dtype)
    n, rest = divmod(_size(file), dtype.itemsize)
    require(rest == 0, f"{stream.name}: its size is no multiple of {dtype.itemsize} bytes, that of one id")
    yield from _documents(_Ids(file, stream.name, dtype, 0, n), rule)


def from_index(stream: Peek, rule: TokenRule, folder: str | None) -> Parts:
    """The documents of Megatron's index, whose ids are in the file .bin beside it."""
    file = stream.buffered()
    try:
        version, kind, sequences, marks = struct.unpack("<QBQQ", file.read(9 + 25)[9:])
        require(version == 1 and kind in INDEX_TYPES, f"{stream.name}: an index of version {version}, ids {kind}")
        lengths = np.frombuffer(file.read(4 * sequences), "<i4")
        pointers = np.frombuffer(file.read(8 * sequences), "<i8")
        ends = np.frombuffer(file.read(8 * marks), "<i8")
        require(len(lengths) == len(pointers) == sequences and len(ends) == marks, f"{stream.name}: ends too early")
    except struct.error as e:
        raise InputError(f"{stream.name}: damaged .idx file: {e}") from e
    path = stream.name.removesuffix(".idx") + ".bin"
    require(os.path.isfile(path), f"{stream.name}: its ids are in {path}, which is missing")
    dtype = np.dtype(INDEX_TYPES[kind])
    last = set((ends[1:] - 1).tolist()) if marks > 1 else set(range(sequences))
    with open(path, "rb") as data:
        begins = True
        for i, (n, at) in enumerate(zip(lengths.tolist(), pointers.tolist())):
            ids = _Ids(data, path, dtype, at, n)
            ids.check()
            for first in range(0, n, BLOCK):
                part = ids.read(first, min(BLOCK, n - first), rule)
                ended = i in last and first + BLOCK >= n
                part = part[:-1] if ended and len(part) and part[-1] == rule.eos else part
                yield _without_bos(part, begins, rule), ended
                begins = ended
            if not n and i in last:
                yield np.empty(0, np.uint32), True
                begins = True


class _Ids:
    """n ids in a file, from a byte onwards."""

    def __init__(self, file: BinaryIO, name: str, dtype: Any, begin: int, n: int) -> None:
        self.file, self.name, self.dtype, self.begin, self.n = file, name, dtype, begin, n

    def check(self) -> None:
        size = _size(self.file)
        want = self.begin + self.n * self.dtype.itemsize
        require(size >= want, f"{self.name}: ends too early: {size} bytes, {want} were expected")

    def read(self, first: int, n: int, rule: TokenRule) -> np.ndarray:
        self.file.seek(self.begin + first * self.dtype.itemsize)
        ids = np.frombuffer(self.file.read(n * self.dtype.itemsize), self.dtype)
        bad = np.flatnonzero((ids < 0) | (ids >= rule.size))
        if len(bad):
            at = first + int(bad[0])
            raise InputError(f"{self.name}: id {ids[bad[0]]} at {at} is outside the vocabulary of {rule.size} tokens")
        return ids.astype(np.uint32)


def _size(file: BinaryIO) -> int:
    return file.seek(0, os.SEEK_END)


def _documents(ids: _Ids, rule: TokenRule) -> Parts:
    """Split at eos; parts have at most BLOCK ids."""
    ids.check()
    if not ids.n:
        return
    ends_last = ids.read(ids.n - 1, 1, rule)[0] == rule.eos
    skip = int(not ends_last and ids.read(0, 1, rule)[0] == rule.eos)  # it begins the first document
    begins = True
    for first in range(skip, ids.n, BLOCK):
        block = ids.read(first, min(BLOCK, ids.n - first), rule)
        at = 0
        for end in np.flatnonzero(block == rule.eos).tolist():
            yield _without_bos(block[at:end], begins, rule), True
            at, begins = end + 1, True
        if at < len(block):
            yield _without_bos(block[at:], begins, rule), False
            begins = False
    if not ends_last:
        yield np.empty(0, np.uint32), True


def _without_bos(ids: np.ndarray, begins: bool, rule: TokenRule) -> np.ndarray:
    return ids[1:] if begins and len(ids) and ids[0] == rule.bos != rule.eos else ids
