#!/usr/bin/env python3
"""spoil.py DATA CHECKPOINT FOLDER — makes the damaged and mismatched files that test_bad_input.sh feeds to mdlm.

data_X.h5 and ckpt_X.h5 in FOLDER are copies of DATA and CHECKPOINT with one error each: see the functions below.
flips/data_NN.h5 and flips/ckpt_NN.h5 have one flipped bit each, at a random position drawn with a fixed seed."""

from __future__ import annotations

import os
import random
import shutil
import sys
from collections.abc import Callable

import h5py
import numpy as np
import xxhash

FLIPS = 12  # files of each kind


def main() -> None:
    data, checkpoint, folder = sys.argv[1:]
    os.makedirs(f"{folder}/flips")
    for kind, source, edits in (("data", data, DATA), ("ckpt", checkpoint, CHECKPOINT)):
        for name, edit in edits.items():
            path = f"{folder}/{kind}_{name}.h5"
            shutil.copy(source, path)
            with h5py.File(path, "r+") as f:
                edit(f)
        size = os.path.getsize(source)
        for name, part in (("head", 0.001), ("half", 0.5), ("tail", 0.999)):
            path = f"{folder}/{kind}_{name}.h5"
            shutil.copy(source, path)
            os.truncate(path, int(size * part))
        flip(source, f"{folder}/{kind}_flip.h5", inside(source, "tokens" if kind == "data" else "ema"))
        for i, place in enumerate(places(size)):
            flip(source, f"{folder}/flips/{kind}_{i:02}.h5", place)
    with open(f"{folder}/empty.h5", "w"):
        pass
    with open(f"{folder}/text.h5", "w") as t:
        t.write("This is no HDF5 file.\n" * 100)
    with h5py.File(f"{folder}/foreign.h5", "w") as f:
        f["tokens"] = np.zeros((4, 32), "u2")


def places(size: int) -> list[int]:
    """Half of the flips are anywhere, half in the first 8 KiB, which hold the structure of the file."""
    r = random.Random(1)
    return [r.randrange(min(size, 8192) if i % 2 else size) for i in range(FLIPS)]


def inside(path: str, name: str) -> int:
    """The offset of a byte in the middle of the data set's values, or of the group's first data set."""
    with h5py.File(path, "r") as f:
        d = f[name] if isinstance(f[name], h5py.Dataset) else next(iter(f[name].values()))
        if d.chunks is None:
            return int(d.id.get_offset()) + d.nbytes // 2
        chunk = d.id.get_chunk_info(0)
        return int(chunk.byte_offset + chunk.size // 3)


def flip(source: str, path: str, place: int) -> None:
    with open(source, "rb") as f:
        content = bytearray(f.read())
    content[place] ^= 1 << place % 8
    with open(path, "wb") as f:
        f.write(content)


def put(f: h5py.File, name: str, values: np.ndarray) -> None:
    """Replace a data set, whatever its shape was; keep its attributes."""
    kept = dict(f[name].attrs)
    del f[name]
    f[name] = values
    f[name].attrs.update(kept)


def put_sealed(f: h5py.File, name: str, values: np.ndarray) -> None:
    """The same with a valid checksum."""
    put(f, name, values)
    f[name].attrs["xxh3"] = xxhash.xxh3_64_hexdigest(values.tobytes())


def token(f: h5py.File) -> None:
    """Every row has an id beyond the vocabulary, and the last row one beyond 2^15."""
    f["tokens"][:, 5] = f["vocab"].attrs["size"]
    f["tokens"][-1, 7] = 65535


def weight(f: h5py.File) -> h5py.Dataset:
    return f["ema/vocab_embed.embedding"]


def not_a_number(f: h5py.File) -> None:
    for group in ("params", "ema"):
        name = f"{group}/vocab_embed.embedding"
        put_sealed(f, name, np.full_like(f[name][()], np.nan))


def ones(f: h5py.File) -> None:
    """Whole, and useless for networks that predict the next token."""
    f["lengths"][:] = 1
    f.attrs["digest"] = xxhash.xxh3_128_hexdigest(
        f["tokens"][()].astype("<u4").tobytes() + f["lengths"][()].astype("<u4").tobytes()
    )


Edits = dict[str, Callable[[h5py.File], object]]

DATA: Edits = {
    "token": token,
    "long": lambda f: f["lengths"].write_direct(np.full_like(f["lengths"][()], f["tokens"].shape[1] + 1)),
    "short": lambda f: f["lengths"].write_direct(np.zeros_like(f["lengths"][()])),
    "ones": ones,
    "norows": lambda f: [put(f, n, f[n][:0]) for n in ("tokens", "lengths")],
    "fewlengths": lambda f: put(f, "lengths", f["lengths"][:-1]),
    "nolengths": lambda f: f.__delitem__("lengths"),
    "flat": lambda f: put(f, "tokens", f["tokens"][()].ravel()),
    "float": lambda f: put(f, "tokens", f["tokens"][()].astype("f4")),
    "changed": lambda f: f["tokens"].__setitem__((3, 3), f["tokens"][3, 3] ^ 1),
    "newer": lambda f: f.attrs.modify("format_version", 99),
    "nodigest": lambda f: f.attrs.__delitem__("digest"),
}
CHECKPOINT: Edits = {
    "shape": lambda f: put_sealed(f, weight(f).name, weight(f)[:, :-1].copy()),
    "missing": lambda f: f.__delitem__(weight(f).name),
    "surplus": lambda f: f["ema"].create_dataset("blocks.9.attn_out.weight", data=np.zeros((2, 2), "f4")),
    "changed": lambda f: weight(f).__setitem__((1, 1), 3.0),
    "nan": not_a_number,
    "newer": lambda f: f.attrs.modify("format_version", 99),
    "deck": lambda f: f.attrs.__setitem__("deck", f.attrs["deck"].replace("width = 32", "width = 64")),
}

if __name__ == "__main__":
    main()
