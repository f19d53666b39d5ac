#!/usr/bin/env python3
"""make_golden.py — golden values of every network, objective and recipe, computed independently in PyTorch in float64.

    python tests/golden/make_golden.py [FAMILY…]            writes FAMILY.h5 (dit block classes ar dimamba gpt2) to this folder
    python tests/golden/make_golden.py --check [FAMILY…]    compares new values with those files

Needs torch, transformers, numpy and h5py. The C tests only read the files, which are committed. Gradients come from
autograd, AdamW and clipping from torch, GPT-2 from transformers; only the formulas are shared with the C program.
Letters: B sequences, L length, V vocabulary with mask m.

Layout of a file (float64 unless noted; parameter names keep their dots):
    /             attributes: the network, its sizes (SIZES) and the recipe (RECIPE)
    /params/NAME                         the weights: random everywhere, multiples of 2^-10
    /lengths [B] int32                   real positions
    /labels [B] int32                    with the attribute classes: the class of each sequence, -1: none
    /cases/CASE   attributes: objective, schedule and the options of CASE
      x0, z [B,L] int32                  clean and noisy tokens
      times [4,B]                        u uniform; t, the objective's time for u; the probability of a mask at t; the
                                         network's input sigma, which is 0 without time_conditioning. In block
                                         diffusion (attribute block) [4, B · blocks]: each block has its own time
      logits [B,L,V]                     raw; 0 at padding that is hidden from attention
      log_p [B,L,V]                      log p(x0 | z); for sedd the log score
      loss [B]                           of each sequence: the sum over its scored positions, nat
      grads [N]                          of the sum of loss / number of scored positions, without dropout; parameters
                                         one after another, sorted by name
    /steps/STEPS  attributes: case (whose batch is used), lr_schedule
      loss, norm [steps]                 before each update: loss per scored position; gradient norm before clipping
      params, ema, m, v [N]              after the last step; some or all are left out to keep files small
"""

import argparse
import os
import sys
from collections.abc import Callable
from functools import partial

import h5py
import numpy as np
import torch
from networks import NETWORKS, SHAPES, Params, block_dit, mamba_difference, random_params
from objectives import EPS, LOG_P, LOSS, SIGMA_MIN, at_positions, chance_of, d3pm_reconstruction, noise, time_of
from recipe import RECIPE, run_steps

BATCH, LENGTH, LENGTHS, PAD = 3, 8, [8, 5, 8], 0  # one padded row
LABELS = [2, -1, 0]
SIZES = dict(batch=BATCH, length=LENGTH, vocab=13, mask=4, width=8, heads=2, blocks=2, cond_dim=2, mlp_ratio=2)
# gradient: store gradients and log_p; u: given if the extreme times matter, otherwise stratified
CASE = dict(
    objective="subs",
    schedule="loglinear",
    T=0,
    time_conditioning=False,
    mask_padding=False,
    subs_masking=False,
    importance_sampling=False,
    change_of_variables=False,
    gradient=False,
    u=None,
)
ENDS = [0.013, 0.52, 0.99]  # with T = 50: t = 1/T, 27/T, 1
TIMED = dict(time_conditioning=True)
FAMILIES = {
    "dit": dict(
        sizes=SIZES,
        seed=1,
        cases={
            "subs": dict(gradient=True),
            "subs_time": dict(gradient=True, **TIMED),
            "subs_T": dict(T=50, u=ENDS, **TIMED),
            "subs_importance_sampling": dict(importance_sampling=True, **TIMED),
            "subs_change_of_variables": dict(change_of_variables=True, gradient=True, **TIMED),
            "subs_linear": dict(schedule="linear", **TIMED),
            "subs_linear_importance_sampling": dict(schedule="linear", importance_sampling=True, **TIMED),
            "subs_linear_change_of_variables": dict(schedule="linear", change_of_variables=True, **TIMED),
            "subs_geometric": dict(schedule="geometric", **TIMED),
            "subs_cosine": dict(schedule="cosine", **TIMED),
            "subs_cosinesqr": dict(schedule="cosinesqr", **TIMED),
            "subs_mask_padding": dict(mask_padding=True, gradient=True),
            "d3pm": dict(objective="d3pm", T=50, u=ENDS, gradient=True, **TIMED),
            "d3pm_subs_masking": dict(objective="d3pm", T=50, u=ENDS, subs_masking=True, gradient=True, **TIMED),
            "sedd": dict(objective="sedd", gradient=True, **TIMED),
            "sedd_untimed": dict(objective="sedd"),
            "sedd_geometric": dict(objective="sedd", schedule="geometric", **TIMED),
            "uniform": dict(objective="uniform", gradient=True, **TIMED),
            "uniform_geometric": dict(objective="uniform", schedule="geometric", gradient=True, **TIMED),
        },
        steps={
            "subs": dict(case="subs", lr_schedule="constant", state=["params", "ema", "m", "v"]),
            "subs_cosine": dict(case="subs", lr_schedule="cosine", state=["params"]),
            "d3pm": dict(case="d3pm", lr_schedule="constant", state=[]),
            "sedd": dict(case="sedd", lr_schedule="constant", state=[]),
            "uniform": dict(case="uniform", lr_schedule="constant", state=[]),
        },
    ),
    "block": dict(
        network="dit",
        sizes=SIZES,
        seed=5,
        cases={
            "block_2": dict(block=2, gradient=True),
            "block_4": dict(block=4, gradient=True),
            "block_8": dict(block=8),
            "block_2_linear": dict(block=2, schedule="linear"),
        },
        steps={"block_2": dict(case="block_2", lr_schedule="constant", state=["params"])},
    ),
    "classes": dict(
        network="dit",
        sizes=SIZES | dict(classes=3),
        seed=6,
        cases={
            "subs": dict(gradient=True),
            "subs_time": dict(gradient=True, **TIMED),
            "d3pm": dict(objective="d3pm", T=50, u=ENDS, gradient=True, **TIMED),
            "uniform": dict(objective="uniform", gradient=True, **TIMED),
        },
        steps={"subs": dict(case="subs", lr_schedule="constant", state=["params"])},
    ),
    "ar": dict(
        sizes=SIZES | dict(width=16),
        seed=2,
        cases={
            "ar": dict(objective="ar", gradient=True),
        },
        steps={"ar": dict(case="ar", lr_schedule="constant", state=["params"])},
    ),
    "dimamba": dict(
        sizes=SIZES | dict(width=24),
        seed=3,
        cases={
            "subs": dict(),
            "subs_time": dict(gradient=True, **TIMED),
        },
        steps={"subs": dict(case="subs", lr_schedule="constant", state=[])},
    ),
    "gpt2": dict(sizes=SIZES | dict(width=16, mlp_ratio=4), seed=4, cases={"ar": dict(objective="ar")}, steps={}),
}


# ---------------------------------------------------------------- batches
def random_batch(rng: np.random.RandomState, sizes: dict, case: dict) -> dict[str, torch.Tensor]:
    """x0 without m; z is masked with the probability at t, but at least 0.3. It is redrawn until each row has a masked
    real position, some real positions are visible and a padding position is masked. ar: z = x0, t = 0. uniform: random
    tokens instead of m."""
    B, L, m = sizes["batch"], sizes["length"], sizes["mask"]
    scored = np.arange(L) < np.array(LENGTHS)[:, None]
    x0 = rng.randint(0, sizes["vocab"] - 1, (B, L))
    x0[x0 >= m] += 1
    x0[~scored] = PAD
    cells = B * (L // case.get("block", L))
    u = case["u"] or (rng.rand(cells) + np.arange(cells)) / cells
    if "block" in case:
        u = rng.permutation(u).reshape(B, -1)
    u = torch.tensor(u) if case["objective"] != "ar" else torch.zeros(B)
    t = time_of(case, u)
    chance = chance_of(case, t)
    least = np.maximum(0.3, at_positions(case, chance, L).numpy())
    masked = np.zeros((B, L), bool)
    while case["objective"] != "ar":
        masked = rng.rand(B, L) < least
        if (masked & scored).any(1).all() and (~masked & scored).sum() > 3 and (masked & ~scored).any():
            break
    z = np.where(masked, m, x0)
    if case["objective"] == "uniform":  # other tokens than m
        replaced = rng.randint(0, sizes["vocab"] - 1, (B, L))
        z = np.where(masked, replaced + (replaced >= m), x0)
    sigma = t if case["change_of_variables"] else noise(case["schedule"], t)[0]
    sigma = sigma if case["time_conditioning"] else torch.zeros_like(t)
    return dict(x0=torch.tensor(x0), z=torch.tensor(z), times=torch.stack([u, t, chance, sigma]).flatten(1))


# ---------------------------------------------------------------- one case
def case_loss(network: Callable, sizes: dict, case: dict, batch: dict, p: Params) -> tuple[dict, torch.Tensor]:
    """Logits, log_p and losses under the weights p; and the loss per scored position."""
    m, x0, z, lengths = sizes["mask"], batch["x0"], batch["z"], torch.tensor(LENGTHS)
    if "classes" in sizes:
        network = partial(network, labels=torch.tensor(LABELS))
    _, t, _, sigma = batch["times"].view(4, len(x0), -1).squeeze(-1)
    hidden = lengths if case["mask_padding"] else None
    logits = block_dit(p, sizes, z, x0, case["block"]) if "block" in case else network(p, sizes, z, sigma, hidden)
    tokens = LOSS[case["objective"]](case, logits, x0, z, t, m)
    log_p = LOG_P[case["objective"]](case, logits, z, t, m)
    if case["objective"] == "d3pm":  # a second pass over the clean tokens
        tokens = tokens + d3pm_reconstruction(case, network(p, sizes, x0, torch.zeros_like(t), hidden), x0, m)
    real = torch.arange(sizes["length"]) < lengths[:, None]
    n = lengths - 1 if case["objective"] == "ar" else lengths
    sequences = torch.where(torch.arange(sizes["length"]) < n[:, None], tokens, 0.0).sum(1)
    if case["mask_padding"]:
        logits, log_p = (torch.where(real[..., None], x, 0.0) for x in (logits, log_p))
    return dict(logits=logits, log_p=log_p, loss=sequences), sequences.sum() / n.sum()


def run_case(network: Callable, sizes: dict, case: dict, batch: dict, params: Params) -> dict:
    p = {name: w.clone().requires_grad_(case["gradient"]) for name, w in params.items()}
    result, loss = case_loss(network, sizes, case, batch, p)
    if not case["gradient"]:
        result.pop("log_p")
        return batch | result
    loss.backward()
    return batch | result | dict(grads=flat({name: w.grad for name, w in p.items()}))


def flat(values: Params) -> torch.Tensor:
    return torch.cat([values[name].flatten() for name in sorted(values)])


def attributes(values: dict) -> dict:
    return {name: np.int64(v) if isinstance(v, (bool, int)) else v for name, v in values.items()}


def run_family(name: str, family: dict) -> dict:
    """The contents of the file as a tree; the key '' holds attributes."""
    rng = np.random.RandomState(family["seed"])  # its streams are the same in all versions of numpy
    kind = family.get("network", name)
    sizes, network = family["sizes"], NETWORKS[kind]
    params = random_params(rng, SHAPES[kind](sizes))
    recipe = RECIPE | dict(schedule_eps=EPS, sigma_min=SIGMA_MIN)
    tree = {
        "": attributes(dict(network=kind) | sizes | recipe),
        "params": params,
        "lengths": torch.tensor(LENGTHS),
        **({"labels": torch.tensor(LABELS)} if "classes" in sizes else {}),
        "cases": {},
        "steps": {},
    }
    batches = {}
    for title, changes in family["cases"].items():
        case = CASE | changes
        batches[title] = case, random_batch(rng, sizes, case)
        described = {k: v for k, v in case.items() if k not in ("gradient", "u")}
        tree["cases"][title] = {"": attributes(described)} | run_case(network, sizes, *batches[title], params)
    for title, steps in family["steps"].items():
        case, batch = batches[steps["case"]]
        result = run_steps(
            params, lambda p, case=case, batch=batch: case_loss(network, sizes, case, batch, p)[1], steps["lr_schedule"]
        )
        tree["steps"][title] = {
            "": dict(case=steps["case"], lr_schedule=steps["lr_schedule"]),
            "loss": result["loss"],
            "norm": result["norm"],
            **{k: flat(result[k]) for k in steps["state"]},
        }
    return tree


# ---------------------------------------------------------------- file
def array(value: torch.Tensor) -> np.ndarray:
    a = value.detach().numpy()
    return a.astype(np.int32) if a.dtype == np.int64 else a


def write(group: h5py.Group, tree: dict) -> None:
    for name, value in tree.items():
        if name == "":
            group.attrs.update(value)
        elif isinstance(value, dict):
            write(group.create_group(name), value)
        else:
            a = array(value)
            packed = dict(chunks=a.shape, compression="gzip", compression_opts=9, shuffle=True) if a.size >= 500 else {}
            group.create_dataset(name, data=a, **packed)


def difference(group: h5py.Group, tree: dict) -> float:
    """Largest difference, relative to the largest magnitude of its data set; infinite if anything is missing."""
    worst = 0.0 if set(group) == set(tree) - {""} else np.inf
    for name, value in tree.items():
        if name == "":
            same = set(group.attrs) == set(value) and all(group.attrs[k] == v for k, v in value.items())
            worst = worst if same else np.inf
        elif isinstance(value, dict):
            worst = max(worst, difference(group[name], value))
        else:
            a, b = array(value), group[name][()]
            if a.shape != b.shape or (np.isfinite(a) != np.isfinite(b)).any():
                return np.inf
            a, b = np.where(np.isfinite(a), a, 0), np.where(np.isfinite(b), b, 0)
            worst = max(worst, float(np.abs(a - b).max() / max(np.abs(b).max(), 1e-300)))
    return worst


def main() -> int:
    ap = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ap.add_argument("family", nargs="*", help=f"of {' '.join(FAMILIES)}; none: all")
    ap.add_argument("--check", action="store_true", help="compare with the files in place of writing them")
    args = ap.parse_args()
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    failed = False
    for name in args.family or FAMILIES:
        path = os.path.join(os.path.dirname(os.path.abspath(__file__)), f"{name}.h5")
        tree = run_family(name, FAMILIES[name])
        if name == "dimamba":
            off = mamba_difference(tree["params"], FAMILIES[name]["sizes"])
            print(f"one direction of Mamba differs from transformers' by {off:.1e}")
            failed |= not off < 1e-13
        if args.check:
            with h5py.File(path) as f:
                worst = difference(f, tree)
            print(f"{path}: largest relative difference {worst:.1e}")
            failed |= not worst < 1e-11
            continue
        with h5py.File(path, "w", libver=("v108", "v108")) as f:  # the format that mdlm reads
            write(f, tree)
        losses = ", ".join(f"{k} {v['loss'].sum():.3f}" for k, v in tree["cases"].items())
        norms = ", ".join(f"{k} {v['norm'][0]:.2f}" for k, v in tree["steps"].items())
        print(f"{path}: {os.path.getsize(path)} bytes; nats {losses}; gradient norms {norms}")
    return failed


if __name__ == "__main__":
    sys.exit(main())
