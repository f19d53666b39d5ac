"""What is no text: other formats by their first bytes, other encodings and binary data by their bytes."""

from __future__ import annotations

import codecs
import re

FOREIGN: list[tuple[bytes, str]] = [
    (b"PK\x03\x04", "a zip archive (.zip, .npz, .docx)"),
    (b"%PDF-", "a PDF"),
    (b"\x89PNG", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"GIF8", "a GIF picture"),
    (b"\x7fELF", "a program (ELF)"),
    (b"\x89HDF\r\n", "HDF5"),
    (b"SQLite format 3\0", "a SQLite database"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Rar!\x1a", "a RAR archive"),
    (b"\x04\x22\x4d\x18", "lz4-compressed data"),
    (b"\x1f\x9d", "compressed data (.Z)"),
    (b"LZIP", "lzip-compressed data"),
    (b"\xff\x06\x00\x00sNaPpY", "snappy-compressed data"),
    (b"FEA1", "Feather of version 1"),
    (b"Obj\x01", "Avro"),
    (b"ORC", "ORC"),
    (b"\xd0\xcf\x11\xe0", "an old Office document"),
    (b"{\\rtf", "RTF"),
    (b"GGUF", "GGUF model weights"),
    (b"\x80\x02", "a Python pickle"),
    (b"\x80\x04\x95", "a Python pickle"),
    (b"\x80\x05\x95", "a Python pickle"),
]
ENCODINGS = [
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
]
CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")


def foreign(head: bytes, most_invalid: float) -> str | None:
    """What a file with this beginning looks like if it is not UTF-8 text, with the remedy; None for text."""
    for magic, name in ENCODINGS:
        if head.startswith(magic):
            return _encoded(name)
    if known := format_of(head):
        return f"looks like {known}, not like text"
    nul, invalid = head.count(b"\0"), invalid_bytes(head)
    if nul + invalid <= most_invalid * len(head):
        return None
    for name, first in (("UTF-16 (little-endian)", 1), ("UTF-16 (big-endian)", 0)):
        if nul > len(head) // 5 and head[first::2].count(b"\0") > 0.9 * nul:
            return _encoded(name)
    share = f"{(nul + invalid) / len(head):.1%} of its first bytes are NUL or no UTF-8"
    if not CONTROL.search(head):
        return f"looks like text in an 8-bit encoding ({share}); convert it: iconv -f WINDOWS-1252 -t UTF-8"
    return f"looks like binary data, not like text ({share})"


def format_of(head: bytes) -> str | None:
    return next((name for magic, name in FOREIGN if head.startswith(magic)), None)


def _encoded(name: str) -> str:
    return f"looks like text in {name}; convert it: iconv -f {name.split()[0]} -t UTF-8"


def invalid_bytes(head: bytes) -> int:
    """How many bytes are no UTF-8; a character that the end cuts counts as valid."""
    found, at = 0, 0
    while True:
        try:
            codecs.utf_8_decode(head[at:], "strict", False)
            return found
        except UnicodeDecodeError as e:
            found, at = found + e.end - e.start, at + e.end
