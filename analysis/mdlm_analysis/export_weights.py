"""A checkpoint of mdlm to the weights of other programs: a hub's files, or a Lightning checkpoint of the reference."""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

import numpy as np

import mdlm_h5
from mdlm_analysis.exported import MAKER, Exported
from mdlm_analysis.families import ROTARY, Family, family_of
from mdlm_analysis.pytorch_write import Lazy, pytorch_write
from mdlm_analysis.safetensors_file import safetensors_write
from mdlm_data.command import warn
from mdlm_data.errors import InputError
from mdlm_data.output import replacing
from mdlm_data.seal import sealed_open

Made = dict[str, Lazy]


def export_weights(o: argparse.Namespace) -> str:
    sealed_open(o.source).close()
    c = mdlm_h5.checkpoint(o.source)
    family = family_of(c.shapes, o.source)
    described = Exported(family, c, o.source)
    described.refuse()
    for text in described.foreign():
        warn(o.program, f"{o.source}: {text}")
    made = their_tensors(family, c, "ema" if o.weights == "ema" else "params", described.heads)
    if o.target.suffix == ".ckpt":
        live = their_tensors(family, c, "params", described.heads)
        pytorch_write(o.target, described.lightning(live, list(our_tensors(family, c, "ema").values())))
        return f"{o.target}: {family.name}, {len(live)} tensors and their moving average"
    file = o.target if o.target.suffix == ".safetensors" else o.target / "model.safetensors"
    beside = file.with_name("config.json")
    config_claim(beside)
    file.parent.mkdir(exist_ok=True)
    safetensors_write(file, {k: t.shape for k, t in made.items()}, (t.read() for t in made.values()))
    vocab = next(t.shape[0] for name, t in made.items() if name.endswith(family.embedding))
    with replacing(beside) as partial:
        Path(partial).write_text(json.dumps(described.hub(vocab), indent=2) + "\n")
    return f"{file}: {family.name}, {len(made)} tensors; {beside}"


def config_claim(path: Path) -> None:
    """Refuse to replace a config.json that somebody else wrote."""
    if path.exists() and f'"made_by": "{MAKER}"' not in path.read_text(errors="replace"):
        raise InputError(f"{path}: exists and is not {MAKER}'s; export to another folder")


# ---- tensors


def their_tensors(family: Family, c: mdlm_h5.Checkpoint, group: str, heads: int) -> Made:
    """Tensors under their names; each value is read when it is written."""
    prefix = "" if family.name == "gpt2" else "backbone."
    made: Made = {}
    for name, tensor in our_tensors(family, c, group).items():
        made[prefix + name] = tensor
        if re.fullmatch(family.buffers, name.replace("mamba_fwd", "mamba_rev")):
            made[prefix + name.replace("mamba_fwd", "mamba_rev")] = tensor
    if family.buffers == re.escape(ROTARY):
        K = c.shapes[family.embedding][1] // heads
        made[prefix + ROTARY] = Lazy((K // 2,), lambda: (10000.0 ** (-np.arange(0, K, 2) / K)).astype("<f4"))
    return made


def our_tensors(family: Family, c: mdlm_h5.Checkpoint, group: str) -> Made:
    """The parameters in the order of the public modules, transposed as there, without the mask that import appended."""
    made: Made = {}
    mask = c.vocabulary.attributes["mask"]
    for name in family.order(c.shapes):
        shape = c.shapes[name]

        def read(name: str = name) -> np.ndarray:
            return c.parameter(name, group)

        if re.fullmatch(family.transposed, name):
            made[name] = Lazy(shape[::-1], lambda read=read: read().T)
        elif family.name == "gpt2" and name == family.embedding and mask == shape[0] - 1 and not read()[mask].any():
            made[name] = Lazy((mask, shape[1]), lambda read=read: read()[:-1])
        else:
            made[name] = Lazy(shape, read)
    return made
