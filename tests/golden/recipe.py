"""recipe.py — ten optimizer steps with PyTorch's own AdamW and clipping: clip, AdamW, n += 1, moving average."""

import math
from collections.abc import Callable

import torch

RECIPE = dict(
    lr=3e-4,
    lr_min=1e-6,
    warmup=5,
    steps=10,
    beta1=0.9,
    beta2=0.999,
    adam_eps=1e-8,
    weight_decay=0.01,
    clip=1.0,
    ema=0.9999,
)

Params = dict[str, torch.Tensor]


def rate(schedule: str, n: int) -> float:
    """constant: linear from 0 in `warmup` steps. cosine: linear from lr_min in a tenth of the steps, then a cosine down
    to lr_min."""
    lr, low, steps = RECIPE["lr"], RECIPE["lr_min"], RECIPE["steps"]
    if schedule == "constant":
        return lr * min(1, n / RECIPE["warmup"])
    warm = steps / 10
    if n < warm:
        return low + (lr - low) * n / warm
    return low + (lr - low) * (1 + math.cos(math.pi * (n - warm) / (steps - warm))) / 2


def run_steps(params: Params, loss_of: Callable[[Params], torch.Tensor], schedule: str) -> dict:
    """Loss and gradient norm (before clipping) of each step; weights, average and moments after the last."""
    p = {name: w.clone().requires_grad_() for name, w in params.items()}
    ema = {name: w.detach().clone() for name, w in p.items()}
    opt = torch.optim.AdamW(
        p.values(),
        lr=RECIPE["lr"],
        betas=(RECIPE["beta1"], RECIPE["beta2"]),
        eps=RECIPE["adam_eps"],
        weight_decay=RECIPE["weight_decay"],
        foreach=False,
    )
    losses, norms = [], []
    for n in range(RECIPE["steps"]):
        opt.param_groups[0]["lr"] = rate(schedule, n)
        opt.zero_grad()
        loss = loss_of(p)
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(p.values(), RECIPE["clip"]).item())
        losses.append(loss.item())
        opt.step()
        decay = min(RECIPE["ema"], (1 + n + 1) / (10 + n + 1))
        for name, w in p.items():
            ema[name] = decay * ema[name] + (1 - decay) * w.detach()
    assert max(norms) > RECIPE["clip"]  # something is clipped
    return dict(
        loss=torch.tensor(losses),
        norm=torch.tensor(norms),
        params=p,
        ema=ema,
        m={k: opt.state[w]["exp_avg"] for k, w in p.items()},
        v={k: opt.state[w]["exp_avg_sq"] for k, w in p.items()},
    )
