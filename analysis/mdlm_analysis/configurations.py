"""The configurations that lie beside or in weights of other programs: config.json, and a .ckpt's hyper-parameters."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from mdlm_data.errors import InputError, require

SCHEDULES = ("loglinear", "linear", "geometric", "cosine", "cosinesqr")
NO_UNIFORM = "the import of networks that diffuse to uniform tokens is not supported"
NO_BLOCKS = "the import of block diffusion is not supported, only that of one block that is the whole sequence"


@dataclass(frozen=True)
class Settings:
    """None: not known."""

    heads: int | None = None
    length: int | None = None
    objective: str | None = None
    time_conditioning: bool | None = None
    T: int | None = None
    subs_masking: bool | None = None
    change_of_variables: bool | None = None
    importance_sampling: bool | None = None
    schedule: str | None = None
    sigma_min: float | None = None
    sigma_max: float | None = None
    sampling_eps: float | None = None
    dropout: float | None = None
    vocab: int | None = None
    width: int | None = None
    blocks: int | None = None


def from_config(config: dict[str, Any], name: str) -> Settings:
    kind = config.get("model_type")
    readers = {"mdlm": _hub, "gpt2": _gpt2, "bd3lm": _block}
    if kind is None:
        return _lightning(config, name)
    if isinstance(kind, str) and kind.lower() in ("duo", "udlm"):
        raise InputError(f"{name}: model_type is {kind}; {NO_UNIFORM}")
    if kind not in readers:
        raise InputError(
            f"{name}: model_type is {kind}; mdlm-convert knows {', '.join(readers)}; move the file away if "
            "the weights are another network's"
        )
    return readers[kind](config, name)


# ---- one function per kind of configuration


def _hub(c: dict[str, Any], name: str) -> Settings:
    """config.json of the reference's hub model, with the keys that our export adds."""
    where = _Reader(c, name)
    return Settings(
        heads=where.number("n_heads"),
        length=where.number("model_length"),
        objective=where.word("parameterization") or "subs",
        time_conditioning=where.flag("time_conditioning"),
        T=where.number("T") or 0,
        subs_masking=where.flag("subs_masking"),
        change_of_variables=where.flag("change_of_variables"),
        importance_sampling=where.flag("importance_sampling"),
        schedule=where.schedule("schedule"),
        sigma_min=where.real("sigma_min"),
        sigma_max=where.real("sigma_max"),
        sampling_eps=where.real("sampling_eps"),
        dropout=where.real("dropout"),
        vocab=where.number("vocab_size"),
        width=where.number("hidden_dim"),
        blocks=where.number("n_blocks"),
    )


def _block(c: dict[str, Any], name: str) -> Settings:
    block, length = c.get("block_size"), c.get("model_length")
    if block != length or c.get("causal") or not c.get("adaln", True):
        raise InputError(f"{name}: blocks of {block} in {length} tokens; {NO_BLOCKS}")
    return _hub(c, name)


def _gpt2(c: dict[str, Any], name: str) -> Settings:
    usual = {"activation_function": "gelu_new", "layer_norm_epsilon": 1e-5, "scale_attn_weights": True}
    usual |= {"scale_attn_by_inverse_layer_idx": False, "add_cross_attention": False, "tie_word_embeddings": True}
    for key, value in usual.items():
        require(c.get(key, value) == value, f"{name}: {key} is {c.get(key)}; mdlm's gpt2 has {value}, as published")
    where = _Reader(c, name)
    return Settings(
        heads=where.number("n_head"),
        length=where.number("n_positions") or where.number("n_ctx"),
        objective="ar",
        vocab=where.number("vocab_size"),
        width=where.number("n_embd"),
        blocks=where.number("n_layer"),
    )


def _lightning(c: dict[str, Any], name: str) -> Settings:
    """The configuration of the reference and of its successors, which have most of it under `algo`."""
    where = _Reader(c, name)
    algo = where.word("algo.name")
    kind = where.word("algo.diffusion_type") or where.word("diffusion") or "absorbing_state"
    block, length = where.number("block_size"), where.number("model.length")
    if algo and algo.startswith("duo") or "uniform" in kind:
        raise InputError(f"{name}: trained by {algo or kind}; {NO_UNIFORM}")
    if algo == "bd3lm" and block != length:
        raise InputError(f"{name}: blocks of {block} in {length} tokens; {NO_BLOCKS}")
    objective = where.word("parameterization", "algo.parameterization")
    objective = {"score": "sedd", "bd3lm": "subs"}.get(objective or "", objective)
    schedule = where.schedule("noise.type") if objective != "ar" else None
    ends = schedule in ("linear", "geometric")
    return Settings(
        heads=where.number("model.n_heads"),
        length=length,
        objective=objective,
        time_conditioning=where.flag("time_conditioning", "algo.time_conditioning"),
        T=where.number("T", "algo.T"),
        subs_masking=where.flag("subs_masking", "algo.subs_masking") and objective == "d3pm",
        change_of_variables=where.flag("training.change_of_variables"),
        importance_sampling=where.flag("training.importance_sampling"),
        schedule=schedule,
        sigma_min=where.real("noise.sigma_min") if ends else None,
        sigma_max=where.real("noise.sigma_max") if ends else None,
        sampling_eps=where.real("training.sampling_eps"),
        dropout=where.real("model.dropout"),
        width=where.number("model.hidden_size"),
        blocks=where.number("model.n_blocks"),
    )


class _Reader:
    """Values of a configuration by their dotted path, the first path that exists; None: absent or not resolvable."""

    def __init__(self, config: dict[str, Any], name: str) -> None:
        self.config, self.name = config, name

    def _find(self, path: str, depth: int = 4) -> Any:
        at: Any = self.config
        for key in path.split("."):
            at = at.get(key) if isinstance(at, dict) else None
        link = re.fullmatch(r"\$\{([\w.]+)\}", at) if isinstance(at, str) else None
        if link:
            return self._find(link[1], depth - 1) if depth else None
        return None if isinstance(at, str) and "${" in at else at

    def _typed(self, kinds: tuple[type, ...], what: str, paths: tuple[str, ...]) -> Any:
        path, value = next(((p, v) for p in paths if (v := self._find(p)) is not None), ("", None))
        if value is None:
            return None
        fits = isinstance(value, kinds) and (bool in kinds or not isinstance(value, bool))
        require(fits, f"{self.name}: {path} is {value!r}, not {what}; correct it there")
        return value

    def number(self, *paths: str) -> int | None:
        return self._typed((int,), "a whole number", paths)

    def real(self, *paths: str) -> float | None:
        return self._typed((int, float), "a number", paths)

    def flag(self, *paths: str) -> bool | None:
        return self._typed((bool,), "true or false", paths)

    def word(self, *paths: str) -> str | None:
        return self._typed((str,), "a word", paths)

    def schedule(self, *paths: str) -> str | None:
        word = (self.word(*paths) or "").replace("-", "") or None
        require(word in (None, *SCHEDULES), f"{self.name}: noise schedule {word}; mdlm has {', '.join(SCHEDULES)}")
        return word
