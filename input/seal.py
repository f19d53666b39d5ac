"""The seal of a finished file: checksums of its blocks behind its last byte, as src/store/seal.h describes.

HDF5 does not look behind the end of its file; `mdlm` checks a block before HDF5 reads it, so that a damaged file is
refused with a message instead of confusing the library.
"""

from __future__ import annotations

import os
import struct

import h5py
import xxhash

from errors import InputError

BLOCK = 65536
MAGIC = b"MDLMSEAL"
END = struct.Struct("<QQQ8s")  # bytes before the tail, bytes of a block, checksum of the tail, MAGIC


def seal_append(path: str) -> None:
    """Seal the file at path; OSError where it cannot be read or written."""
    sums, length = b"", 0
    with open(path, "r+b") as f:
        while block := f.read(BLOCK):
            sums += struct.pack("<Q", xxhash.xxh3_64_intdigest(block))
            length += len(block)
        foot = struct.pack("<QQ", length, BLOCK)
        f.write(sums + foot + struct.pack("<Q", xxhash.xxh3_64_intdigest(sums + foot)) + MAGIC)


def sealed_open(path: str | os.PathLike[str]) -> h5py.File:
    """A file for reading, once its seal has held; one without a seal as it is. InputError names it."""
    try:
        if not _whole(path):
            raise InputError(f"{path} is damaged: checksum error; restore it or make it again")
        return h5py.File(path, "r")
    except OSError as e:
        raise InputError(f"{path}: cannot be read as HDF5: {e}") from e


def _whole(path: str | os.PathLike[str]) -> bool:
    size = os.path.getsize(path)
    with open(path, "rb") as f:
        if size < END.size:
            return True
        f.seek(size - END.size)
        length, block, tail, magic = END.unpack(f.read())
        if magic != MAGIC:
            return True
        blocks = -(-length // block) if 0 < block <= 1 << 30 else 0
        if not blocks or size != length + 8 * blocks + END.size:
            return False
        f.seek(length)
        sums = f.read(8 * blocks)
        if tail != xxhash.xxh3_64_intdigest(sums + struct.pack("<QQ", length, block)):
            return False
        f.seek(0)
        return all(
            struct.pack("<Q", xxhash.xxh3_64_intdigest(f.read(min(block, length - i * block)))) == sums[8 * i : 8 * i + 8]
            for i in range(blocks)
        )
