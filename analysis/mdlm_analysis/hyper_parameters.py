"""What the hyper-parameters in a Lightning .ckpt say: those of MDLM, discrete guidance (UDLM), BD3-LM and Duo.

MDLM and discrete guidance have the keys of a network and its training at the top, BD3-LM and Duo under `algo`; BD3-LM
has a block_size."""

from __future__ import annotations

from typing import Any

from mdlm_analysis.blocks import clip_of, noise_of
from mdlm_analysis.reader import Reader, Settings
from mdlm_analysis.tensors import Tensor
from mdlm_data.errors import InputError, require

BLOCKS = ("bd3lm", "mdlm", "sedd", "ar")  # algo.name in BD3-LM
DUO = ("duo", "duo_base", "distillation", "mdlm", "sedd", "d3pm", "ar")  # in Duo
UNIFORM = DUO[:3]
WORDS = {"score": "sedd", "bd3lm": "subs"}


def from_hyper_parameters(c: dict[str, Any], name: str, live: dict[str, Tensor]) -> Settings:
    where = Reader(c, name)
    if not isinstance(c.get("algo"), dict):
        return _first(where)
    return _bd3lm(where, live) if "block_size" in c else _duo(where)


def _sizes(where: Reader) -> dict[str, Any]:
    return {
        "heads": where.number("model.n_heads"),
        "length": where.number("model.length"),
        "dropout": where.real("model.dropout"),
        "width": where.number("model.hidden_size"),
        "blocks": where.number("model.n_blocks"),
        "time_conditioning": where.flag("algo.time_conditioning", "time_conditioning"),
        "sampling_eps": where.real("training.sampling_eps"),
    }


def _first(where: Reader) -> Settings:
    """MDLM, and discrete guidance, which adds noise of uniform tokens."""
    diffusion = where.word("diffusion") or "absorbing_state"
    if diffusion == "uniform":
        return _udlm(where)
    require(
        diffusion == "absorbing_state",
        f"{where.name}: diffusion is {diffusion}; mdlm-convert knows absorbing_state and uniform",
    )
    objective = where.word("parameterization")
    objective = WORDS.get(objective or "", objective)
    schedule = where.schedule("noise.type") if objective != "ar" else None
    ends = schedule in ("linear", "geometric")
    return Settings(
        **_sizes(where),
        objective=objective,
        T=where.number("T"),
        subs_masking=where.flag("subs_masking") and objective == "d3pm",
        change_of_variables=where.flag("training.change_of_variables"),
        importance_sampling=where.flag("training.importance_sampling"),
        schedule=schedule,
        sigma_min=where.real("noise.sigma_min") if ends else None,
        sigma_max=where.real("noise.sigma_max") if ends else None,
    )


def _udlm(where: Reader) -> Settings:
    notes = [] if where.flag("zero_recon_loss") else ["its bound also has a reconstruction term, which mdlm's has not"]
    notes += ["its bound in steps (T) becomes that of continuous time"] if where.number("T") else []
    schedule = where.schedule("noise.type")
    return Settings(**_sizes(where), objective="uniform", T=0, schedule=schedule, notes=tuple(notes))


def _algorithm(where: Reader, known: tuple[str, ...]) -> str | None:
    """algo.name; a causal network must be autoregressive, and no other one."""
    algo = where.word("algo.name")
    require(algo in (None, *known), f"{where.name}: algo.name is {algo}; mdlm-convert knows {', '.join(known)}")
    causal = where.flag("algo.causal_attention", "model.causal_attention")
    if causal is not None and causal != (where.word("algo.parameterization") == "ar"):
        raise InputError(f"{where.name}: algo.name is {algo}, but causal_attention is {str(causal).lower()}")
    return algo


def _bd3lm(where: Reader, live: dict[str, Tensor]) -> Settings:
    algo = _algorithm(where, BLOCKS)
    word = where.word("algo.parameterization")
    objective, sizes = WORDS.get(word or "", word), _sizes(where)
    crossed = where.flag("algo.cross_attn")
    block = 0
    if algo == "bd3lm" if crossed is None else crossed:
        block = where.number("block_size")
    found: dict[str, Any] = {}
    if objective != "ar":
        timed, scaled = bool(sizes["time_conditioning"]), bool(where.flag("algo.mdlm_loss_scale"))
        found = noise_of(where, timed, scaled, "noise.type")
    clip = clip_of(where, live, block, "training.") if where.flag("algo.var_min") else {}
    notes = [*found.pop("notes", ()), *clip.pop("notes", ())]
    if where.flag("algo.ignore_bos"):
        notes.append("algo.ignore_bos: the first token of a row is given and not scored there, but scored by mdlm eval")
    if where.flag("training.resample"):
        notes.append("training.resample is not kept: masks outside the clip are not drawn again")
    asked = ("block",) if block is None else ()
    return Settings(
        **sizes, **found, **clip, objective=objective, block=block, T=0, asked=asked, notes=tuple(notes)
    )  # its algo.T are the steps of samples


def _duo(where: Reader) -> Settings:
    algo, word = _algorithm(where, DUO), where.word("algo.parameterization")
    uniform = algo in UNIFORM or "uniform" in (where.word("algo.diffusion_type") or "")
    objective = {"mean": "d3pm", **WORDS}.get(word or "", word)
    noise: dict[str, Any] = {}
    if objective != "ar":
        kind = where.schedule("noise.type")
        require(
            kind in (None, "loglinear"),
            f"{where.name}: noise.type is {kind}, where alpha = 1 - sin(pi t/2), which mdlm does not have; it has "
            "Duo's log-linear",
        )
        noise = {"schedule": kind, "schedule_eps": where.real("noise.eps")}
    low_var = where.word("algo.loss_type") == "low_var" and objective == "subs"
    curriculum = "algo.curriculum is not kept: training goes on without it, unless diffusion.time = gaussian"
    notes = (curriculum,) if algo == "duo" else ()
    return Settings(
        **_sizes(where),
        **noise,
        objective="uniform" if uniform else objective,
        T=0 if uniform else where.number("algo.T"),
        subs_masking=where.flag("algo.subs_masking") and objective == "d3pm" and not uniform,
        weight="one" if low_var else None,
        notes=notes,
    )
