"""The networks whose weights can be converted, and how to recognise them in a file."""

from __future__ import annotations

import re
from collections.abc import Callable, Container
from dataclasses import dataclass
from pathlib import Path

from mdlm_analysis.shapes import DIMAMBA, Shapes, Sizes, ar_shapes, dimamba_shapes, dit_shapes, gpt2_shapes
from mdlm_analysis.tensors import Tensor
from mdlm_data.errors import InputError


@dataclass(frozen=True)
class Family:
    """One of our networks, and how the files of other programs differ from ours."""

    name: str
    embedding: str  # the [V,D] parameter that identifies the network
    block: str  # pattern of a block's number
    wide: str  # the 1-D parameter whose length is Sizes.mlp
    shapes: Callable[[Sizes], Shapes]
    prefix: str  # of their names; may be absent
    transposed: str = "$^"  # pattern of weights they store as [in,out], we as [out,in]
    buffers: str = "$^"  # pattern of their tensors that are no parameters of ours
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
        transposed=r"h\.\d+\.(attn\.c_attn|attn\.c_proj|mlp\.c_fc|mlp\.c_proj)\.weight",
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


def family_of(names: Container[str], path: Path) -> Family:
    for family in FAMILIES:
        if family.embedding in names and (not family.timed or TIMED in names):
            return family
    raise InputError(f"{path}: not the weights of {', '.join(f.name for f in FAMILIES)}")


def sizes_of(family: Family, found: dict[str, Tensor], path: Path, length: int | None) -> Sizes:
    for name in (family.embedding, family.wide, *([TIMED] if family.timed else [])):
        if name not in found:
            raise InputError(f"{path}: {name} is missing")
        if len(found[name].shape) != (2 if name == family.embedding else 1):
            raise InputError(f"{path}: {name} has the shape {list(found[name].shape)}")
    vocab, width = found[family.embedding].shape
    numbers = [int(m[1]) for m in map(re.compile(family.block).match, found) if m]
    if family.name == "gpt2":
        length = found["wpe.weight"].shape[0] if "wpe.weight" in found else 0
    cond = found[TIMED].shape[0] if family.timed else 128
    return Sizes(vocab, width, max(numbers) + 1, found[family.wide].shape[0], cond, length or 1024)


def check(found: Shapes, want: Shapes, path: Path) -> None:
    """Refuse names and shapes that are not those of the network."""
    for name, shape in want.items():
        if name not in found:
            raise InputError(f"{path}: {name} is missing")
        if found[name] != shape:
            raise InputError(f"{path}: {name} has the shape {list(found[name])}, expected {list(shape)}")
    for name in found:
        if name not in want:
            raise InputError(f"{path}: {name} is not a parameter of this network")
