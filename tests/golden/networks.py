"""networks.py — the networks of the golden files in PyTorch, written from their formulas as functions of named
parameters.

Letters: B sequences, L length, V vocabulary, D width, H heads of width K, C width of the conditioning, S states and
E = 2D channels of a Mamba. Sources: Peebles & Xie, arXiv:2212.09748 (dit); Gu & Dao, arXiv:2312.00752 (Mamba); Schiff
et al., arXiv:2403.03234 (BiMamba); arXiv:2406.07524 (the variants used here). GPT-2 is that of transformers.
"""

import math
from collections.abc import Callable
from unittest import mock

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

SINUSOID = 256
STATES, CONV = 16, 4
MAMBA = "model.bimamba.backbone"

Params = dict[str, Tensor]
Sizes = dict[str, int]
Shapes = dict[str, tuple[int, ...]]


# ---------------------------------------------------------------- parameters
def prefixed(prefix: str, shapes: Shapes) -> Shapes:
    return {f"{prefix}.{name}": shape for name, shape in shapes.items()}


def time_shapes(sizes: Sizes) -> Shapes:
    C, classes = sizes["cond_dim"], sizes.get("classes", 0)
    table = {"cond_map.embedding_table.weight": (classes + 1, C)} if classes else {}
    return table | prefixed(
        "sigma_map.mlp", {"0.weight": (C, SINUSOID), "0.bias": (C,), "2.weight": (C, C), "2.bias": (C,)}
    )


def linear_shapes(name: str, n_in: int, n_out: int) -> Shapes:
    return {f"{name}.weight": (n_out, n_in), f"{name}.bias": (n_out,)}


def transformer_shapes(sizes: Sizes, conditioned: bool) -> Shapes:
    V, D, C, M = sizes["vocab"], sizes["width"], sizes["cond_dim"], sizes["mlp_ratio"] * sizes["width"]
    s = {"vocab_embed.embedding": (V, D)} | (time_shapes(sizes) if conditioned else {})
    block = {
        "norm1.weight": (D,),
        "attn_qkv.weight": (3 * D, D),
        "attn_out.weight": (D, D),
        "norm2.weight": (D,),
        **linear_shapes("mlp.0", D, M),
        **linear_shapes("mlp.2", M, D),
        **(linear_shapes("adaLN_modulation", C, 6 * D) if conditioned else {}),
    }
    for i in range(sizes["blocks"]):
        s |= prefixed(f"blocks.{i}", block)
    return s | prefixed(
        "output_layer",
        {
            "norm_final.weight": (D,),
            **linear_shapes("linear", D, V),
            **(linear_shapes("adaLN_modulation", C, 2 * D) if conditioned else {}),
        },
    )


def dimamba_shapes(sizes: Sizes) -> Shapes:
    """The reversed scan shares in_proj and out_proj with the forward one, so they are listed once."""
    V, D, C = sizes["vocab"], sizes["width"], sizes["cond_dim"]
    E, R = 2 * D, -(-D // 16)
    scan = {
        "A_log": (E, STATES),
        "D": (E,),
        "conv1d.weight": (E, 1, CONV),
        "conv1d.bias": (E,),
        "x_proj.weight": (R + 2 * STATES, E),
        **linear_shapes("dt_proj", R, E),
    }
    block = {
        "norm.weight": (D,),
        **linear_shapes("adaLN_modulation", C, 3 * D),
        **prefixed("mixer.mamba_fwd", scan),
        "mixer.mamba_fwd.in_proj.weight": (2 * E, D),
        "mixer.mamba_fwd.out_proj.weight": (D, E),
        **prefixed("mixer.mamba_rev", scan),
    }
    s = time_shapes(sizes) | {f"{MAMBA}.embeddings.word_embeddings.weight": (V, D)}
    for i in range(sizes["blocks"]):
        s |= prefixed(f"{MAMBA}.layers.{i}", block)
    return (
        s
        | prefixed(MAMBA, {**linear_shapes("adaLN_modulation_final", C, 2 * D), "norm_f.weight": (D,)})
        | {"model.lm_head.weight": (V, D)}
    )


def gpt2_shapes(sizes: Sizes) -> Shapes:
    V, L, D, M = sizes["vocab"], sizes["length"], sizes["width"], sizes["mlp_ratio"] * sizes["width"]
    norm = {"weight": (D,), "bias": (D,)}
    block = {
        **prefixed("ln_1", norm),
        **linear_shapes("attn.c_attn", D, 3 * D),
        **linear_shapes("attn.c_proj", D, D),
        **prefixed("ln_2", norm),
        **linear_shapes("mlp.c_fc", D, M),
        **linear_shapes("mlp.c_proj", M, D),
    }
    s = {"wte.weight": (V, D), "wpe.weight": (L, D)}
    for i in range(sizes["blocks"]):
        s |= prefixed(f"h.{i}", block)
    return s | prefixed("ln_f", norm)


def random_params(rng: np.random.RandomState, shapes: Shapes) -> Params:
    """Linear weights N(0, 1/fan_in), biases N(0, 0.3), norms about 1, decays as at initialisation. All are multiples of
    2^-10, so that float32 holds them exactly, and nonzero, so that every path carries signal."""
    params = {}
    for name, shape in shapes.items():
        noise = rng.randn(*shape)
        if name.endswith("A_log"):
            w = np.log(np.arange(1, STATES + 1)) + 0.2 * noise
        elif name.endswith("bias"):
            w = 0.3 * noise
        elif len(shape) == 1:
            w = 1 + 0.2 * noise
        else:
            w = noise / math.sqrt(1 if "embedding" in name else shape[-1])
        w = np.round(w * 1024)
        params[name] = torch.tensor(np.where(w == 0, 1, w) / 1024)
    return params


# ---------------------------------------------------------------- shared layers
def linear(p: Params, name: str, x: Tensor) -> Tensor:
    return F.linear(x, p[f"{name}.weight"], p.get(f"{name}.bias"))


def conditioning(p: Params, sigma: Tensor, labels: Tensor | None) -> Tensor:
    """The embedding of time and, with labels (-1: the last row, no class), that of the class."""
    c = time_embedding(p, sigma)
    return c if labels is None else c + F.silu(p["cond_map.embedding_table.weight"][labels])


def time_embedding(p: Params, sigma: Tensor) -> Tensor:
    half = torch.arange(SINUSOID // 2, dtype=sigma.dtype, device=sigma.device)
    angle = sigma[:, None] * 10000.0 ** (-half / (SINUSOID // 2))
    wave = torch.cat([angle.cos(), angle.sin()], -1)
    return F.silu(linear(p, "sigma_map.mlp.2", F.silu(linear(p, "sigma_map.mlp.0", wave))))


def modulation(p: Params, name: str, c: Tensor, parts: int) -> tuple[Tensor, ...]:
    """A Linear of the conditioning, split into `parts` chunks [B,1,D]."""
    return linear(p, name, c)[:, None].chunk(parts, -1)


def layer_norm(p: Params, name: str, x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], p[f"{name}.weight"], None, 1e-5)


def rms_norm(p: Params, name: str, x: Tensor) -> Tensor:
    return F.rms_norm(x, x.shape[-1:], p[f"{name}.weight"], 1e-5)


# ---------------------------------------------------------------- dit, ar
def rotary(x: Tensor) -> Tensor:
    """x [B,H,L,K]: the pair (k, k + K/2) at position l, as a complex number, is rotated by l * 10000^(-2k/K)."""
    L, K = x.shape[-2:]
    angle = torch.arange(L)[:, None] * 10000.0 ** (-2 * torch.arange(K // 2, dtype=torch.float64) / K)
    turned = torch.complex(x[..., : K // 2], x[..., K // 2 :]) * torch.polar(torch.ones_like(angle), angle)
    return torch.cat([turned.real, turned.imag], -1)


def attention(p: Params, block: str, h: Tensor, heads: int, causal: bool, lengths: Tensor | None) -> Tensor:
    B, L, D = h.shape
    q, k, v = linear(p, f"{block}.attn_qkv", h).view(B, L, 3, heads, -1).permute(2, 0, 3, 1, 4)
    seen = None if lengths is None else (torch.arange(L) < lengths[:, None])[:, None, None].expand(B, 1, L, L)
    o = F.scaled_dot_product_attention(rotary(q), rotary(k), v, attn_mask=seen, is_causal=causal)
    return linear(p, f"{block}.attn_out", o.transpose(1, 2).reshape(B, L, D))


def seen_in_blocks(L: int, size: int) -> Tensor:
    """[2L,2L] of the rows (noisy, clean): which keys a query sees in block diffusion. A noisy row sees its block of the
    noisy half and earlier blocks of the clean half; a clean row sees its block and earlier ones of the clean half."""
    block = torch.arange(L) // size
    same, earlier = block[:, None] == block, block[:, None] > block
    return torch.cat([torch.cat([same, earlier], 1), torch.cat([torch.zeros_like(same), same | earlier], 1)])


def block_attention(size: int) -> Callable[..., Tensor]:
    def attend(p: Params, block: str, h: Tensor, heads: int, causal: bool, lengths: Tensor | None) -> Tensor:
        B, R, D = h.shape
        q, k, v = linear(p, f"{block}.attn_qkv", h).view(B, R, 3, heads, -1).permute(2, 0, 3, 1, 4)
        q, k = (rotary(x.unflatten(2, (2, R // 2))).flatten(2, 3) for x in (q, k))  # both halves from position 0
        o = F.scaled_dot_product_attention(q, k, v, attn_mask=seen_in_blocks(R // 2, size))
        return linear(p, f"{block}.attn_out", o.transpose(1, 2).reshape(B, R, D))

    return attend


def mlp(p: Params, block: str, h: Tensor) -> Tensor:
    return linear(p, f"{block}.mlp.2", F.gelu(linear(p, f"{block}.mlp.0", h), approximate="tanh"))


def dit_hidden(
    p: Params,
    sizes: Sizes,
    z: Tensor,
    sigma: Tensor,
    lengths: Tensor | None = None,
    dropout: Callable[[Tensor], Tensor] = lambda x: x,
    attend: Callable[..., Tensor] = attention,
    labels: Tensor | None = None,
) -> Tensor:
    """The input of the output Linear: rows [B,L,D]."""
    x = F.embedding(z, p["vocab_embed.embedding"])
    c = conditioning(p, sigma, labels)
    for i in range(sizes["blocks"]):
        block = f"blocks.{i}"
        shift1, scale1, gate1, shift2, scale2, gate2 = modulation(p, f"{block}.adaLN_modulation", c, 6)
        h = layer_norm(p, f"{block}.norm1", x) * (1 + scale1) + shift1
        x = x + gate1 * dropout(attend(p, block, h, sizes["heads"], False, lengths))
        x = x + gate2 * dropout(mlp(p, block, layer_norm(p, f"{block}.norm2", x) * (1 + scale2) + shift2))
    shift, scale = modulation(p, "output_layer.adaLN_modulation", c, 2)
    return layer_norm(p, "output_layer.norm_final", x) * (1 + scale) + shift


def dit(
    p: Params,
    sizes: Sizes,
    z: Tensor,
    sigma: Tensor,
    lengths: Tensor | None = None,
    labels: Tensor | None = None,
) -> Tensor:
    """Raw logits [B,L,V] of tokens z [B,L] at noise level sigma [B]; with lengths, attention does not see padding."""
    return linear(p, "output_layer.linear", dit_hidden(p, sizes, z, sigma, lengths, labels=labels))


def block_dit(p: Params, sizes: Sizes, z: Tensor, clean: Tensor, size: int) -> Tensor:
    """Raw logits [B,L,V] of the noisy tokens z, whose blocks of `size` see the clean blocks before them."""
    rows = dit_hidden(p, sizes, torch.cat([z, clean], 1), torch.zeros(len(z)), attend=block_attention(size))
    return linear(p, "output_layer.linear", rows[:, : z.shape[1]])


def ar(p: Params, sizes: Sizes, z: Tensor, sigma: Tensor, lengths: Tensor | None = None) -> Tensor:
    x = F.embedding(z, p["vocab_embed.embedding"])
    for i in range(sizes["blocks"]):
        block = f"blocks.{i}"
        x = x + attention(p, block, layer_norm(p, f"{block}.norm1", x), sizes["heads"], True, None)
        x = x + mlp(p, block, layer_norm(p, f"{block}.norm2", x))
    return linear(p, "output_layer.linear", layer_norm(p, "output_layer.norm_final", x))


# ---------------------------------------------------------------- dimamba
def mamba(p: Params, scan: str, shared: str, u: Tensor) -> Tensor:
    """One direction, position by position; in_proj and out_proj are those of `shared`."""
    x, z = linear(p, f"{shared}.in_proj", u).chunk(2, -1)
    E, R = x.shape[-1], p[f"{scan}.dt_proj.weight"].shape[1]
    x = F.conv1d(
        F.pad(x.transpose(1, 2), (CONV - 1, 0)), p[f"{scan}.conv1d.weight"], p[f"{scan}.conv1d.bias"], groups=E
    )
    x = F.silu(x).transpose(1, 2)
    delta, b, c = linear(p, f"{scan}.x_proj", x).split([R, STATES, STATES], -1)
    delta = F.softplus(linear(p, f"{scan}.dt_proj", delta), threshold=1e9)
    decay = -p[f"{scan}.A_log"].exp()
    state, y = torch.zeros(u.shape[0], E, STATES), []
    for i in range(u.shape[1]):
        state = torch.exp(delta[:, i, :, None] * decay) * state + (delta[:, i] * x[:, i])[..., None] * b[:, i, None]
        y.append(torch.einsum("ben,bn->be", state, c[:, i]))
    y = torch.stack(y, 1) + p[f"{scan}.D"] * x
    return linear(p, f"{shared}.out_proj", y * F.silu(z))


def dimamba(
    p: Params,
    sizes: Sizes,
    z: Tensor,
    sigma: Tensor,
    lengths: Tensor | None = None,
    labels: Tensor | None = None,
) -> Tensor:
    x = F.embedding(z, p[f"{MAMBA}.embeddings.word_embeddings.weight"])
    c = conditioning(p, sigma, labels)
    for i in range(sizes["blocks"]):
        block = f"{MAMBA}.layers.{i}"
        shift, scale, gate = modulation(p, f"{block}.adaLN_modulation", c, 3)
        h = rms_norm(p, f"{block}.norm", x) * (1 + scale) + shift
        forward, reverse = f"{block}.mixer.mamba_fwd", f"{block}.mixer.mamba_rev"
        x = x + gate * (mamba(p, forward, forward, h) + mamba(p, reverse, forward, h.flip(1)).flip(1))
    shift, scale = modulation(p, f"{MAMBA}.adaLN_modulation_final", c, 2)
    return linear(p, "model.lm_head", rms_norm(p, f"{MAMBA}.norm_f", x) * (1 + scale) + shift)


def mamba_difference(p: Params, sizes: Sizes) -> float:
    """Largest difference between `mamba` and the MambaMixer of transformers with the same weights. MambaMixer uses its
    plain PyTorch path here, in double."""
    from transformers import MambaConfig
    from transformers.models.mamba.modeling_mamba import MambaMixer

    D, scan = sizes["width"], f"{MAMBA}.layers.0.mixer.mamba_fwd"
    mixer = MambaMixer(
        MambaConfig(hidden_size=D, state_size=STATES, conv_kernel=CONV, expand=2, time_step_rank="auto"), 0
    )
    mixer.load_state_dict({name.removeprefix(f"{scan}."): w for name, w in p.items() if name.startswith(scan)})
    u = torch.linspace(-2, 2, 3 * sizes["length"] * D).sin().view(3, sizes["length"], D)
    with mock.patch.object(Tensor, "float", Tensor.double), torch.no_grad():
        return (mixer.double().eval()(u) - mamba(p, scan, scan, u)).abs().max().item()


# ---------------------------------------------------------------- gpt2
def gpt2(p: Params, sizes: Sizes, z: Tensor, sigma: Tensor, lengths: Tensor | None = None) -> Tensor:
    """GPT-2 of the transformers library; it stores the Linears of the blocks as [in,out], mdlm as [out,in]."""
    from transformers import GPT2Config, GPT2LMHeadModel

    model = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=sizes["vocab"],
            n_positions=sizes["length"],
            n_embd=sizes["width"],
            n_layer=sizes["blocks"],
            n_head=sizes["heads"],
            n_inner=sizes["mlp_ratio"] * sizes["width"],
            attn_implementation="eager",
        )
    )
    weights = {name: w.T if ".c_" in name and name.endswith("weight") else w for name, w in p.items()}
    model.double().eval().transformer.load_state_dict(weights)
    return model(z).logits


NETWORKS = {"dit": dit, "ar": ar, "dimamba": dimamba, "gpt2": gpt2}
SHAPES = {
    "dit": lambda s: transformer_shapes(s, True),
    "ar": lambda s: transformer_shapes(s, False),
    "dimamba": dimamba_shapes,
    "gpt2": gpt2_shapes,
}
