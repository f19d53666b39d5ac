"""The seal of a finished file: checksums of its blocks behind its last byte, as src/store/seal.h describes.

HDF5 does not look behind the end of its file; `mdlm` checks a block before HDF5 reads it, so that a damaged file is
refused with a message instead of confusing the library.
"""

from __future__ import annotations

import struct

import xxhash

BLOCK = 65536
MAGIC = b"MDLMSEAL"


def seal_append(path: str) -> None:
    """Seal the file at path; OSError where it cannot be read or written."""
    sums, length = b"", 0
    with open(path, "r+b") as f:
        while block := f.read(BLOCK):
            sums += struct.pack("<Q", xxhash.xxh3_64_intdigest(block))
            length += len(block)
        foot = struct.pack("<QQ", length, BLOCK)
        f.write(sums + foot + struct.pack("<Q", xxhash.xxh3_64_intdigest(sums + foot)) + MAGIC)
