"""Names and shapes of the parameters of each network, as src/model/ names them."""

from __future__ import annotations

from dataclasses import dataclass

Shapes = dict[str, tuple[int, ...]]
DIMAMBA = "model.bimamba.backbone."


@dataclass(frozen=True)
class Sizes:
    vocab: int
    width: int
    blocks: int
    mlp: int  # inner width of the MLP; of dimamba: the expanded width
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
