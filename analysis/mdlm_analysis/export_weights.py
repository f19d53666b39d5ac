"""A checkpoint of mdlm to the weights of other programs."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable

import h5py
import numpy as np

from mdlm_analysis.families import ROTARY, Family, family_of
from mdlm_analysis.safetensors_file import safetensors_write
from mdlm_data.errors import InputError
from mdlm_data.seal import sealed_open

Made = dict[str, tuple[tuple[int, ...], Callable[[], np.ndarray]]]


def export_weights(o: argparse.Namespace) -> str:
    with sealed_open(o.source) as f:
        if f.attrs.get("format") != "mdlm-checkpoint":
            raise InputError(f"{o.source}: not a checkpoint")
        group = f["ema" if o.weights == "ema" else "params"]
        shapes = {name: tuple(group[name].shape) for name in group}
        family = family_of(shapes, o.source)
        heads = re.search(r"heads = (\d+)", str(f.attrs["deck"]))
        made = their_tensors(family, group, int(heads[1]) if heads else 1, int(f["vocab"].attrs["mask"]))
        safetensors_write(o.target, {k: v[0] for k, v in made.items()}, (v[1]() for v in made.values()))
    return f"{o.target}: {family.name}, {len(made)} tensors"


def their_tensors(family: Family, group: h5py.Group, heads: int, mask: int) -> Made:
    """Shapes and values under their names; each value is read when it is written."""
    prefix = family.prefix if family.name != "gpt2" else ""
    made: Made = {}
    for name, data in group.items():
        shape, read = tuple(data.shape), data.__getitem__
        if re.fullmatch(family.transposed, name):
            made[prefix + name] = (shape[::-1], lambda read=read: read(()).T)
        elif family.name == "gpt2" and name == family.embedding and mask == shape[0] - 1 and not data[mask].any():
            without_mask = (mask, shape[1])  # import appended the mask
            made[prefix + name] = (without_mask, lambda read=read: read(())[:-1])
        else:
            made[prefix + name] = (shape, lambda read=read: read(()))
        if re.fullmatch(family.buffers, name.replace("mamba_fwd", "mamba_rev")):
            made[prefix + name.replace("mamba_fwd", "mamba_rev")] = made[prefix + name]
    if family.buffers == re.escape(ROTARY):
        K = group[family.embedding].shape[1] // heads
        made[prefix + ROTARY] = ((K // 2,), lambda: (10000.0 ** (-np.arange(0, K, 2) / K)).astype("<f4"))
    return made
