"""The config.json that lies beside weights of other programs, one function per kind; and a .ckpt's hyper-parameters."""

from __future__ import annotations

from typing import Any

from mdlm_analysis.blocks import clip_of, noise_of
from mdlm_analysis.hyper_parameters import from_hyper_parameters
from mdlm_analysis.reader import Reader, Settings
from mdlm_analysis.tensors import Tensor
from mdlm_data.errors import InputError, require


def from_config(config: dict[str, Any], name: str, live: dict[str, Tensor]) -> Settings:
    """live: the tensors of the file, whose buffers may tell more."""
    kind = config.get("model_type")
    if kind is None:
        return from_hyper_parameters(config, name, live)
    readers = {"mdlm": _mdlm, "bd3lm": _bd3lm, "duo": _duo, "udlm": _udlm, "gpt2": _gpt2}
    word = kind.lower() if isinstance(kind, str) else ""
    if word not in readers:
        raise InputError(
            f"{name}: model_type is {kind}; mdlm-convert knows {', '.join(readers)}; move the file away if "
            "the weights are another network's"
        )
    where = Reader(config, name)
    return _bd3lm(where, live) if word == "bd3lm" else readers[word](where)


def _sizes(where: Reader) -> dict[str, Any]:
    return {
        "heads": where.number("n_heads"),
        "length": where.number("model_length"),
        "dropout": where.real("dropout"),
        "vocab": where.number("vocab_size"),
        "width": where.number("hidden_dim"),
        "blocks": where.number("n_blocks"),
    } | _added(where)


def _added(where: Reader) -> dict[str, Any]:
    """What our export adds to every kind."""
    reals = {name: where.real(name) for name in ("schedule_eps", "sigma_min", "sigma_max", "sampling_eps")}
    return {"schedule": where.schedule("schedule")} | reals


def _mdlm(where: Reader) -> Settings:
    return Settings(
        **_sizes(where),
        objective=where.word("parameterization") or "subs",
        time_conditioning=where.flag("time_conditioning"),
        T=where.number("T") or 0,
        subs_masking=where.flag("subs_masking"),
        change_of_variables=where.flag("change_of_variables"),
        importance_sampling=where.flag("importance_sampling"),
    )


def _bd3lm(where: Reader, live: dict[str, Tensor]) -> Settings:
    """BD3-LM, and its mdlm, sedd and ar, which have no cross_attn. Which of mdlm and sedd it is, is not told."""
    causal, timed = bool(where.flag("causal")), where.flag("time_conditioning")
    crossed, bare = where.flag("cross_attn") is not False, where.flag("adaln") is False
    require(not causal or bare, f"{where.name}: causal and adaln are true; mdlm has causal networks without adaLN only")
    require(
        causal or crossed or not bare,
        f"{where.name}: causal, cross_attn and adaln are false; mdlm has networks without adaLN that are causal or in "
        "blocks only",
    )
    if causal:
        return Settings(**_sizes(where), objective="ar")
    block = where.number("block_size") if crossed else 0
    found = noise_of(where, bool(timed), False, None)
    clip = clip_of(where, live, block, "") if where.flag("var_min") else {}
    notes = (*found.pop("notes", ()), *clip.pop("notes", ()))
    sizes = {name: value for name, value in _sizes(where).items() if value is not None}
    return Settings(
        **{**found, **sizes, **clip},
        objective="subs" if crossed or not timed else None,
        block=block,
        time_conditioning=timed,
        T=0,
        asked=("block",) if block is None else (),
        notes=notes,
    )


def _duo(where: Reader) -> Settings:
    """The network takes sigma = -log alpha always; that of a causal network is autoregressive."""
    if where.flag("causal"):
        return Settings(**_sizes(where), objective="ar")
    return Settings(**_sizes(where), objective="uniform", time_conditioning=True, T=0)


def _udlm(where: Reader) -> Settings:
    classes = where.number("cfg_num_classes") if where.flag("cfg") else None
    timed = where.flag("time_conditioning")
    return Settings(**_sizes(where), objective="uniform", time_conditioning=timed, T=0, classes=classes)


def _gpt2(where: Reader) -> Settings:
    usual = {"activation_function": "gelu_new", "layer_norm_epsilon": 1e-5, "scale_attn_weights": True}
    usual |= {"scale_attn_by_inverse_layer_idx": False, "add_cross_attention": False, "tie_word_embeddings": True}
    c = where.config
    for key, value in usual.items():
        require(
            c.get(key, value) == value, f"{where.name}: {key} is {c.get(key)}; mdlm's gpt2 has {value}, as published"
        )
    return Settings(
        heads=where.number("n_head"),
        length=where.number("n_positions") or where.number("n_ctx"),
        objective="ar",
        vocab=where.number("vocab_size"),
        width=where.number("n_embd"),
        blocks=where.number("n_layer"),
    )
