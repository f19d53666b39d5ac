"""config.json of a hub, one function per public code, with what evaluation needs beyond its own keys."""

from __future__ import annotations

from typing import Any

from mdlm_analysis.blocks import ENDS
from mdlm_analysis.exported import REWEIGHTED, Exported

MAKER = "mdlm-convert"  # in config.json: it may be replaced


def hub(x: Exported, vocab: int) -> dict[str, Any]:
    made = {"gpt2": _gpt2, "bd3lm": _bd3lm, "duo": _duo, "mdlm": _mdlm}[x.kind](x)
    return made | {"vocab_size": vocab, "torch_dtype": "float32", "made_by": MAKER}


def _gpt2(x: Exported) -> dict[str, Any]:
    c = x.checkpoint
    sizes = {"n_embd": x.width, "n_head": x.heads, "n_layer": x.blocks, "n_positions": c.length}
    sizes |= {"n_ctx": c.length, "n_inner": c.shapes["h.0.mlp.c_fc.bias"][0]}
    ends = {f"{role}_token_id": c.vocabulary.attributes[role] for role in ("bos", "eos")}
    usual = {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "activation_function": "gelu_new"}
    return usual | sizes | ends | {"layer_norm_epsilon": 1e-5}


def _sizes(x: Exported, *more: str) -> dict[str, Any]:
    sizes = {"model_length": x.checkpoint.length, "hidden_dim": x.width, "n_blocks": x.blocks, "n_heads": x.heads}
    names = (
        "dropout",
        "schedule",
        "sampling_eps",
        *more,
        *(["schedule_eps"] if x.keys["schedule_eps"] != 1e-3 else []),
    )
    return sizes | {"cond_dim": x.cond} | x.ends() | {name: x.keys[name] for name in names} | {"return_dict": False}


def _code(name: str, repository: str) -> dict[str, Any]:
    kind = name.lower()
    code = {"AutoConfig": f"configuration_{kind}.{name}Config", "AutoModelForMaskedLM": f"modeling_{kind}.{name}"}
    return {"auto_map": {k: f"{repository}--{v}" for k, v in code.items()}, "architectures": [name]}


def _mdlm(x: Exported) -> dict[str, Any]:
    more = ("time_conditioning", "T", "subs_masking", *REWEIGHTED)
    config = {"model_type": "mdlm", "network": x.family.name, "parameterization": x.keys["objective"]}
    return config | _sizes(x, *more) | (_code("MDLM", "kuleshov-group/mdlm-owt") if x.family.name == "dit" else {})


def _bd3lm(x: Exported) -> dict[str, Any]:
    config = {"model_type": "bd3lm", "block_size": x.keys["block"], "cross_attn": True, "adaln": x.family.timed}
    config |= {"causal": False, "attn_backend": "sdpa", "time_conditioning": False, "var_min": True}
    code = _code("BD3LM", "kuleshov-group/bd3lm-owt-block_size4")
    return config | dict(zip(ENDS, x.clip())) | _sizes(x) | code


def _duo(x: Exported) -> dict[str, Any]:
    """Without auto_map: the folder of Duo's hub model names the files of its code."""
    config = {"model_type": "duo", "causal": False, "var_min": False, "architectures": ["DUO"]}
    return config | _sizes(x)
