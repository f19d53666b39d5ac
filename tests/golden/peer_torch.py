#!/usr/bin/env python3
"""peer_torch.py — the training step of MDLM (dit, subs) in PyTorch at the shapes of tests/bench, for comparison.

    peer_torch.py [--shape small1024] [--device cuda] [--matmul bf16] [--variants eager:full,compile:masked]
                  [--micros 1] [--steps 10] [--no-look]
    peer_torch.py --check          this step's logits, losses and gradients beside those of tests/golden/dit.h5, in float64

The network is that of tests/golden/networks.py, with rotary in real numbers and dropout; attention is PyTorch's fused one.
Products run in bf16 by autocast over float32 weights; AdamW is the fused one; the moving average and clipping go over all
weights at once. A step takes --micros micro-batches. Variants are MODE:HEAD. MODE: eager; compile; autotune, compile with
kernels chosen by timing, which takes minutes. HEAD: full makes logits of every row, masked only of as many rows as are masked
at the most, the rest of them with weight 0. Where memory does not suffice, the micro-batch is halved and gradients are
accumulated, so that a step stays a step. One JSON object a line, printed as soon as its variant is measured; seconds are the
median of the steps. look_s are those of one pass without gradients and head, from weights in bf16, compiled into a CUDA graph
unless MODE is eager; --no-look leaves these passes out.
"""

from __future__ import annotations

import argparse
import functools
import json
import statistics
import sys
import time
from pathlib import Path

import networks
import torch
import torch.nn.functional as F
from torch import Tensor

SHAPES = {  # as in tests/bench/bench.c: width, blocks, heads, cond_dim, vocab, length, batch on a GPU
    "demo": (128, 3, 4, 32, 512, 16, 8),
    "tiny": (256, 6, 4, 128, 4096, 128, 16),
    "small128": (768, 12, 12, 128, 30522, 128, 256),
    "small1024": (768, 12, 12, 128, 50258, 1024, 64),
    "medium1024": (1024, 24, 16, 128, 50258, 1024, 32),
}
COMPILE: dict[str, dict] = {"compile": {}, "autotune": {"mode": "max-autotune-no-cudagraphs"}}
VARIANTS = "eager:full,eager:masked,compile:full,compile:masked"
DROPOUT, EPS, TAU, EMA, CLIP, LR = 0.1, 1e-3, 1e-3, 0.9999, 1.0, 3e-4
WARM_UP = 3


@functools.cache
def turns(L: int, K: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosines and sines [L,K/2], computed once."""
    real = torch.float64 if dtype == torch.float64 else torch.float32
    angle = torch.arange(L, device=device, dtype=real)[:, None] * 10000.0 ** (
        -2 * torch.arange(K // 2, device=device, dtype=real) / K
    )
    return angle.cos().to(dtype), angle.sin().to(dtype)


def rotary(x: Tensor) -> Tensor:
    """networks.rotary in real arithmetic: (a, b) becomes (a cos - b sin, b cos + a sin)."""
    # the compiler traces the plain function, without the cache
    made = turns.__wrapped__ if torch.compiler.is_compiling() else turns
    cos, sin = made(*x.shape[-2:], x.dtype, x.device)
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)


def hidden(p: networks.Params, sizes: networks.Sizes, z: Tensor, dropout: float) -> Tensor:
    """The rows before the head; without time conditioning every sequence sees sigma = 0."""
    sigma = torch.zeros(1, device=z.device, dtype=p["vocab_embed.embedding"].dtype)
    return networks.dit_hidden(p, sizes, z, sigma, dropout=lambda x: F.dropout(x, dropout, dropout > 0))


def row_losses(p: networks.Params, h: Tensor, target: Tensor, m: int) -> Tensor:
    """-log p(x0 | z) of rows h [R,D]; the mask is forbidden through its bias, which saves a pass over the logits."""
    bias = p["output_layer.linear.bias"]
    forbidden = torch.where(torch.arange(bias.numel(), device=h.device) == m, -torch.inf, 0.0).to(bias.dtype)
    return F.cross_entropy(F.linear(h, p["output_layer.linear.weight"], bias + forbidden), target, reduction="none")


def loss(
    p: networks.Params, sizes: networks.Sizes, x0: Tensor, z: Tensor, weight: Tensor, head: str, dropout: float
) -> Tensor:
    """The sum of losses over a batch; weight [B,L] is 1/t at masked positions, otherwise 0."""
    h = hidden(p, sizes, z, dropout).flatten(0, 1)
    target, weight = x0.flatten(), weight.flatten()
    if head == "masked":  # the largest number of masks with stratified times, to keep shapes static
        rows = torch.argsort((weight == 0).to(torch.int8), stable=True)[: capacity(sizes, weight.numel())]
        h, target, weight = h[rows], target[rows], weight[rows]
    return (row_losses(p, h, target, sizes["mask"]) * weight).sum()


def capacity(sizes: networks.Sizes, rows: int) -> int:
    """The most rows that can be masked: half of them plus five standard deviations, rounded up to a multiple of 128."""
    most = rows / 2 + 5 * (rows / 6) ** 0.5 + rows / (2 * (rows // sizes["length"]))
    return min(rows, -(-int(most) // 128) * 128)


def noise(x0: Tensor, m: int) -> tuple[Tensor, Tensor]:
    """Masked tokens and their weights; the times are stratified over the batch."""
    B = x0.shape[0]
    u = (torch.rand(B, device=x0.device) + torch.arange(B, device=x0.device)) / B
    t = ((1 - TAU) * u + TAU)[:, None]
    masked = torch.rand(x0.shape, device=x0.device) < (1 - EPS) * t
    return torch.where(masked, m, x0), torch.where(masked, 1 / t, 0)


def initial(sizes: networks.Sizes, device: str) -> networks.Params:
    params = {}
    for name, shape in networks.SHAPES["dit"](sizes).items():
        w = (
            torch.ones(shape, device=device)
            if len(shape) == 1 and "norm" in name
            else torch.zeros(shape, device=device)
        )
        if not ("adaLN" in name or name.startswith("output_layer.linear") or "norm" in name):
            bound = shape[-1] ** -0.5
            w.uniform_(-bound, bound)
        params[name] = w.requires_grad_()
    return params


class Step:
    def __init__(self, shape: str, device: str, matmul: str, mode: str, head: str, micros: int, parts: int, B: int):
        D, blocks, heads, C, V, L = SHAPES[shape][:6]
        self.sizes = dict(width=D, blocks=blocks, heads=heads, cond_dim=C, vocab=V, length=L, mlp_ratio=4, mask=V - 1)
        self.device, self.bf16, self.head, self.parts, self.n = device, matmul == "bf16", head, micros * parts, 0
        torch.manual_seed(1)
        self.params = initial(self.sizes, device)
        self.list = list(self.params.values())
        self.ema = [w.detach().clone() for w in self.list]
        self.optimizer = torch.optim.AdamW(self.list, lr=LR, betas=(0.9, 0.999), weight_decay=0, fused=device != "cpu")
        self.loss = loss if mode == "eager" else torch.compile(loss, fullgraph=True, dynamic=False, **COMPILE[mode])
        self.x0 = torch.randint(V - 1, (micros * B, L), device=device)

    def run(self) -> None:
        for x0 in self.x0.chunk(self.parts):
            z, weight = noise(x0, self.sizes["mask"])
            with torch.autocast(self.device.split(":")[0], torch.bfloat16, enabled=self.bf16):
                out = self.loss(self.params, self.sizes, x0, z, weight, self.head, DROPOUT)
            (out / self.x0.numel()).backward()
        torch.nn.utils.clip_grad_norm_(self.list, CLIP, foreach=True)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.n += 1
        with torch.no_grad():
            torch._foreach_lerp_(self.ema, self.list, 1 - min(EMA, (1 + self.n) / (10 + self.n)))


def seconds_of(step: Step, steps: int) -> list[float]:
    if step.device == "cpu":
        times = []
        for _ in range(WARM_UP + steps):
            start = time.perf_counter()
            step.run()
            times.append(time.perf_counter() - start)
        return times[WARM_UP:]
    marks = [torch.cuda.Event(enable_timing=True) for _ in range(WARM_UP + steps + 1)]
    marks[0].record()
    for mark in marks[1:]:
        step.run()
        mark.record()
    torch.cuda.synchronize()
    return [a.elapsed_time(b) / 1000 for a, b in zip(marks[WARM_UP:], marks[WARM_UP + 1 :])]


def look_seconds(step: Step, B: int, mode: str) -> float:
    """Median seconds of one forward pass without gradients and without the head; weights are cast beforehand."""
    call = hidden if mode == "eager" else torch.compile(hidden, fullgraph=True, dynamic=False, mode="reduce-overhead")
    params = {
        name: w.detach().to(torch.bfloat16 if step.bf16 and w.dim() > 1 and "embed" not in name else w.dtype)
        for name, w in step.params.items()
    }
    for w in params.values():
        torch._dynamo.mark_static_address(w)  # so that a CUDA graph does not copy them
    times = []
    with torch.no_grad(), torch.autocast(step.device.split(":")[0], torch.bfloat16, enabled=step.bf16):
        for _ in range(WARM_UP + 9):
            start = time.perf_counter()
            call(params, step.sizes, step.x0[:B], 0.0)
            if step.device != "cpu":
                torch.cuda.synchronize()
            times.append(time.perf_counter() - start)
    return statistics.median(times[WARM_UP:])


def measure(o: argparse.Namespace, mode: str, head: str) -> dict:
    batch, parts = o.batch or SHAPES[o.shape][6], 1
    while True:
        try:
            torch._dynamo.reset()
            if o.device != "cpu":
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats()
            step = Step(o.shape, o.device, o.matmul, mode, head, o.micros, parts, batch)
            times = seconds_of(step, o.steps)
            break
        except torch.OutOfMemoryError:
            step, parts = None, 2 * parts
            if parts > batch:
                raise
    median = statistics.median(times)
    result = dict(
        peer="torch",
        mode=mode,
        head=head,
        shape=o.shape,
        matmul=o.matmul,
        batch=batch // parts,
        micros=step.parts,
        step_s=median,
        least_s=min(times),
        most_s=max(times),
        tokens_per_s=step.x0.numel() / median,
        torch=torch.__version__,
    )
    if o.device != "cpu":
        result |= dict(peak_bytes=torch.cuda.max_memory_allocated(), gpu=torch.cuda.get_device_name())
    if head == "masked" and not o.no_look:
        result |= dict(
            look_1_s=look_seconds(step, 1, mode),
            look_batch=min(64, batch),
            look_batch_s=look_seconds(step, min(64, batch), mode),
        )
    return result


def check() -> int:
    import h5py
    import numpy as np

    torch.set_default_dtype(torch.float64)
    with h5py.File(Path(__file__).resolve().parent / "dit.h5") as f:
        sizes = {
            k: int(f.attrs[k]) for k in ("vocab", "width", "heads", "blocks", "cond_dim", "mlp_ratio", "length", "mask")
        }
        params = {k: torch.tensor(w[()]).requires_grad_() for k, w in f["params"].items()}
        case = f["cases/subs"]
        x0, z, t = (
            torch.tensor(case["x0"][()]).long(),
            torch.tensor(case["z"][()]).long(),
            torch.tensor(case["times"][1]),
        )
        lengths, want = torch.tensor(f["lengths"][()]), {k: case[k][()] for k in ("logits", "loss", "grads")}
    real = torch.arange(sizes["length"]) < lengths[:, None]
    weight = torch.where((z == sizes["mask"]) & real, 1 / t[:, None], 0.0)
    logits = networks.linear(params, "output_layer.linear", hidden(params, sizes, z, 0))
    worst = {"logits": (logits.detach().numpy() - want["logits"])}
    for head in ("full", "masked"):
        out = loss(params, sizes, x0, z, weight, head, 0) / real.sum()
        grads = torch.autograd.grad(out, [params[k] for k in sorted(params)])
        worst[f"loss, {head} head"] = out.item() - want["loss"].sum() / real.sum().item()
        worst[f"gradients, {head} head"] = torch.cat([g.flatten() for g in grads]).numpy() - want["grads"]
    for name, off in worst.items():
        print(f"{name}: off by {np.abs(off).max():.1e}")
    return int(max(np.abs(off).max() for off in worst.values()) > 1e-12)


def main() -> int:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--shape", choices=SHAPES, default="small1024")
    p.add_argument("--device", default="cuda")
    p.add_argument("--matmul", choices=["bf16", "f32"], default="bf16")
    p.add_argument("--variants", default=VARIANTS)
    p.add_argument("--micros", type=int, default=1)
    p.add_argument("--batch", type=int, help="sequences of a micro-batch; by default those of a GPU")
    p.add_argument("--steps", type=int, default=10)
    p.add_argument("--no-look", action="store_true")
    p.add_argument("--check", action="store_true")
    o = p.parse_args()
    networks.rotary = rotary
    if o.check:
        return check()
    torch.backends.cuda.matmul.allow_tf32 = False
    for variant in o.variants.split(","):
        print(json.dumps(measure(o, *variant.split(":"))), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
