"""A Lightning checkpoint: what the public code reads of one. Its data begin anew."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from mdlm_analysis.blocks import ENDS
from mdlm_analysis.exported import REWEIGHTED, Exported
from mdlm_analysis.pytorch_write import Lazy


def lightning(x: Exported, live: dict[str, Lazy], average: list[Lazy]) -> dict[str, Any]:
    step = x.checkpoint.step
    progress = {part: {"ready": 0, "started": 0, "processed": 0, "completed": 0} for part in ("total", "current")}
    loops = {"epoch_progress": progress, "epoch_loop.batch_progress": progress}
    loops |= {"state_dict": {}, "epoch_loop.state_dict": {"_batches_that_stepped": step}}
    return {
        "epoch": 0,
        "global_step": step,
        "pytorch-lightning_version": "2.2.1",
        "state_dict": OrderedDict(live),
        "loops": {"fit_loop": loops},
        "callbacks": {},
        "optimizer_states": [],
        "lr_schedulers": [],
        "ema": {"decay": x.decay(), "num_updates": step, "shadow_params": average},
        "hyper_parameters": {"config": {"bd3lm": _bd3lm, "duo": _duo, "mdlm": _mdlm}[x.kind](x)},
    } | {name: live[name] for name in ENDS if name in live}


def _network(x: Exported) -> dict[str, Any]:
    model = {"hidden_size": x.width, "n_blocks": x.blocks, "n_heads": x.heads, "cond_dim": x.cond}
    model |= {"length": x.checkpoint.length, "dropout": x.keys["dropout"], "scale_by_sigma": True}
    return model | {"tie_word_embeddings": False}


def _mdlm(x: Exported) -> dict[str, Any]:
    keys = x.keys
    model = _network(x)
    model |= {"ar": {"causal": True}, "dimamba": {"temb_strategy": "adaln"}}.get(x.family.name, {})
    training = {name: keys[name] for name in ("sampling_eps", *REWEIGHTED)} | {"ema": x.decay()}
    config = {"diffusion": "absorbing_state", "backbone": x.family.name, "parameterization": keys["objective"]}
    config |= {name: keys[name] for name in ("time_conditioning", "T", "subs_masking")}
    return config | {"model": model, "noise": {"type": keys["schedule"]} | x.ends(), "training": training}


def _algorithm(name: str, parameterization: str, timed: bool) -> dict[str, Any]:
    algo = {"name": name, "backbone": "dit", "parameterization": parameterization, "time_conditioning": timed}
    return algo | {"T": 0, "causal_attention": False, "ignore_bos": False}


def _bd3lm(x: Exported) -> dict[str, Any]:
    search = {"clip_search_delta": 0.05, "clip_search_widths": [], "fix_clipping": False}
    algo = _algorithm("bd3lm", "subs", False) | {"cross_attn": True, "var_min": True, "mdlm_loss_scale": False}
    training = {"ema": x.decay(), "sampling_eps": x.keys["sampling_eps"], "resample": False} | dict(zip(ENDS, x.clip()))
    return {
        "block_size": x.keys["block"],
        "algo": algo | search | {"sampler": "semi_ar"},
        "model": _network(x) | {"adaln": True, "attn_backend": "sdpa"},
        "noise": {"type": x.keys["schedule"]} | x.ends(),
        "training": training,
    }


def _duo(x: Exported) -> dict[str, Any]:
    return {
        "algo": _algorithm("duo_base", "mean", True) | {"subs_masking": False, "loss_type": "elbo"},
        "model": _network(x),
        "noise": {"type": "log-linear", "eps": x.keys["schedule_eps"]},
        "prior": {"type": "none"},
        "training": {"ema": x.decay(), "sampling_eps": x.keys["sampling_eps"]},
    }
