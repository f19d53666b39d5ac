"""Compressed streams and tar archives: what is inside is recognised again."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import re
import tarfile
import zlib
from collections.abc import Iterator
from typing import Any

from mdlm_data.errors import InputError
from mdlm_data.forms.stream import Peek

ZSTD_READ = 1 << 12  # bytes decompressed at a time: they may become 32,000 times as many


def is_gzip(head: bytes) -> bool:
    return head.startswith(b"\x1f\x8b\x08")


def is_bzip2(head: bytes) -> bool:
    return re.match(rb"BZh[1-9](1AY&SY|\x17rE8P\x90)", head) is not None


def is_xz(head: bytes) -> bool:
    return head.startswith(b"\xfd7zXZ\x00")


def is_zstd(head: bytes) -> bool:
    return head.startswith(b"\x28\xb5\x2f\xfd") or re.match(rb"[\x50-\x5f]\x2a\x4d\x18", head) is not None


def is_tar(head: bytes) -> bool:
    """By the checksum of the first header, which old archives without "ustar" have too."""
    try:
        tarfile.TarInfo.frombuf(head[:512], "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return False
    return True


def from_gzip(stream: Peek) -> Iterator[Peek]:
    yield _inside(stream, ".gz", gzip.GzipFile(fileobj=stream.buffered()))


def from_bzip2(stream: Peek) -> Iterator[Peek]:
    yield _inside(stream, ".bz2", bz2.BZ2File(stream.buffered()))


def from_xz(stream: Peek) -> Iterator[Peek]:
    yield _inside(stream, ".xz", lzma.LZMAFile(stream.buffered()))


def from_zstd(stream: Peek) -> Iterator[Peek]:
    yield _inside(stream, ".zst", io.BufferedReader(_Zstd(stream), 1 << 17))


def from_tar(stream: Peek) -> Iterator[Peek]:
    """The regular files of an archive, in its order."""
    try:
        with tarfile.open(fileobj=stream.buffered(), mode="r|", tarinfo=_Member) as archive:
            for member in archive:
                if member.isreg():
                    yield Peek(
                        _Checked(archive.extractfile(member), stream.name, ".tar"), f"{stream.name}: {member.name}"
                    )
    except tarfile.TarError as e:
        raise _damaged(stream.name, ".tar", e) from e


class _Member(tarfile.TarInfo):
    """An entry; a damaged header is an error, which tarfile takes for the end."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> Any:
        try:
            return super().fromtarfile(archive)
        except (tarfile.InvalidHeaderError, tarfile.TruncatedHeaderError) as e:
            raise tarfile.ReadError(str(e)) from e


class _Zstd(io.RawIOBase):
    """Frames one after the other. An input that ends within a frame is an error, which stream_reader hides."""

    def __init__(self, source: Peek) -> None:
        import zstandard

        self.make = zstandard.ZstdDecompressor(max_window_size=1 << 31).decompressobj
        self.error = zstandard.ZstdError
        self.source, self.frame, self.left, self.out = source, self.make(), b"", memoryview(b"")
        self.begun = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self.out:
            block = self.left or self.source.read(ZSTD_READ)
            if not block:
                if self.begun:
                    raise EOFError("it ends too early")
                return 0
            self.left = b""
            try:
                self.out, self.begun = memoryview(self.frame.decompress(block)), True
            except self.error as e:
                raise EOFError(str(e)) from e
            if self.frame.eof:
                self.left, self.frame, self.begun = self.frame.unused_data, self.make(), False
        n = min(len(buffer), len(self.out))
        buffer[:n], self.out = self.out[:n], self.out[n:]
        return n


class _Checked:
    """A decompressor whose errors name the file."""

    def __init__(self, raw: Any, name: str, form: str) -> None:
        self.raw, self.name, self.form = raw, name, form

    def read(self, size: int) -> bytes:
        try:
            return self.raw.read(size)
        except (EOFError, zlib.error, lzma.LZMAError, tarfile.TarError, gzip.BadGzipFile) as e:
            raise _damaged(self.name, self.form, e) from e
        except OSError as e:
            if e.errno is None:  # bz2 has no error class of its own
                raise _damaged(self.name, self.form, e) from e
            raise


def _inside(stream: Peek, form: str, raw: Any) -> Peek:
    return Peek(_Checked(raw, stream.name, form), stream.name)


def _damaged(name: str, form: str, e: Exception) -> InputError:
    return InputError(f"{name}: damaged {form} file: {e}")
