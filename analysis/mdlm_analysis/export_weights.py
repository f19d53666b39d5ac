"""A checkpoint of mdlm to the weights of other programs: a hub's files, or a Lightning checkpoint of the reference."""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

import numpy as np

import mdlm_h5
from mdlm_analysis.blocks import ENDS
from mdlm_analysis.exported import Exported
from mdlm_analysis.exported_hub import MAKER, hub
from mdlm_analysis.exported_run import lightning
from mdlm_analysis.families import ROTARY, family_of
from mdlm_analysis.pytorch_write import Lazy, pytorch_write
from mdlm_analysis.safetensors_file import safetensors_write
from mdlm_data.command import warn
from mdlm_data.errors import InputError
from mdlm_data.output import replacing
from mdlm_data.seal import sealed_open

Made = dict[str, Lazy]
IMPROBABLE = -1e4  # a logit


def export_weights(o: argparse.Namespace) -> str:
    sealed_open(o.source).close()
    c = mdlm_h5.checkpoint(o.source)
    family = family_of(c.shapes, o.source)
    described = Exported(family, c, o.source)
    described.refuse(o.target.suffix == ".ckpt")
    for text in described.foreign():
        warn(o.program, f"{o.source}: {text}")
    if o.target.suffix == ".ckpt":
        live = their_tensors(described, "params")
        pytorch_write(o.target, lightning(described, live, list(our_tensors(described, "ema").values())))
        return f"{o.target}: {family.name}, {len(live)} tensors and their moving average"
    made = their_tensors(described, "ema" if o.weights == "ema" else "params")
    file = o.target if o.target.suffix == ".safetensors" else o.target / "model.safetensors"
    beside = file.with_name("config.json")
    config_claim(beside)
    file.parent.mkdir(exist_ok=True)
    safetensors_write(file, {k: t.shape for k, t in made.items()}, (t.read() for t in made.values()))
    vocab = next(t.shape[0] for name, t in made.items() if name.endswith(family.embedding))
    with replacing(beside) as partial:
        Path(partial).write_text(json.dumps(hub(described, vocab), indent=2) + "\n")
    return f"{file}: {family.name}, {len(made)} tensors; {beside}"


def config_claim(path: Path) -> None:
    """Refuse to replace a config.json that somebody else wrote."""
    if path.exists() and f'"made_by": "{MAKER}"' not in path.read_text(errors="replace"):
        raise InputError(f"{path}: exists and is not {MAKER}'s; export to another folder")


# ---- tensors


def their_tensors(x: Exported, group: str) -> Made:
    """Tensors under their names; each value is read when it is written."""
    family = x.family
    prefix = "" if family.name == "gpt2" else "backbone."
    made: Made = {}
    for name, tensor in our_tensors(x, group).items():
        made[prefix + name] = tensor
        if re.fullmatch(family.buffers, name.replace("mamba_fwd", "mamba_rev")):
            made[prefix + name.replace("mamba_fwd", "mamba_rev")] = tensor
    if family.buffers == re.escape(ROTARY):
        K = x.width // x.heads
        made[prefix + ROTARY] = Lazy((K // 2,), lambda: (10000.0 ** (-np.arange(0, K, 2) / K)).astype("<f4"))
    if x.kind == "bd3lm":
        made |= {name: Lazy((), lambda end=end: np.array(end, "<f4")) for name, end in zip(ENDS, x.clip())}
    return made


def our_tensors(x: Exported, group: str) -> Made:
    """The parameters in the order of the public modules, transposed as there."""
    made: Made = {}
    c, family = x.checkpoint, x.family
    kept, bias = without_mask(x, group)
    for name in family.order(c.shapes):
        shape = c.shapes[name]

        def read(name: str = name) -> np.ndarray:
            return c.parameter(name, group)

        if re.fullmatch(family.transposed, name):
            made[name] = Lazy(shape[::-1], lambda read=read: read().T)
        elif name in family.vocabulary:
            value = bias if bias is not None and len(shape) == 1 else None
            made[name] = Lazy(
                (kept, *shape[1:]), lambda read=read, value=value: read()[:kept] if value is None else value
            )
        else:
            made[name] = Lazy(shape, read)
    return made


def without_mask(x: Exported, group: str) -> tuple[int, np.ndarray | None]:
    """The rows of tokens that public code gets, and a bias of the output layer in place of ours.

    GPT-2 and uniform noise have no mask. One whose output was never trained is left out where it is the last token, as
    import appends it; elsewhere uniform noise gets a bias that makes it improbable."""
    c, family = x.checkpoint, x.family
    mask, size = int(c.vocabulary.attributes["mask"]), c.shapes[family.embedding][0]
    output = family.vocabulary[1:] or family.vocabulary
    if x.kind not in ("gpt2", "duo") or any(c.parameter(name, group)[mask].any() for name in output):
        return size, None
    if mask == size - 1:
        return mask, None
    if x.kind == "gpt2":
        return size, None
    bias = c.parameter(output[-1], group).copy()
    bias[mask] = IMPROBABLE
    return size, bias
