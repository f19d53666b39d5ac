#!/usr/bin/env python3
"""convert.py — weights of other programs → checkpoints of `mdlm`, and back.

GPT-2 as Hugging Face has it (safetensors), and the MDLM reference's networks: those of its hub (safetensors) and its
Lightning .ckpt. The names of parameters are the same on both sides but for prefixes, tied copies and buffers.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "input"))
try:
    import h5py
    import numpy as np
    import xxhash

    from datafile import set_attributes, write_vocabulary
    from errors import InputError
    from networks import FAMILIES, ROTARY, Family, Shapes, Sizes, check, family_of, sizes_of
    from options import Parser, check_paths, require
    from seal import seal_append, sealed_open
    from tensorfiles import FileError, Tensor, pytorch_open, safetensors_open, safetensors_write
    from vocabularies import Vocabulary, make_vocabulary
except ModuleNotFoundError as missing:
    sys.exit(
        f"convert.py: error: Python package {missing.name!r} is missing: run `make setup` and use .venv/bin/python, "
        "or pip install -r input/requirements.txt"
    )

NOTES = """\
examples:
  convert.py import gpt2-large/model.safetensors gpt2_large.h5 --tokenizer gpt2:vocab.json,merges.txt
  mdlm score deck.cfg score.checkpoint=gpt2_large.h5
  convert.py import mdlm-owt/model.safetensors mdlm_owt.h5 --tokenizer gpt2:vocab.json,merges.txt --length 1024
  convert.py import best.ckpt sedd.h5 --tokenizer data:train.h5 --objective sedd --time-conditioning --length 128
  convert.py export runs/demo/best.h5 demo.safetensors

Heads are not told by the weights: 64 units each unless --heads says so. Exit status: 0, 2 for an error."""

# ---- import


@dataclass
class Weights:
    """What a file holds: live weights and, of a Lightning checkpoint, their moving average."""

    live: dict[str, Tensor]
    average: list[Tensor] | None = None  # in the order of `live` without buffers
    step: int = 0


def weights_open(path: Path) -> Weights:
    if path.suffix not in (".ckpt", ".pt", ".pth", ".bin"):
        return Weights(safetensors_open(path))
    state = pytorch_open(path)
    if not isinstance(state, dict):
        raise FileError(f"{path}: holds no dictionary of weights")
    ema = state.get("ema")
    average = ema.get("shadow_params") if isinstance(ema, dict) else None
    step = state.get("global_step", 0)
    live = state.get("state_dict", state)
    tensors = {k: v for k, v in live.items() if hasattr(v, "read")}
    return Weights(tensors, list(average) if average else None, step if isinstance(step, int) else 0)


def bare(live: dict[str, Tensor]) -> dict[str, Tensor]:
    """Names without the prefix of the file; with one, only those that have it."""
    for prefix in {f.prefix for f in FAMILIES}:
        if any(name.startswith(prefix + f.embedding) for name in live for f in FAMILIES if f.prefix == prefix):
            return {name.removeprefix(prefix): t for name, t in live.items() if name.startswith(prefix)}
    return live


def ours(family: Family, name: str, value: np.ndarray, vocabulary: Vocabulary) -> np.ndarray:
    if re.fullmatch(family.turned, name):
        value = value.T
    if name == family.embedding and len(value) < vocabulary.size:  # the mask, which text never has
        value = np.concatenate([value, np.zeros((1, value.shape[1]), "<f4")])
    return np.ascontiguousarray(value, "<f4")


def deck(family: Family, s: Sizes, o: argparse.Namespace) -> str:
    heads = o.heads or max(1, s.width // 64)
    if family.name != "dimamba" and s.width % (2 * heads):
        raise FileError(f"--heads {heads}: {s.width} units do not split into heads of even width")
    if family.name != "dimamba" and s.mlp % s.width:
        raise FileError(f"an MLP of {s.mlp} units is no multiple of the width {s.width}")
    objective = o.objective or family.objectives[0]
    if objective not in family.objectives:
        raise FileError(f"--objective {objective}: {family.name} is trained with {', '.join(family.objectives)}")
    if o.time_conditioning and not family.timed:
        raise FileError(f"--time-conditioning: {family.name} knows no time")
    ratio = s.mlp // s.width if family.name != "dimamba" else 4
    return (
        f'model: {{ name = "{family.name}"; width = {s.width}; blocks = {s.blocks}; heads = {heads}; '
        f"cond_dim = {s.cond}; mlp_ratio = {ratio}; time_conditioning = {str(o.time_conditioning).lower()}; }};\n"
        f'diffusion: {{ objective = "{objective}"; }};\n'
    )


def import_weights(o: argparse.Namespace) -> str:
    weights = weights_open(o.source)
    found = bare(weights.live)
    family = family_of(found, o.source)
    kept = {name: t for name, t in found.items() if not re.fullmatch(family.buffers, name)}
    check_tied(family, found, o.source)
    vocabulary = make_vocabulary(o.tokenizer)
    s = sizes_of(family, kept, o.source, o.length)
    check_turned(family, kept, family.shapes(s), o.source)
    appended = family.name == "gpt2" and vocabulary.mask == vocabulary.size - 1
    if s.vocab != vocabulary.size and not (appended and s.vocab == vocabulary.size - 1):
        raise FileError(f"{o.source}: {s.vocab} tokens, the vocabulary {vocabulary.name} has {vocabulary.size}")
    text = deck(family, s, o)
    average = averages(weights, kept, o.source)
    partial = Path(f"{o.target}.tmp")
    try:
        with h5py.File(partial, "w") as f:
            state_write(f, o, text, s.length, weights.step, vocabulary)
            group_write(f.create_group("params"), kept, family, vocabulary)
            if average is None:
                f["ema"] = f["params"]  # a second name for the same data sets
            else:
                group_write(f.create_group("ema"), average, family, vocabulary)
        seal_append(str(partial))
        with open(partial, "rb") as done:
            os.fsync(done.fileno())
        os.replace(partial, o.target)
    finally:
        partial.unlink(missing_ok=True)
    sizes = f"{s.blocks} blocks of width {s.width}, V = {vocabulary.size}, L = {s.length}"
    return f"{o.target}: {family.name}, {sizes}; its deck:\n{text}".rstrip()


def check_tied(family: Family, found: dict[str, Tensor], path: Path) -> None:
    """The two directions of dimamba share their projections."""
    for name, tensor in found.items():
        if family.name == "dimamba" and re.fullmatch(family.buffers, name):
            twin = found.get(name.replace("mamba_rev", "mamba_fwd"))
            if twin is None or not np.array_equal(twin.read(), tensor.read()):
                raise FileError(f"{path}: {name} is not that of mamba_fwd: these directions are not tied")


def check_turned(family: Family, kept: dict[str, Tensor], want: Shapes, path: Path) -> None:
    check({n: t.shape[::-1] if re.fullmatch(family.turned, n) else t.shape for n, t in kept.items()}, want, path)


def averages(weights: Weights, kept: dict[str, Tensor], path: Path) -> dict[str, Tensor] | None:
    """The moving average has the parameters in their order, without names."""
    if weights.average is None:
        return None
    average = dict(zip(kept, weights.average))
    shapes = [t.shape for t in kept.values()]
    if [getattr(t, "shape", None) for t in weights.average] != shapes:
        raise FileError(f"{path}: its moving average does not have the parameters' shapes")
    return average


def group_write(group: h5py.Group, tensors: dict[str, Tensor], family: Family, vocabulary: Vocabulary) -> None:
    for name, tensor in tensors.items():
        value = ours(family, name, tensor.read(), vocabulary)
        group.create_dataset(name, data=value)
        group[name].attrs["xxh3"] = xxhash.xxh3_64_hexdigest(value.data)


def state_write(f: h5py.File, o: argparse.Namespace, text: str, length: int, step: int, v: Vocabulary) -> None:
    numbers = {"step": step, "tokens": 0, "masked_tokens": 0, "seed": 0, "length": length, "wrap": 0}
    words = {"deck": text, "git": "imported", "data_digest": "none", "detokenizer": "none", "split": "none"}
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    set_attributes(f, {"format": "mdlm-checkpoint", "format_version": 1, **numbers, **words})
    set_attributes(f, {"source": o.source.name[:255], "valid_nll": float("nan"), "saved": now})
    group = write_vocabulary(f, v)
    for name in ("bytes", "offsets"):
        group[name].attrs["xxh3"] = xxhash.xxh3_64_hexdigest(group[name][:].tobytes())


# ---- export


def export_weights(o: argparse.Namespace) -> str:
    with sealed_open(o.source) as f:
        if f.attrs.get("format") != "mdlm-checkpoint":
            raise FileError(f"{o.source}: not a checkpoint")
        group = f["ema" if o.weights == "ema" else "params"]
        shapes = {name: tuple(group[name].shape) for name in group}
        family = family_of(shapes, o.source)
        heads = re.search(r"heads = (\d+)", str(f.attrs["deck"]))
        made = theirs(family, group, int(heads[1]) if heads else 1, int(f["vocab"].attrs["mask"]))
        safetensors_write(o.target, {k: v[0] for k, v in made.items()}, (v[1]() for v in made.values()))
    return f"{o.target}: {family.name}, {len(made)} tensors"


Made = dict[str, tuple[tuple[int, ...], Callable[[], np.ndarray]]]


def theirs(family: Family, group: h5py.Group, heads: int, mask: int) -> Made:
    """Shapes and values under the names of the other side, each read when it is written."""
    prefix = family.prefix if family.name != "gpt2" else ""
    made: Made = {}
    for name, data in group.items():
        shape, read = tuple(data.shape), data.__getitem__
        if re.fullmatch(family.turned, name):
            made[prefix + name] = (shape[::-1], lambda read=read: read(()).T)
        elif family.name == "gpt2" and name == family.embedding and mask == shape[0] - 1 and not data[mask].any():
            made[prefix + name] = ((mask, shape[1]), lambda read=read: read(())[:-1])  # the mask that import appended
        else:
            made[prefix + name] = (shape, lambda read=read: read(()))
        if re.fullmatch(family.buffers, name.replace("mamba_fwd", "mamba_rev")):
            made[prefix + name.replace("mamba_fwd", "mamba_rev")] = made[prefix + name]
    if family.buffers == re.escape(ROTARY):
        K = group[family.embedding].shape[1] // heads
        made[prefix + ROTARY] = ((K // 2,), lambda: (10000.0 ** (-np.arange(0, K, 2) / K)).astype("<f4"))
    return made


# ---- command line


def parser() -> argparse.ArgumentParser:
    p = Parser(
        prog="convert.py",
        description="Convert weights between other programs' files and checkpoints of mdlm.",
        epilog=NOTES,
    )
    actions = p.add_subparsers(dest="action", required=True, metavar="import|export")
    g = actions.add_parser("import", help="safetensors or .ckpt → checkpoint")
    g.add_argument("source", type=Path, metavar="WEIGHTS", help=".safetensors, or a PyTorch file: .ckpt, .pt, .bin")
    g.add_argument("target", type=Path, metavar="CHECKPOINT.h5")
    g.add_argument("--tokenizer", required=True, metavar="KIND:…", help="of these weights, as prepare.py takes it")
    g.add_argument("--heads", type=int, metavar="H", help="attention heads (default: of 64 units each)")
    g.add_argument("--length", type=int, metavar="L", help="tokens trained on (default: 1024; gpt2: its positions)")
    g.add_argument("--objective", choices=("subs", "d3pm", "sedd", "ar"), help="(default: subs; gpt2 and ar: ar)")
    g.add_argument("--time-conditioning", action="store_true", help="the network was told the noise level")
    g = actions.add_parser("export", help="checkpoint → safetensors")
    g.add_argument("source", type=Path, metavar="CHECKPOINT.h5")
    g.add_argument("target", type=Path, metavar="OUT.safetensors")
    g.add_argument("--weights", choices=("ema", "live"), default="ema", help="(default: ema)")
    return p


def main(argv: list[str]) -> int:
    try:
        o = parser().parse_args(argv)
        for name in ("heads", "length"):
            require(getattr(o, name, None) is None or getattr(o, name) > 0, f"--{name}: must be positive")
        check_paths([str(o.target)], [str(o.source)])
        print((import_weights if o.action == "import" else export_weights)(o))
        return 0
    except KeyError as e:
        message = f"{o.source}: a part is missing: {e.args[0]}"
    except (FileError, InputError, OSError, MemoryError) as e:
        message = e or "out of memory"
    print(f"convert.py: error: {message}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
