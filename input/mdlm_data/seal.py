"""The seal of a finished file: checksums of its blocks, appended to the file as src/store/seal.h describes.

HDF5 ignores bytes after the end of its own data. `mdlm` checks each block before HDF5 reads it, so that a damaged file
is refused with a clear message instead of an obscure error from the library.
"""

from __future__ import annotations

import os
import struct

import h5py
import xxhash

from mdlm_data.errors import InputError

BLOCK = 65536
MAGIC = b"MDLMSEAL"
END = struct.Struct("<QQQ8s")  # bytes before the tail, bytes of a block, checksum of the tail, MAGIC


def seal_append(path: str) -> None:
    """Seal the file at path; OSError if it cannot be read or written."""
    sums, length = b"", 0
    with open(path, "r+b") as f:
        while block := f.read(BLOCK):
            sums += struct.pack("<Q", xxhash.xxh3_64_intdigest(block))
            length += len(block)
        foot = struct.pack("<QQ", length, BLOCK)
        f.write(sums + foot + struct.pack("<Q", xxhash.xxh3_64_intdigest(sums + foot)) + MAGIC)


def sealed_open(path: str | os.PathLike[str]) -> h5py.File:
    """Open a file for reading after checking its seal; a file without a seal is not checked. Errors name the file."""
    try:
        if not _intact(path):
            raise InputError(f"{path} is damaged: checksum error; restore it or make it again")
        return h5py.File(path, "r", locking=False)
    except OSError as e:
        raise InputError(f"{path}: cannot be read as HDF5: {e}") from e


def _intact(path: str | os.PathLike[str]) -> bool:
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
        sizes = (min(block, length - i * block) for i in range(blocks))
        wanted = (want for (want,) in struct.iter_unpack("<Q", sums))
        return all(xxhash.xxh3_64_intdigest(f.read(n)) == want for n, want in zip(sizes, wanted))
