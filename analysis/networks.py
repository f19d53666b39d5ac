"""The networks whose weights are converted: parameters as src/model/ names them, and how others' files differ."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tensorfiles import FileError, Tensor

Shapes = dict[str, tuple[int, ...]]
DIMAMBA = "model.bimamba.backbone."


@dataclass(frozen=True)
class Sizes:
    vocab: int
    width: int
    blocks: int
    mlp: int  # width of the MLP; of dimamba that of what it expands to
    cond: int
    length: int  # positions


def gpt2_shapes(s: Sizes) -> Shapes:
    D, M = s.width, s.mlp
    found: Shapes = {"wte.weight": (s.vocab, D), "wpe.weight": (s.length, D)}
    for i in range(s.blocks):
        linears = {"attn.c_attn": (3 * D, D), "attn.c_proj": (D, D), "mlp.c_fc": (M, D), "mlp.c_proj": (D, M)}
        for name, shape in linears.items():
            found |= {f"h.{i}.{name}.weight": shape, f"h.{i}.{name}.bias": shape[:1]}
        found |= {f"h.{i}.{norm}.{part}": (D,) for norm in ("ln_1", "ln_2") for part in ("weight", "bias")}
    return found | {"ln_f.weight": (D,), "ln_f.bias": (D,)}


def time_shapes(s: Sizes) -> Shapes:
    mlp = {"sigma_map.mlp.0": 256, "sigma_map.mlp.2": s.cond}
    return {k: v for name, n in mlp.items() for k, v in linear(name, n, s.cond).items()}


def linear(name: str, n: int, out: int) -> Shapes:
    return {f"{name}.weight": (out, n), f"{name}.bias": (out,)}


def ar_shapes(s: Sizes) -> Shapes:
    D = s.width
    found: Shapes = {"vocab_embed.embedding": (s.vocab, D)}
    for i in range(s.blocks):
        b = f"blocks.{i}."
        found |= {b + "norm1.weight": (D,), b + "norm2.weight": (D,)}
        found |= {b + "attn_qkv.weight": (3 * D, D), b + "attn_out.weight": (D, D)}
        found |= linear(b + "mlp.0", D, s.mlp) | linear(b + "mlp.2", s.mlp, D)
    return found | {"output_layer.norm_final.weight": (D,)} | linear("output_layer.linear", D, s.vocab)


def dit_shapes(s: Sizes) -> Shapes:
    found = ar_shapes(s) | time_shapes(s)
    for i in range(s.blocks):
        found |= linear(f"blocks.{i}.adaLN_modulation", s.cond, 6 * s.width)
    return found | linear("output_layer.adaLN_modulation", s.cond, 2 * s.width)


def dimamba_shapes(s: Sizes) -> Shapes:
    D, E, rank, states = s.width, s.mlp, -(-s.width // 16), 16
    found = time_shapes(s) | {DIMAMBA + "embeddings.word_embeddings.weight": (s.vocab, D)}
    for i in range(s.blocks):
        b = f"{DIMAMBA}layers.{i}."
        found |= {b + "norm.weight": (D,)} | linear(b + "adaLN_modulation", s.cond, 3 * D)
        found |= {b + "mixer.mamba_fwd.in_proj.weight": (2 * E, D), b + "mixer.mamba_fwd.out_proj.weight": (D, E)}
        for way in ("fwd", "rev"):
            m = f"{b}mixer.mamba_{way}."
            found |= {m + "A_log": (E, states), m + "D": (E,), m + "x_proj.weight": (rank + 2 * states, E)}
            found |= {m + "conv1d.weight": (E, 1, 4), m + "conv1d.bias": (E,)} | linear(m + "dt_proj", rank, E)
    found |= linear(DIMAMBA + "adaLN_modulation_final", s.cond, 2 * D)
    return found | {DIMAMBA + "norm_f.weight": (D,), "model.lm_head.weight": (s.vocab, D)}


@dataclass(frozen=True)
class Family:
    """One of our networks, and how the other side's file differs."""

    name: str
    embedding: str  # [V,D]: tells the network
    block: str  # what numbers the blocks
    wide: str  # [.., D] or [D, ..]: the parameter with the size `mlp`
    shapes: Callable[[Sizes], Shapes]
    prefix: str  # of the names over there; may be absent
    turned: str = "$^"  # [in,out] there, [out,in] here
    buffers: str = "$^"  # no parameters
    objectives: tuple[str, ...] = ("subs", "d3pm", "sedd")

    @property
    def timed(self) -> bool:
        return "ar" not in self.objectives


ROTARY = "rotary_emb.inv_freq"
FAMILIES = (
    Family(
        "gpt2",
        "wte.weight",
        r"h\.(\d+)\.",
        "h.0.mlp.c_fc.bias",
        gpt2_shapes,
        "transformer.",
        turned=r"h\.\d+\.(attn\.c_attn|attn\.c_proj|mlp\.c_fc|mlp\.c_proj)\.weight",
        buffers=r"h\.\d+\.attn\.(bias|masked_bias)|lm_head\.weight",
        objectives=("ar",),
    ),
    Family(
        "dit",
        "vocab_embed.embedding",
        r"blocks\.(\d+)\.",
        "blocks.0.mlp.0.bias",
        dit_shapes,
        "backbone.",
        buffers=re.escape(ROTARY),
    ),
    Family(
        "ar",
        "vocab_embed.embedding",
        r"blocks\.(\d+)\.",
        "blocks.0.mlp.0.bias",
        ar_shapes,
        "backbone.",
        buffers=re.escape(ROTARY),
        objectives=("ar",),
    ),
    Family(
        "dimamba",
        DIMAMBA + "embeddings.word_embeddings.weight",
        re.escape(DIMAMBA) + r"layers\.(\d+)\.",
        DIMAMBA + "layers.0.mixer.mamba_fwd.D",
        dimamba_shapes,
        "backbone.",
        buffers=re.escape(DIMAMBA) + r"layers\.\d+\.mixer\.mamba_rev\.(in|out)_proj\.weight",
    ),
)
TIMED = "sigma_map.mlp.2.bias"


def family_of(names: Any, path: Path) -> Family:
    for family in FAMILIES:
        if family.embedding in names and (not family.timed or TIMED in names):
            return family
    raise FileError(f"{path}: not the weights of {', '.join(f.name for f in FAMILIES)}: no parameter of theirs")


def sizes_of(family: Family, found: dict[str, Tensor], path: Path, length: int | None) -> Sizes:
    for name in (family.embedding, family.wide, *([TIMED] if family.timed else [])):
        if name not in found:
            raise FileError(f"{path}: {name} is missing")
        if len(found[name].shape) != (2 if name == family.embedding else 1):
            raise FileError(f"{path}: {name} has the shape {list(found[name].shape)}")
    vocab, width = found[family.embedding].shape
    numbers = [int(m[1]) for m in map(re.compile(family.block).match, found) if m]
    if family.name == "gpt2":
        length = found["wpe.weight"].shape[0] if "wpe.weight" in found else 0
    cond = found[TIMED].shape[0] if family.timed else 128
    return Sizes(vocab, width, max(numbers) + 1, found[family.wide].shape[0], cond, length or 1024)


def check(found: Shapes, want: Shapes, path: Path) -> None:
    """The same names and shapes on both sides."""
    for name, shape in want.items():
        if name not in found:
            raise FileError(f"{path}: {name} is missing")
        if found[name] != shape:
            raise FileError(f"{path}: {name} is {list(found[name])}, {list(shape)} was expected")
    for name in found:
        if name not in want:
            raise FileError(f"{path}: {name} is no parameter of such a network")
