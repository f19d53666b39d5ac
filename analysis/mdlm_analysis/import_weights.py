"""Weights of other programs to a checkpoint of mdlm."""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import h5py
import numpy as np
import xxhash

from mdlm_analysis.families import FAMILIES, Family, check, family_of, sizes_of
from mdlm_analysis.pytorch_file import pytorch_open
from mdlm_analysis.safetensors_file import safetensors_open
from mdlm_analysis.shapes import Sizes
from mdlm_analysis.tensors import Tensor
from mdlm_data.errors import InputError
from mdlm_data.output import replacing
from mdlm_data.seal import seal_append
from mdlm_data.vocabularies import make_vocabulary
from mdlm_data.vocabulary import Vocabulary
from mdlm_data.vocabulary_group import set_attributes, write_vocabulary


@dataclass
class Weights:
    """The live weights in a file and, in a Lightning checkpoint, their moving average."""

    live: dict[str, Tensor]
    average: list[Tensor] | None = None  # in the order of `live` without buffers
    step: int = 0


def weights_open(path: Path) -> Weights:
    if path.suffix not in (".ckpt", ".pt", ".pth", ".bin"):
        return Weights(safetensors_open(path))
    state = pytorch_open(path)
    if not isinstance(state, dict):
        raise InputError(f"{path}: holds no dictionary of weights")
    ema = state.get("ema")
    average = ema.get("shadow_params") if isinstance(ema, dict) else None
    step = state.get("global_step", 0)
    live = state.get("state_dict", state)
    tensors = {k: v for k, v in live.items() if hasattr(v, "read")}
    return Weights(tensors, list(average) if average else None, step if isinstance(step, int) else 0)


def without_prefix(live: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors by their names without the prefix; if the file uses a prefix, only the tensors that have it."""
    for prefix in {f.prefix for f in FAMILIES}:
        if any(name.startswith(prefix + f.embedding) for name in live for f in FAMILIES if f.prefix == prefix):
            return {name.removeprefix(prefix): t for name, t in live.items() if name.startswith(prefix)}
    return live


def our_value(family: Family, name: str, value: np.ndarray, vocabulary: Vocabulary) -> np.ndarray:
    if re.fullmatch(family.transposed, name):
        value = value.T
    if name == family.embedding and len(value) < vocabulary.size:  # a row for the mask, which the weights lack
        value = np.concatenate([value, np.zeros((1, value.shape[1]), "<f4")])
    return np.ascontiguousarray(value, "<f4")


def deck(family: Family, s: Sizes, o: argparse.Namespace) -> str:
    heads = o.heads or max(1, s.width // 64)
    if family.name != "dimamba" and s.width % (2 * heads):
        raise InputError(f"--heads {heads}: a width of {s.width} does not split into heads of even width")
    if family.name != "dimamba" and s.mlp % s.width:
        raise InputError(f"an MLP width of {s.mlp} is not a multiple of the width {s.width}")
    objective = o.objective or family.objectives[0]
    if objective not in family.objectives:
        raise InputError(f"--objective {objective}: {family.name} is trained with {', '.join(family.objectives)}")
    if o.time_conditioning and not family.timed:
        raise InputError(f"--time-conditioning: {family.name} has no time input")
    ratio = s.mlp // s.width if family.name != "dimamba" else 4
    return (
        f'model: {{ name = "{family.name}"; width = {s.width}; blocks = {s.blocks}; heads = {heads}; '
        f"cond_dim = {s.cond}; mlp_ratio = {ratio}; time_conditioning = {str(o.time_conditioning).lower()}; }};\n"
        f'diffusion: {{ objective = "{objective}"; }};\n'
    )


def import_weights(o: argparse.Namespace) -> str:
    weights = weights_open(o.source)
    found = without_prefix(weights.live)
    family = family_of(found, o.source)
    kept = {name: t for name, t in found.items() if not re.fullmatch(family.buffers, name)}
    check_tied(family, found, o.source)
    vocabulary = make_vocabulary(o.tokenizer)
    s = sizes_of(family, kept, o.source, o.length)
    shapes = {n: t.shape[::-1] if re.fullmatch(family.transposed, n) else t.shape for n, t in kept.items()}
    check(shapes, family.shapes(s), o.source)
    appended = family.name == "gpt2" and vocabulary.mask == vocabulary.size - 1
    if s.vocab != vocabulary.size and not (appended and s.vocab == vocabulary.size - 1):
        raise InputError(
            f"{o.source}: weights of {s.vocab} tokens, but the vocabulary {vocabulary.name} has {vocabulary.size}"
        )
    text = deck(family, s, o)
    average = averages(weights, kept, o.source)
    with replacing(o.target) as partial:
        with h5py.File(partial, "w", locking=False) as f:
            state_write(f, o, text, s.length, weights.step, vocabulary)
            group_write(f.create_group("params"), kept, family, vocabulary)
            if average is None:
                f["ema"] = f["params"]  # a hard link to the same data sets
            else:
                group_write(f.create_group("ema"), average, family, vocabulary)
        seal_append(partial)
    sizes = f"{s.blocks} blocks of width {s.width}, V = {vocabulary.size}, L = {s.length}"
    return f"{o.target}: {family.name}, {sizes}; its deck:\n{text}".rstrip()


def check_tied(family: Family, found: dict[str, Tensor], path: Path) -> None:
    """The two directions of dimamba share their projections."""
    for name, tensor in found.items():
        if family.name == "dimamba" and re.fullmatch(family.buffers, name):
            twin = found.get(name.replace("mamba_rev", "mamba_fwd"))
            if twin is None or not np.array_equal(twin.read(), tensor.read()):
                raise InputError(f"{path}: {name} differs from mamba_fwd: the directions are not tied")


def averages(weights: Weights, kept: dict[str, Tensor], path: Path) -> dict[str, Tensor] | None:
    """The moving average by name: the file lists it in the order of the parameters, without names."""
    if weights.average is None:
        return None
    average = dict(zip(kept, weights.average))
    shapes = [t.shape for t in kept.values()]
    if [getattr(t, "shape", None) for t in weights.average] != shapes:
        raise InputError(f"{path}: the shapes of its moving average are not those of the parameters")
    return average


def group_write(group: h5py.Group, tensors: dict[str, Tensor], family: Family, vocabulary: Vocabulary) -> None:
    for name, tensor in tensors.items():
        value = our_value(family, name, tensor.read(), vocabulary)
        group.create_dataset(name, data=value)
        group[name].attrs["xxh3"] = xxhash.xxh3_64_hexdigest(value.data)


def state_write(f: h5py.File, o: argparse.Namespace, text: str, length: int, step: int, v: Vocabulary) -> None:
    numbers = {"step": step, "tokens": 0, "masked_tokens": 0, "seed": 0, "length": length, "wrap": 0}
    words = {"deck": text, "git": "imported", "data_digest": "none", "detokenizer": "none", "split": "none"}
    now = datetime.now(UTC).isoformat(timespec="seconds")
    set_attributes(f, {"format": "mdlm-checkpoint", "format_version": 1, **numbers, **words})
    set_attributes(f, {"source": o.source.name[:255], "valid_nll": float("nan"), "saved": now})
    group = write_vocabulary(f, v)
    for name in ("bytes", "offsets"):
        group[name].attrs["xxh3"] = xxhash.xxh3_64_hexdigest(group[name][:].tobytes())
