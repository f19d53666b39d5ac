"""TensorBoard's event files: records of the protocol-buffer message Event, each with two checksums.

Fields and numbers: tensorflow/core/util/event.proto, framework/summary.proto and framework/tensor.proto. Records:
tensorflow/core/lib/io/record_writer.h. Only what scalars and texts need is written, in the order of field numbers.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import cache
from typing import BinaryIO

VARINT, DOUBLE, BYTES, FLOAT = 0, 1, 2, 5  # wire types
STRING, TENSOR = 7, 2  # DT_STRING, DATA_CLASS_TENSOR


def header(time: float) -> bytes:
    """The first event of a file."""
    return _double(1, time) + _bytes(3, b"brain.Event:2")


def scalar(time: float, step: int, tag: str, value: float, description: str = "") -> bytes:
    """One point; TensorBoard shows the description that the first point of a tag has."""
    about = _bytes(9, _bytes(1, _text(1, "scalars")) + _text(3, description)) if description else b""
    return _event(time, step, _text(1, tag) + _key(2, FLOAT) + struct.pack("<f", value) + about)


def text(time: float, step: int, tag: str, words: str) -> bytes:
    """A text, which TensorBoard reads as Markdown."""
    tensor = _varint(1, STRING) + _bytes(2, _bytes(2, _varint(1, 1))) + _text(8, words)
    metadata = _bytes(1, _text(1, "text")) + _varint(4, TENSOR)
    return _event(time, step, _text(1, tag) + _bytes(8, tensor) + _bytes(9, metadata))


def write(out: BinaryIO, events: Iterator[bytes]) -> None:
    for event in events:
        length = struct.pack("<Q", len(event))
        out.write(length + _sum(length) + event + _sum(event))


# ---- protocol buffers


def _event(time: float, step: int, value: bytes) -> bytes:
    return _double(1, time) + (_varint(2, step) if step else b"") + _bytes(5, _bytes(1, value))


def _number(n: int) -> bytes:
    out = bytearray()
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    return bytes([*out, n])


def _key(field: int, wire: int) -> bytes:
    return _number(field << 3 | wire)


def _varint(field: int, n: int) -> bytes:
    return _key(field, VARINT) + _number(n)


def _double(field: int, x: float) -> bytes:
    return _key(field, DOUBLE) + struct.pack("<d", x)


def _bytes(field: int, data: bytes) -> bytes:
    return _key(field, BYTES) + _number(len(data)) + data


def _text(field: int, words: str) -> bytes:
    return _bytes(field, words.encode("utf-8", "replace"))


# ---- checksums


def _sum(data: bytes) -> bytes:
    """CRC-32C, rotated and shifted as the format asks."""
    crc = crc32c(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def crc32c(data: bytes) -> int:
    table, crc = _table(), 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ table[(crc ^ byte) & 255]
    return crc ^ 0xFFFFFFFF


@cache
def _table() -> list[int]:
    table = []
    for n in range(256):
        for _ in range(8):
            n = n >> 1 ^ (0x82F63B78 if n & 1 else 0)
        table.append(n)
    return table
