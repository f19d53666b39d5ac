#!/usr/bin/env python3
"""make_dit.py — golden values for the DiT, the SUBS loss and the optimizer: an independent implementation in PyTorch, float64.

    python tests/golden/make_dit.py            writes tests/golden/dit.h5, which is committed beside this script
    python tests/golden/make_dit.py --check    compares what is computed now with that file

Needs torch, numpy and h5py; tests/golden/test_dit.c reads the file and needs none of them. Gradients come from autograd, AdamW
and clipping from torch; nothing is shared with the C program but the formulas. Letters: B sequences, L length, V vocabulary
with mask m, D width, H heads of width K, C width of the conditioning.

Layout (float64 unless noted; parameter names keep their dots):
    /             attributes: the sizes and the recipe, see SIZES and RECIPE
    /params/NAME                         the weights: random everywhere, so that every path carries signal, and multiples of
                                         2^-10, so that float32 holds them exactly
    /case0  time_conditioning = false:   the network sees sigma = 0
    /case1  time_conditioning = true:    the network sees sigma(t)
      x0, z [B,L] int32; lengths [B] int32; t, sigma [B]     sigma: what the network sees
      logits [B,L,V]                     raw, before SUBS
      loss_tokens [B,L]                  -w(t) log p(x0) at masked positions, 0 elsewhere; unscored positions are not cleared
      loss                               sum of loss_tokens over scored positions / number of scored positions
      grads/NAME                         d loss / d parameter, dropout off
    /steps  RECIPE's steps on the batch of case0
      loss, norm [steps]                 before each update; norm of the gradient before clipping
      params/NAME, ema/NAME, m/NAME, v/NAME                  after the last
"""
import argparse
import math
import os
import sys

import h5py
import numpy as np
import torch
import torch.nn.functional as F

SIZES = dict(batch=3, length=12, vocab=23, mask=5, width=16, heads=4, blocks=2, cond_dim=4, mlp_ratio=2, seed=1)
RECIPE = dict(steps=10, lr=3e-4, warmup=5, beta1=0.9, beta2=0.999, adam_eps=1e-8, weight_decay=0.01, clip=1.0, ema=0.9999,
              schedule_eps=1e-3, sampling_eps=1e-3)
LENGTHS = [SIZES["length"], SIZES["length"] - 3, SIZES["length"]]  # one padded row
PAD = 0
SINUSOID = 256

Params = dict[str, torch.Tensor]


# ---------------------------------------------------------------- weights and batch
def shapes() -> dict[str, tuple[int, ...]]:
    """Every parameter of the DiT, by name."""
    V, D, C, M = SIZES["vocab"], SIZES["width"], SIZES["cond_dim"], SIZES["mlp_ratio"] * SIZES["width"]
    s = {"vocab_embed.embedding": (V, D),
         "sigma_map.mlp.0.weight": (C, SINUSOID), "sigma_map.mlp.0.bias": (C,),
         "sigma_map.mlp.2.weight": (C, C), "sigma_map.mlp.2.bias": (C,)}
    for i in range(SIZES["blocks"]):
        s |= {f"blocks.{i}.{name}": shape for name, shape in {
            "norm1.weight": (D,), "attn_qkv.weight": (3 * D, D), "attn_out.weight": (D, D), "norm2.weight": (D,),
            "mlp.0.weight": (M, D), "mlp.0.bias": (M,), "mlp.2.weight": (D, M), "mlp.2.bias": (D,),
            "adaLN_modulation.weight": (6 * D, C), "adaLN_modulation.bias": (6 * D,)}.items()}
    s |= {"output_layer.norm_final.weight": (D,), "output_layer.linear.weight": (V, D), "output_layer.linear.bias": (V,),
          "output_layer.adaLN_modulation.weight": (2 * D, C), "output_layer.adaLN_modulation.bias": (2 * D,)}
    return s


def random_params(rng: np.random.RandomState) -> Params:
    """Linear weights N(0, 1/fan_in), biases N(0, 0.3), norms about 1; never zero, on a grid of 2^-10."""
    params = {}
    for name, shape in shapes().items():
        if "norm" in name:
            w = 1 + 0.2 * rng.randn(*shape)
        elif name.endswith("bias"):
            w = 0.3 * rng.randn(*shape)
        else:
            w = rng.randn(*shape) / math.sqrt(1 if "embedding" in name else shape[1])
        w = np.round(w * 1024)
        params[name] = torch.tensor(np.where(w == 0, 1, w) / 1024)
    return params


def random_batch(rng: np.random.RandomState) -> dict[str, torch.Tensor]:
    """x0 without m, t stratified over the batch, z masked with probability (1 - eps) t; pads are noised like all else."""
    B, L, m = SIZES["batch"], SIZES["length"], SIZES["mask"]
    x0 = rng.randint(0, SIZES["vocab"] - 1, (B, L))
    x0[x0 >= m] += 1
    lengths = np.array(LENGTHS)
    x0[np.arange(L) >= lengths[:, None]] = PAD
    u = (rng.rand(B) + np.arange(B)) / B
    t = (1 - RECIPE["sampling_eps"]) * u + RECIPE["sampling_eps"]
    z = np.where(rng.rand(B, L) < (1 - RECIPE["schedule_eps"]) * t[:, None], m, x0)
    scored = np.arange(L) < lengths[:, None]
    assert ((z == m) & scored).any(1).all() and ((z != m) & scored).any() and ((z == m) & ~scored).any()
    return {k: torch.tensor(v) for k, v in dict(x0=x0, z=z, t=t, lengths=lengths).items()}


# ---------------------------------------------------------------- network
def sinusoid(tau: torch.Tensor) -> torch.Tensor:
    angle = tau[:, None] * 10000.0 ** (-torch.arange(SINUSOID // 2, dtype=torch.float64) / (SINUSOID // 2))
    return torch.cat([angle.cos(), angle.sin()], -1)


def linear(p: Params, name: str, x: torch.Tensor) -> torch.Tensor:
    return F.linear(x, p[f"{name}.weight"], p.get(f"{name}.bias"))


def norm_modulated(p: Params, name: str, x: torch.Tensor, shift: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    y = F.layer_norm(x, x.shape[-1:], p[f"{name}.weight"], None, 1e-5)
    return y * (1 + scale[:, None]) + shift[:, None]


def rotary(x: torch.Tensor) -> torch.Tensor:
    """x [B,H,L,K]: the pair (k, k + K/2) at position l turns by l * 10000^(-2k/K), as a complex number."""
    L, K = x.shape[-2:]
    angle = torch.arange(L)[:, None] * 10000.0 ** (-2 * torch.arange(K // 2, dtype=torch.float64) / K)
    turned = torch.complex(x[..., : K // 2], x[..., K // 2:]) * torch.polar(torch.ones_like(angle), angle)
    return torch.cat([turned.real, turned.imag], -1)


def attention(p: Params, block: str, h: torch.Tensor) -> torch.Tensor:
    B, L, D = h.shape
    q, k, v = linear(p, f"{block}.attn_qkv", h).view(B, L, 3, SIZES["heads"], -1).permute(2, 0, 3, 1, 4)
    o = F.scaled_dot_product_attention(rotary(q), rotary(k), v)
    return linear(p, f"{block}.attn_out", o.transpose(1, 2).reshape(B, L, D))


def mlp(p: Params, block: str, h: torch.Tensor) -> torch.Tensor:
    return linear(p, f"{block}.mlp.2", F.gelu(linear(p, f"{block}.mlp.0", h), approximate="tanh"))


def dit(p: Params, z: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """Raw logits [B,L,V] of the tokens z [B,L] at noise level sigma [B]."""
    x = F.embedding(z, p["vocab_embed.embedding"])
    c = F.silu(linear(p, "sigma_map.mlp.2", F.silu(linear(p, "sigma_map.mlp.0", sinusoid(sigma)))))
    for i in range(SIZES["blocks"]):
        block = f"blocks.{i}"
        shift1, scale1, gate1, shift2, scale2, gate2 = linear(p, f"{block}.adaLN_modulation", c).chunk(6, -1)
        x = x + gate1[:, None] * attention(p, block, norm_modulated(p, f"{block}.norm1", x, shift1, scale1))
        x = x + gate2[:, None] * mlp(p, block, norm_modulated(p, f"{block}.norm2", x, shift2, scale2))
    shift, scale = linear(p, "output_layer.adaLN_modulation", c).chunk(2, -1)
    return linear(p, "output_layer.linear", norm_modulated(p, "output_layer.norm_final", x, shift, scale))


# ---------------------------------------------------------------- objective
def loglinear(t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """sigma(t) and its derivative."""
    keep = 1 - (1 - RECIPE["schedule_eps"]) * t
    return -keep.log(), (1 - RECIPE["schedule_eps"]) / keep


def subs_tokens(logits: torch.Tensor, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Loss of SUBS in continuous time at every position, [B,L]: zero where z is not masked (carry-over)."""
    m = SIZES["mask"]
    logits = logits.index_fill(-1, torch.tensor(m), -math.inf)
    nll = F.cross_entropy(logits.transpose(1, 2), batch["x0"], reduction="none")
    sigma, rate = loglinear(batch["t"])
    return torch.where(batch["z"] == m, (rate / torch.expm1(sigma))[:, None] * nll, 0.0)


def batch_loss(tokens: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    scored = torch.arange(tokens.shape[1]) < lengths[:, None]
    return tokens[scored].sum() / lengths.sum()


def run_case(p: Params, batch: dict[str, torch.Tensor], time_conditioning: bool) -> dict:
    p = {name: w.clone().requires_grad_() for name, w in p.items()}
    sigma = loglinear(batch["t"])[0] if time_conditioning else torch.zeros_like(batch["t"])
    logits = dit(p, batch["z"], sigma)
    tokens = subs_tokens(logits, batch)
    loss = batch_loss(tokens, batch["lengths"])
    loss.backward()
    return dict(batch, sigma=sigma, logits=logits, loss_tokens=tokens, loss=loss, grads={k: w.grad for k, w in p.items()})


# ---------------------------------------------------------------- recipe
def run_steps(p: Params, batch: dict[str, torch.Tensor]) -> dict:
    """Clip, AdamW, n += 1, EMA; lr(n) = lr min(1, n/warmup), so the first step only fills the moments and decays nothing."""
    p = {name: w.clone().requires_grad_() for name, w in p.items()}
    ema = {name: w.detach().clone() for name, w in p.items()}
    opt = torch.optim.AdamW(p.values(), lr=RECIPE["lr"], betas=(RECIPE["beta1"], RECIPE["beta2"]), eps=RECIPE["adam_eps"],
                            weight_decay=RECIPE["weight_decay"], foreach=False)
    losses, norms = [], []
    for n in range(RECIPE["steps"]):
        opt.param_groups[0]["lr"] = RECIPE["lr"] * min(1, n / RECIPE["warmup"])
        opt.zero_grad()
        loss = batch_loss(subs_tokens(dit(p, batch["z"], torch.zeros_like(batch["t"])), batch), batch["lengths"])
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(p.values(), RECIPE["clip"]).item())
        losses.append(loss.item())
        opt.step()
        decay = min(RECIPE["ema"], (1 + n + 1) / (10 + n + 1))
        for name, w in p.items():
            ema[name] = decay * ema[name] + (1 - decay) * w.detach()
    return dict(loss=torch.tensor(losses, dtype=torch.float64), norm=torch.tensor(norms, dtype=torch.float64), params=p, ema=ema,
                m={k: opt.state[w]["exp_avg"] for k, w in p.items()}, v={k: opt.state[w]["exp_avg_sq"] for k, w in p.items()})


# ---------------------------------------------------------------- file
def write(group: h5py.Group, tree: dict) -> None:
    for name, value in tree.items():
        if isinstance(value, dict):
            write(group.create_group(name), value)
            continue
        a = value.detach().numpy()
        a = a.astype(np.int32) if a.dtype == np.int64 else a
        packed = dict(chunks=a.shape, compression="gzip", compression_opts=9, shuffle=True) if a.size >= 1000 else {}
        group.create_dataset(name, data=a, **packed)


def compare(group: h5py.Group, tree: dict) -> float:
    """Largest difference, relative to the largest magnitude of its data set."""
    worst = 0.0
    for name, value in tree.items():
        if isinstance(value, dict):
            worst = max(worst, compare(group[name], value))
        else:
            a, b = value.detach().numpy(), group[name][()]
            worst = max(worst, float(np.abs(a - b).max() / max(np.abs(b).max(), 1e-300)))
    return worst


def main() -> int:
    ap = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ap.add_argument("--output", default=os.path.join(os.path.dirname(os.path.abspath(__file__)), "dit.h5"))
    ap.add_argument("--check", action="store_true", help="compare with the file in place of writing it")
    args = ap.parse_args()
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    rng = np.random.RandomState(SIZES["seed"])  # its streams are frozen over numpy's versions
    batch, params = random_batch(rng), random_params(rng)
    tree = dict(params=params, case0=run_case(params, batch, False), case1=run_case(params, batch, True),
                steps=run_steps(params, batch))
    if args.check:
        with h5py.File(args.output) as f:
            worst = compare(f, tree)
        print(f"{args.output}: largest relative difference {worst:.1e}")
        return worst > 1e-11
    with h5py.File(args.output, "w", libver=("v108", "v108")) as f:  # the format that mdlm reads
        f.attrs.update({**{k: np.int64(v) for k, v in SIZES.items()}, **{k: v for k, v in RECIPE.items()}})
        write(f, tree)
    print(f"{args.output}: {os.path.getsize(args.output)} bytes, loss {tree['case0']['loss']:.6f} and {tree['case1']['loss']:.6f}, "
          f"gradient norm {tree['steps']['norm'][0]:.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
