"""What evaluation needs beside the weights, and the deck that says it."""

from __future__ import annotations

import argparse
from dataclasses import fields, replace
from typing import Any

from mdlm_analysis.configurations import from_config
from mdlm_analysis.exported import REWEIGHTED
from mdlm_analysis.families import Family
from mdlm_analysis.reader import Settings
from mdlm_analysis.shapes import Sizes
from mdlm_analysis.sources import Source
from mdlm_data.command import warn
from mdlm_data.errors import InputError, require

OPTIONS = {f.name: "--" + f.name.replace("_", "-") for f in fields(Settings)}


def settings_of(source: Source, family: Family, o: argparse.Namespace) -> Settings:
    """The settings of the file, overridden by options; a warning where the two differ."""
    known = from_config(source.config, source.config_name, source.live) if source.config else Settings()
    given = {name: getattr(o, name, None) for name in OPTIONS}
    given = {name: value for name, value in given.items() if value is not None}
    for name, value in given.items():
        told = getattr(known, name)
        if told is not None and told != value:
            warn(o.program, f"{OPTIONS[name]} is {value}, but {source.config_name} says {told}")
    known = replace(known, **given)
    if not family.timed:
        asked = [n for n in ("time_conditioning", "T", "subs_masking", *REWEIGHTED) if given.get(n)]
        require(not asked, f"{OPTIONS[asked[0]] if asked else ''}: {family.name} has no diffusion time")
        known = replace(known, objective=known.objective or "ar", time_conditioning=False, T=0, subs_masking=False)
    for note in known.notes:
        warn(o.program, f"{source.path}: {note}")
    return known


def complete(s: Settings, family: Family, sizes: Sizes, source: Source, cut: int | None = None) -> Settings:
    """Refuse what cannot be known, and what contradicts the weights."""
    for name in ("vocab", "width", "blocks", "classes"):
        told, found = getattr(s, name), getattr(sizes, name)
        require(
            told in (None, found) or (name == "vocab" and told == cut),
            f"{source.path}: {name} is {found}, but {source.config_name} says {told}; the two do not belong together",
        )
    needed = ["objective", "time_conditioning"] if family.timed else []
    needed += ["heads"] if family.name != "dimamba" else []
    needed += ["length"] if family.name != "gpt2" else []
    needed += ["T"] if s.objective == "d3pm" else []
    needed += s.asked
    lacking = [OPTIONS[name] for name in needed if getattr(s, name) is None]
    if lacking:
        place = source.config_name or "there is no config.json, and the file"
        raise InputError(f"{source.path}: {place} does not tell all of the network; give {', '.join(lacking)}")
    if s.objective not in family.objectives:
        raise InputError(f"--objective {s.objective}: {family.name} is trained with {', '.join(family.objectives)}")
    require(s.objective != "d3pm" or s.T, f"{source.path}: d3pm is a bound in discrete time; give --T, as 1000")
    if s.objective == "uniform":
        require(s.time_conditioning, f"{source.path}: mdlm has uniform noise with time conditioning only")
        require(not s.T, f"--T {s.T}: mdlm has the bound of uniform noise in continuous time only")
    heads = s.heads or 1
    if family.name != "dimamba":
        require(
            sizes.width % (2 * heads) == 0,
            f"--heads {heads}: a width of {sizes.width} does not split into heads of even width",
        )
        require(
            sizes.mlp % sizes.width == 0,
            f"{source.path}: an MLP width of {sizes.mlp} is not a multiple of the width {sizes.width}",
        )
    return replace(s, heads=heads, T=s.T or 0, block=_block(s, family, source))


def _block(s: Settings, family: Family, source: Source) -> int:
    """0 where the blocks are none: one block that is the whole row is plain MDLM."""
    block, length = s.block or 0, s.length or 0
    if not family.timed and s.objective != "ar":
        require(block, f"{source.path}: {family.name} is causal, or has blocks: give --block with --objective subs")
    elif block == length:
        block = 0
    if block:
        require(length % block == 0, f"{source.path}: blocks of {block} tokens do not divide a row of {length}")
        require(family.halves, f"{source.path}: {family.name} has no block diffusion")
        require(s.objective == "subs", f"{source.path}: block diffusion is for --objective subs, not {s.objective}")
        require(not s.time_conditioning, f"{source.path}: mdlm has no block diffusion with time conditioning")
        require(not s.T, f"{source.path}: mdlm has block diffusion in continuous time only, not in {s.T} steps")
    return block


def deck(family: Family, sizes: Sizes, s: Settings) -> str:
    model: dict[str, Any] = {"name": family.name, "width": sizes.width, "blocks": sizes.blocks, "heads": s.heads}
    model["cond_dim"] = sizes.cond
    model["mlp_ratio"] = sizes.mlp // sizes.width if family.name != "dimamba" else 4
    model["dropout"] = float(0.1 if s.dropout is None else s.dropout)
    model["time_conditioning"] = bool(s.time_conditioning)
    model |= {"classes": sizes.classes} if sizes.classes else {}
    diffusion: dict[str, Any] = {"objective": s.objective} | ({"block": s.block} if s.block else {})
    if s.objective != "ar":
        diffusion |= {"T": s.T, "schedule": s.schedule or "loglinear"}
        diffusion |= {name: True for name in ("subs_masking", "change_of_variables") if getattr(s, name)}
        diffusion |= {"time": "importance"} if s.importance_sampling else {}
        diffusion |= {"time": "clip"} if s.clip_low is not None else {}
        diffusion |= {"weight": s.weight} if s.weight else {}
        reals = {name: getattr(s, name) for name in ("clip_low", "clip_high", "sigma_min", "sigma_max")}
        reals["schedule_eps"] = None if s.schedule_eps == 1e-3 else s.schedule_eps  # the default of a deck
        reals["sampling_eps"] = 1e-3 if s.sampling_eps is None else s.sampling_eps
        diffusion |= {name: float(value) for name, value in reals.items() if value is not None}
    sampler = sampler_of(family, s)
    return group("model", model) + group("diffusion", diffusion) + (group("sample", sampler) if sampler else "")


def sampler_of(family: Family, s: Settings) -> dict[str, Any]:
    """The sampler, where that of an empty deck does not suit the objective."""
    if family.name == "gpt2":
        return {}
    word = {"uniform": "psi", "sedd": "analytic", "ar": "ar"}.get(s.objective or "")
    return {"sampler": word} if word else {}


def group(name: str, values: dict[str, Any]) -> str:
    return f"{name}: {{ " + " ".join(f"{key} = {_literal(value)};" for key, value in values.items()) + " };\n"


def _literal(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else repr(value)
