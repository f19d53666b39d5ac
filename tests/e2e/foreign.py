"""foreign.py — makes HDF5 files as other programs, or damage, leave them: for foreign_run.py.

They are copies, without a seal, of good files of ours, KIND.h5 for every kind in KINDS:
  structured  with one item that is wrong: a rank, a type, a size, a link, a filter, a value; -1: every case there is
  random      with random bytes in the structure of the file, alternately in HDF5's 1.8 format and in its first one
The class of a file is "must" if a reader that needs the item must refuse it, or "any" if it only must not crash or hang.
The same seed makes the same files."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import h5py
import numpy as np
import xxhash

KINDS = ("data", "checkpoint", "metrics", "samples", "eval", "profile", "sweep", "prompts", "requests", "logits")
FOOT = 32  # bytes of a seal's end: src/store/seal.c
HUGE = 2**60


def unsealed(source: str, path: str) -> None:
    """A copy without its seal, as h5repack makes it."""
    with open(source, "rb") as f:
        raw = f.read()
    if raw[-8:] == b"MDLMSEAL":
        raw = raw[: int.from_bytes(raw[-FOOT : 8 - FOOT], "little")]
    with open(path, "wb") as f:
        f.write(raw)


def first_format(source: str, path: str) -> None:
    """A copy in HDF5's first format, whose structure has no checksums."""
    with h5py.File(source, "r") as a, h5py.File(path, "w", libver=("earliest", "v108")) as b:
        for name in a:
            a.copy(name, b)
        for name, value in a.attrs.items():
            b.attrs.create(name, value)


# ---- wrong data sets: the data set is gone when one of these is called


def group(f: h5py.File, name: str, was: h5py.Dataset) -> None:
    f.create_group(name)


def deeper(f: h5py.File, name: str, was: Any) -> None:
    f[name] = np.broadcast_to(was[..., None], (*was.shape, 300))


def deepest(f: h5py.File, name: str, was: Any) -> None:
    f.create_dataset(name, (1,) * 20, was.dtype, data=np.zeros((1,) * 20, was.dtype))


def scalar(f: h5py.File, name: str, was: Any) -> None:
    f[name] = was.ravel()[0] if was.size else np.zeros((), was.dtype)


def strings(f: h5py.File, name: str, was: Any) -> None:
    f.create_dataset(name, was.shape, h5py.string_dtype(), data=np.full(was.shape, "1", object))


def fixed_strings(f: h5py.File, name: str, was: Any) -> None:
    f[name] = np.full(was.shape, b"1", "S9")


def records(f: h5py.File, name: str, was: Any) -> None:
    f[name] = np.zeros(was.shape, [("a", "i4"), ("b", "f8")])


def lists(f: h5py.File, name: str, was: Any) -> None:
    d = f.create_dataset(name, was.shape, h5py.vlen_dtype(np.dtype("i4")))
    for at in np.ndindex(*was.shape[:1]):
        d[at] = np.arange(5, dtype="i4")


def empty(f: h5py.File, name: str, was: Any) -> None:
    f[name] = h5py.Empty(was.dtype)


def no_rows(f: h5py.File, name: str, was: Any) -> None:
    f[name] = was[:0] if was.ndim else was


def unwritten(f: h5py.File, name: str, was: Any) -> None:
    f.create_dataset(name, was.shape, was.dtype)


def unwritten_chunks(f: h5py.File, name: str, was: Any) -> None:
    f.create_dataset(name, was.shape, was.dtype, chunks=tuple(max(1, n // 2) for n in was.shape))


def huge(f: h5py.File, name: str, was: Any) -> None:
    shape = (HUGE, *was.shape[1:])
    f.create_dataset(name, shape, was.dtype, chunks=(16, *was.shape[1:]), maxshape=(None, *was.shape[1:]))


def huge_with_rows(f: h5py.File, name: str, was: Any) -> None:
    d = f.create_dataset(name, (2**40, *was.shape[1:]), was.dtype, chunks=(16, *was.shape[1:]))
    d[:16] = np.zeros((16, *was.shape[1:]), was.dtype)


def huge_contiguous(f: h5py.File, name: str, was: Any) -> None:
    f.create_dataset(name, (2**40, *was.shape[1:]), was.dtype)


def wide(f: h5py.File, name: str, was: Any) -> None:
    f.create_dataset(name, (*was.shape[:-1], HUGE), was.dtype, chunks=(1,) * was.ndim)


def external_link(f: h5py.File, name: str, was: Any) -> None:
    f[name] = h5py.ExternalLink("pipe", name)


def external_file(f: h5py.File, name: str, was: Any) -> None:
    f[name] = h5py.ExternalLink("other.h5", name)


def external_raw(f: h5py.File, name: str, was: Any) -> None:
    f.create_dataset(name, was.shape, was.dtype, external=[("pipe", 0, h5py.h5f.UNLIMITED)])


def soft_loop(f: h5py.File, name: str, was: Any) -> None:
    f[name] = h5py.SoftLink(name)


def soft_nowhere(f: h5py.File, name: str, was: Any) -> None:
    f[name] = h5py.SoftLink("/nowhere/at/all")


def foreign_filter(f: h5py.File, name: str, was: Any) -> None:
    f.create_dataset(name, data=was, chunks=was.shape, compression="lzf")


def virtual(f: h5py.File, name: str, was: Any) -> None:
    layout = h5py.VirtualLayout(was.shape, was.dtype)
    layout[...] = h5py.VirtualSource("pipe", name, shape=was.shape)
    f.create_virtual_dataset(name, layout)


SETS = (group, deeper, deepest, scalar, strings, fixed_strings, records, lists, empty, no_rows, unwritten,
        unwritten_chunks, huge, huge_with_rows, huge_contiguous, wide, external_link, external_file, external_raw,
        soft_loop, soft_nowhere, foreign_filter, virtual)  # fmt: skip
TEXT_SETS = (group, scalar, records, external_link, soft_loop)

# ---- wrong attributes


def three(o: Any, name: str, was: Any) -> None:
    o.attrs[name] = np.array([1, 2, 3])


def nothing(o: Any, name: str, was: Any) -> None:
    o.attrs[name] = h5py.Empty("i8")


def other_type(o: Any, name: str, was: Any) -> None:
    if isinstance(was, str):
        o.attrs[name] = 7
    else:
        o.attrs[name] = "seven"


def record(o: Any, name: str, was: Any) -> None:
    o.attrs[name] = np.zeros((), [("a", "i4")])


def long_text(o: Any, name: str, was: Any) -> None:
    o.attrs[name] = np.bytes_(b"x" * 60000)


def negative(o: Any, name: str, was: Any) -> None:
    o.attrs[name] = -was if was > 1 else type(was)(-9)


def enormous(o: Any, name: str, was: Any) -> None:
    o.attrs[name] = type(was)(2**62)


def large(o: Any, name: str, was: Any) -> None:
    o.attrs[name] = type(was)(100000)


ATTRIBUTES = (three, nothing, other_type, record)
NUMBERS = (negative, enormous, large)


def items(f: h5py.File) -> Iterator[tuple[str, Any]]:
    found: list[str] = []
    f.visit(found.append)
    yield from ((name, f[name]) for name in found)


def replace(edit: Callable[..., None], name: str) -> Callable[[h5py.File], None]:
    def run(f: h5py.File) -> None:
        was = f[name][()]
        text = f[name].dtype.kind == "O"
        attributes = dict(f[name].attrs)
        del f[name]
        edit(f, name, np.full(was.shape, "1", object) if text else was)
        if isinstance(f.get(name, getlink=True), h5py.HardLink):
            for key, value in attributes.items():
                f[name].attrs[key] = value

    return run


def change(edit: Callable[..., None], name: str, key: str) -> Callable[[h5py.File], None]:
    def run(f: h5py.File) -> None:
        o = f[name] if name else f
        was = o.attrs[key]
        del o.attrs[key]
        edit(o, key, was)

    return run


def remove(name: str, key: str = "") -> Callable[[h5py.File], None]:
    def run(f: h5py.File) -> None:
        if key:
            del (f[name] if name else f).attrs[key]
        else:
            del f[name]

    return run


Case = tuple[str, str, str, Callable[[h5py.File], None]]  # kind, class, item and what was done, how


def structured(sources: str, kind: str) -> Iterator[Case]:
    with h5py.File(f"{sources}/{kind}.h5", "r") as f:
        owners = [("", f), *items(f)]
        for name, o in owners:
            if name:
                yield kind, "any", f"{name} removed", remove(name)
            if isinstance(o, h5py.Dataset):
                for edit in TEXT_SETS if o.dtype.kind == "O" else SETS:
                    if not o.shape and edit is not group:
                        continue
                    yield kind, "must", f"{name} {edit.__name__}", replace(edit, name)
            for key, value in o.attrs.items():
                yield kind, "any", f"{name}@{key} removed", remove(name, key)
                for edit in ATTRIBUTES:
                    yield kind, "must", f"{name}@{key} {edit.__name__}", change(edit, name, key)
                if isinstance(value, str):
                    yield kind, "any", f"{name}@{key} long_text", change(long_text, name, key)
                else:
                    for edit in NUMBERS:
                        yield kind, "any", f"{name}@{key} {edit.__name__}", change(edit, name, key)


# ---- random damage


def raw_data(path: str) -> list[tuple[int, int]]:
    """Where the values of the data sets are."""
    parts: list[tuple[int, int]] = []
    with h5py.File(path, "r") as f:
        for _, o in items(f):
            if not isinstance(o, h5py.Dataset):
                continue
            if o.chunks:
                chunks = (o.id.get_chunk_info(i) for i in range(o.id.get_num_chunks()))
                parts += [(c.byte_offset, c.byte_offset + c.size) for c in chunks]
            elif o.id.get_offset() is not None:
                parts.append((o.id.get_offset(), o.id.get_offset() + o.nbytes))
    return sorted(parts)


def structure(path: str) -> list[int]:
    """The other bytes, those that are not zero."""
    with open(path, "rb") as f:
        raw = f.read()
    values = np.zeros(len(raw), bool)
    for first, end in raw_data(path):
        values[first:end] = True
    return [int(i) for i in np.flatnonzero(~values & (np.frombuffer(raw, "u1") != 0))]


def damage(source: str, path: str, places: list[int], r: random.Random) -> str:
    shutil.copy(source, path)
    done = []
    with open(path, "r+b") as f:
        for _ in range(r.choice((1, 1, 1, 2, 4))):
            at = r.choice(places)
            f.seek(at)
            was = f.read(1)[0]
            now = r.choice((0, 1, 0x7F, 0x80, 0xFF, was ^ (1 << r.randrange(8)), (was + 1) % 256, r.randrange(256)))
            f.seek(at)
            f.write(bytes([now]))
            done.append(f"{at}:{now}")
    return "bytes " + ",".join(done)


def labelled(path: str) -> None:
    """Give the rows of a data file classes, and the digest that covers them."""
    with h5py.File(path, "r+") as f:
        n = len(f["lengths"])
        f["label"] = np.arange(n, dtype="i4") % 4 - 1
        f["label"].attrs["classes"], f["label"].attrs["names"] = 3, "one\ntwo\nthree"
        digest = xxhash.xxh3_128()
        for name in ("tokens", "lengths", "label"):
            digest.update(np.ascontiguousarray(f[name][()].astype("<u4")).data)
        f.attrs["digest"] = digest.hexdigest()


def sources(folder: str, base: str) -> None:
    """In `base` both forms of the good files in `folder`, and what the links of the wrong ones lead to."""
    os.makedirs(base)
    os.mkfifo(f"{base}/pipe")
    for kind in KINDS:
        unsealed(f"{folder}/{kind}.h5", f"{base}/{kind}.h5")
        if kind == "data":
            labelled(f"{base}/{kind}.h5")
        first_format(f"{base}/{kind}.h5", f"{base}/{kind}_first.h5")
    shutil.copy(f"{base}/data.h5", f"{base}/other.h5")


def make(
    base: str, kinds: list[str], n_structured: int, n_random: int, seed: int
) -> Iterator[tuple[str, str, str, str]]:
    """Make one file after the other in `base`: its kind, class, what was done and path."""
    r = random.Random(seed)
    cases = []
    for kind in kinds:
        every = list(structured(base, kind))
        cases += r.sample(every, min(n_structured // len(kinds), len(every))) if n_structured >= 0 else every
    for n, (kind, must, what, edit) in enumerate(cases):
        path = f"{base}/s{n:05}.h5"
        shutil.copy(f"{base}/{kind}.h5", path)
        with h5py.File(path, "r+") as f:
            edit(f)
        yield kind, must, what, path
    places = {f"{kind}{end}": structure(f"{base}/{kind}{end}.h5") for kind in kinds for end in ("", "_first")}
    for n in range(n_random):
        kind = kinds[n // 2 % len(kinds)]
        source = kind + ("_first" if n % 2 else "")
        path = f"{base}/r{n:05}.h5"
        yield kind, "any", damage(f"{base}/{source}.h5", path, places[source], r), path
