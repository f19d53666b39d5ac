"""The networks whose weights can be converted, and how to recognise them in a file."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mdlm_analysis.shapes import CLASSES, DIMAMBA, Shapes, Sizes, ar_shapes, dimamba_shapes, dit_shapes, gpt2_shapes
from mdlm_analysis.tensors import Tensor, is_real
from mdlm_data.errors import InputError, require


@dataclass(frozen=True)
class Family:
    """One of our networks, and how the files of other programs differ from ours."""

    name: str
    embedding: str  # the [V,D] parameter that identifies the network
    block: str  # pattern of a block's number
    wide: str  # the 1-D parameter whose length is Sizes.mlp
    shapes: Callable[[Sizes], Shapes]
    vocabulary: tuple[str, ...]  # parameters with a row for each token
    transposed: str = "$^"  # pattern of weights they store as [in,out], we as [out,in]
    buffers: str = "$^"  # pattern of their tensors that are no parameters of ours
    tied: tuple[str, str] | None = None  # replace this by that in a buffer's name: the parameter it must equal
    objectives: tuple[str, ...] = ("subs", "d3pm", "sedd", "uniform")
    halves: bool = False  # may have block diffusion

    @property
    def timed(self) -> bool:
        return "ar" not in self.objectives

    def blocks(self, names: Iterable[str]) -> int:
        return max((1 + int(m[1]) for m in map(re.compile(self.block).match, names) if m), default=0)

    def order(self, names: Iterable[str]) -> list[str]:
        """The names in the order of the public modules."""
        names = set(names)
        return list(self.shapes(Sizes(1, 1, self.blocks(names), 1, 1, 1, int(CLASSES in names))))

    def theirs(self, name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        """A shape of ours as it stands in their file, or the other way round."""
        return shape[::-1] if re.fullmatch(self.transposed, name) else shape


ROTARY = "rotary_emb.inv_freq"
EMBED, WORDS = "vocab_embed.embedding", DIMAMBA + "embeddings.word_embeddings.weight"
OUTPUT = ("output_layer.linear.weight", "output_layer.linear.bias")
MLP = ("blocks.0.mlp.0.bias",)
FAMILIES = (
    Family(
        "gpt2",
        "wte.weight",
        r"h\.(\d+)\.",
        "h.0.mlp.c_fc.bias",
        gpt2_shapes,
        ("wte.weight",),
        transposed=r"h\.\d+\.(attn\.c_attn|attn\.c_proj|mlp\.c_fc|mlp\.c_proj)\.weight",
        buffers=r"h\.\d+\.attn\.(bias|masked_bias)|lm_head\.weight",
        tied=("lm_head", "wte"),
        objectives=("ar",),
    ),
    Family(
        "dit",
        EMBED,
        r"blocks\.(\d+)\.",
        *MLP,
        dit_shapes,
        (EMBED, *OUTPUT),
        buffers=re.escape(ROTARY),
        halves=True,
    ),
    Family(
        "ar",
        EMBED,
        r"blocks\.(\d+)\.",
        *MLP,
        ar_shapes,
        (EMBED, *OUTPUT),
        buffers=re.escape(ROTARY),
        objectives=("ar", "subs"),  # subs in blocks
        halves=True,
    ),
    Family(
        "dimamba",
        WORDS,
        re.escape(DIMAMBA) + r"layers\.(\d+)\.",
        DIMAMBA + "layers.0.mixer.mamba_fwd.D",
        dimamba_shapes,
        (WORDS, "model.lm_head.weight"),
        buffers=re.escape(DIMAMBA) + r"layers\.\d+\.mixer\.mamba_rev\.(in|out)_proj\.weight",
        tied=("mamba_rev", "mamba_fwd"),
    ),
)
TIMED = "sigma_map.mlp.2.bias"
LEAD = r"((module|model|network|net|backbone|transformer)\.)*"  # what programs write before the names of a network
COMPILED = "_orig_mod."  # what torch.compile writes into them
# state of the reference's other modules
BESIDE = r"noise\..*|(.*_)?metrics?\..*|teacher\..*|limiting_distribution|sampling_eps_(min|max)"


def embedding_in(names: Iterable[str]) -> str | None:
    """What stands before the names of a network of ours; None: there is none."""
    ours = {f.embedding for f in FAMILIES}
    leads = {n[: -len(e)] for n in (n.replace(COMPILED, "") for n in names) for e in ours if n.endswith(e)}
    return min((lead for lead in leads if re.fullmatch(LEAD, lead)), default=None, key=len)


@dataclass
class Found:
    """The tensors of a file by our names, and those that do not belong to the network by the file's."""

    family: Family
    lead: str  # what stands before our names in the file
    parameters: dict[str, Tensor]
    buffers: dict[str, Tensor]
    outside: dict[str, Tensor]


def recognise(live: dict[str, Tensor], path: Path) -> Found:
    lead = embedding_in(live)
    if lead is None:
        first = ", ".join(list(live)[:3]) or "none"
        names = ", ".join(f.name for f in FAMILIES)
        raise InputError(f"{path}: not the weights of {names}: its first parameters are {first}")
    plain = {name.replace(COMPILED, ""): t for name, t in live.items()}
    require(len(plain) == len(live), f"{path}: holds parameters both with and without {COMPILED}; save one set alone")
    inside = {name.removeprefix(lead): t for name, t in plain.items() if name.startswith(lead)}
    outside = {name: t for name, t in plain.items() if not name.startswith(lead) and not re.fullmatch(BESIDE, name)}
    family = family_of(inside, path)
    inside = {name: t for name, t in inside.items() if not re.fullmatch(BESIDE, name)}
    buffers = {name: t for name, t in inside.items() if re.fullmatch(family.buffers, name)}
    for name in list(outside):  # lm_head stands beside transformer.
        bare = re.sub("^" + LEAD, "", name)
        if re.fullmatch(family.buffers, bare):
            buffers[bare] = outside.pop(name)
    parameters = {name: t for name, t in inside.items() if name not in buffers}
    return Found(family, lead, parameters, buffers, outside)


def family_of(names: Iterable[str], path: Path) -> Family:
    given = set(names)
    timed = any(name.startswith("sigma_map.") or ".adaLN_modulation." in name for name in given)
    for family in FAMILIES:
        if family.embedding in given and (family.name == "gpt2" or family.timed == timed):
            return family
    raise InputError(f"{path}: not the weights of {', '.join(f.name for f in FAMILIES)}")


def sizes_of(found: Found, path: Path, length: int | None) -> Sizes:
    """The sizes that the shapes tell; where a parameter is missing that tells one, the usual size."""
    family, given = found.family, found.parameters

    def size(name: str, axis: int, rank: int, usual: int) -> int:
        shape = given[name].shape if name in given else (usual,) * rank
        require(len(shape) == rank, f"{path}: {name} has the shape {list(shape)}, which is not of rank {rank}")
        return shape[axis]

    vocab, width = (size(family.embedding, axis, 2, 0) for axis in (0, 1))
    blocks = family.blocks(given)
    require(blocks, f"{path}: holds no block of a {family.name}, only {', '.join(list(given)[:3])}")
    if family.name == "gpt2":
        length = size("wpe.weight", 0, 2, 1024)
    mlp = size(family.wide, 0, 1, width * (2 if family.name == "dimamba" else 4))
    cond = size(TIMED, 0, 1, 128) if family.timed else 128
    classes = size(CLASSES, 0, 2, 1) - 1 if CLASSES in given else 0
    require(CLASSES not in given or classes, f"{path}: {CLASSES} has a single row: there are no classes")
    return Sizes(vocab, width, blocks, mlp, cond, length or 1024, classes)


def check(found: Found, s: Sizes, path: Path) -> None:
    """Refuse parameters that are not those of the network, all in one message, by the names and shapes of the file."""
    family, lead = found.family, found.lead
    given = {lead + name: t for name, t in found.parameters.items()}
    want = {lead + name: family.theirs(name, shape) for name, shape in family.shapes(s).items()}
    missing = [f"{name} {list(shape)}" for name, shape in want.items() if name not in given]
    extra = [f"{n} {list(t.shape)}" for n, t in {**given, **found.outside}.items() if n not in want]
    both = {n: t for n, t in given.items() if n in want}
    shapes = [f"{n} {list(t.shape)}, expected {list(want[n])}" for n, t in both.items() if t.shape != want[n]]
    whole = [f"{n} of type {t.dtype}" for n, t in both.items() if not is_real(t.dtype)]
    kinds = {"missing": missing, "extra": extra, "of another shape": shapes, "not of floating point": whole}
    wrong = {kind: names for kind, names in kinds.items() if names}
    if wrong:
        counts = ", ".join(f"{len(names)} {kind}" for kind, names in wrong.items())
        lines = [f"\n  {kind}: {name}" for kind, names in wrong.items() for name in names]
        network = f"a {family.name} of {s.blocks} blocks and width {s.width}"
        message = f"{path}: not the parameters of {network}: {counts}; save this network alone and convert that"
        raise InputError(message + "".join(lines))


def check_tied(found: Found, path: Path) -> None:
    """Copies of a parameter must equal it: the output layer of gpt2, the projections of dimamba's second direction."""
    for name, tensor in found.buffers.items():
        if found.family.tied and found.family.tied[0] in name:
            one = name.replace(*found.family.tied)
            if tensor.shape != found.parameters[one].shape or not np.array_equal(
                tensor.read(), found.parameters[one].read()
            ):
                raise InputError(
                    f"{path}: {name} differs from {one}: {found.family.name} has them tied, so it is another network"
                )
