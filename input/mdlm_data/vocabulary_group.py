"""The group /vocab of a data file or a checkpoint, as src/store/shards.h describes it."""

from __future__ import annotations

from typing import Any

import h5py
import numpy as np

from mdlm_data.specials import SPECIALS
from mdlm_data.vocabulary import Vocabulary


def write_vocabulary(file: h5py.File, v: Vocabulary) -> h5py.Group:
    group = file.create_group("vocab")
    group["bytes"] = np.frombuffer(b"".join(v.tokens), np.uint8)
    group["offsets"] = np.cumsum([0, *map(len, v.tokens)], dtype="<u8")
    if v.definition:
        group["json"] = np.frombuffer(v.definition.encode(), np.uint8)
    specials = {name: getattr(v, name) for name in SPECIALS}
    set_attributes(group, {"tokenizer": v.name, "kind": v.kind, "hash": v.hash, "size": v.size, **specials})
    if v.unknown is not None:
        set_attributes(group, {"unknown": v.unknown})
    return group


def read_tokens(group: h5py.Group) -> list[bytes]:
    """The bytes of every token."""
    raw, offsets = group["bytes"][:].tobytes(), group["offsets"][:].tolist()
    return [raw[i:j] for i, j in zip(offsets[:-1], offsets[1:])]


def read_specials(group: h5py.Group) -> dict[str, int]:
    """The ids of the special tokens (-1: the tokenizer has none)."""
    return {name: int(group.attrs[name]) for name in SPECIALS}


def set_attributes(at: h5py.Group, values: dict[str, Any]) -> None:
    for name, value in values.items():
        at.attrs[name] = np.int64(value) if isinstance(value, int) else value
