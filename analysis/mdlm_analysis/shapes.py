"""Names and shapes of the parameters of each network, as src/model/ names them, in the order of the public PyTorch modules.

The order counts: a Lightning checkpoint lists its moving average in it, without names.
"""

from __future__ import annotations

from dataclasses import dataclass

Shapes = dict[str, tuple[int, ...]]
DIMAMBA = "model.bimamba.backbone."
CLASSES = "cond_map.embedding_table.weight"  # a row for each class, and one for none


@dataclass(frozen=True)
class Sizes:
    vocab: int
    width: int
    blocks: int
    mlp: int  # inner width of the MLP; of dimamba: the expanded width
    cond: int
    length: int  # positions
    classes: int = 0


def linear(name: str, n: int, out: int) -> Shapes:
    return {f"{name}.weight": (out, n), f"{name}.bias": (out,)}


def norm(name: str, n: int) -> Shapes:
    return {f"{name}.weight": (n,), f"{name}.bias": (n,)}


def gpt2_shapes(s: Sizes) -> Shapes:
    D, M = s.width, s.mlp
    found: Shapes = {"wte.weight": (s.vocab, D), "wpe.weight": (s.length, D)}
    for i in range(s.blocks):
        b = f"h.{i}."
        found |= norm(b + "ln_1", D) | linear(b + "attn.c_attn", D, 3 * D) | linear(b + "attn.c_proj", D, D)
        found |= norm(b + "ln_2", D) | linear(b + "mlp.c_fc", D, M) | linear(b + "mlp.c_proj", M, D)
    return found | norm("ln_f", D)


def time_shapes(s: Sizes) -> Shapes:
    found = linear("sigma_map.mlp.0", 256, s.cond) | linear("sigma_map.mlp.2", s.cond, s.cond)
    return found | ({CLASSES: (s.classes + 1, s.cond)} if s.classes else {})


def transformer_shapes(s: Sizes, timed: bool) -> Shapes:
    D = s.width
    found: Shapes = {"vocab_embed.embedding": (s.vocab, D)} | (time_shapes(s) if timed else {})
    for i in range(s.blocks):
        b = f"blocks.{i}."
        found |= {b + "norm1.weight": (D,), b + "attn_qkv.weight": (3 * D, D), b + "attn_out.weight": (D, D)}
        found |= {b + "norm2.weight": (D,)} | linear(b + "mlp.0", D, s.mlp) | linear(b + "mlp.2", s.mlp, D)
        found |= linear(b + "adaLN_modulation", s.cond, 6 * D) if timed else {}
    found |= {"output_layer.norm_final.weight": (D,)} | linear("output_layer.linear", D, s.vocab)
    return found | (linear("output_layer.adaLN_modulation", s.cond, 2 * D) if timed else {})


def ar_shapes(s: Sizes) -> Shapes:
    return transformer_shapes(s, timed=False)


def dit_shapes(s: Sizes) -> Shapes:
    return transformer_shapes(s, timed=True)


def dimamba_shapes(s: Sizes) -> Shapes:
    D, E, rank, states = s.width, s.mlp, -(-s.width // 16), 16
    found = time_shapes(s) | {DIMAMBA + "embeddings.word_embeddings.weight": (s.vocab, D)}
    for i in range(s.blocks):
        b = f"{DIMAMBA}layers.{i}."
        for way in ("fwd", "rev"):  # they share in_proj and out_proj
            m, first = f"{b}mixer.mamba_{way}.", way == "fwd"
            found |= {m + "A_log": (E, states), m + "D": (E,)} | ({m + "in_proj.weight": (2 * E, D)} if first else {})
            found |= {m + "conv1d.weight": (E, 1, 4), m + "conv1d.bias": (E,)}
            found |= {m + "x_proj.weight": (rank + 2 * states, E)} | linear(m + "dt_proj", rank, E)
            found |= {m + "out_proj.weight": (D, E)} if first else {}
        found |= {b + "norm.weight": (D,)} | linear(b + "adaLN_modulation", s.cond, 3 * D)
    found |= linear(DIMAMBA + "adaLN_modulation_final", s.cond, 2 * D)
    return found | {DIMAMBA + "norm_f.weight": (D,), "model.lm_head.weight": (s.vocab, D)}
