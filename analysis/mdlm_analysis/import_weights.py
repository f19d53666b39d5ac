"""Weights of other programs to a checkpoint of mdlm, and the deck that goes with it."""

from __future__ import annotations

import argparse
import re
from datetime import UTC, datetime
from pathlib import Path

import h5py
import numpy as np
import xxhash

from mdlm_analysis.families import Family, Found, check, check_tied, recognise, sizes_of
from mdlm_analysis.settings import complete, deck, settings_of
from mdlm_analysis.shapes import Sizes
from mdlm_analysis.sources import Named, Source, source_open
from mdlm_data.command import warn
from mdlm_data.errors import InputError, require
from mdlm_data.output import check_replaced, replacing
from mdlm_data.seal import seal_append
from mdlm_data.vocabularies import make_vocabulary
from mdlm_data.vocabulary import Vocabulary
from mdlm_data.vocabulary_group import set_attributes, write_vocabulary

MADE = "# written by mdlm-convert from "  # the first words of a deck that may be replaced


def import_weights(o: argparse.Namespace) -> str:
    source = source_open(o.source)
    found = recognise(source.live, o.source)
    settings = settings_of(source, found.family, o)
    s = sizes_of(found, o.source, settings.length)
    check(found, s, o.source)
    check_tied(found, o.source)
    settings = complete(settings, found.family, s, source, o.cut_vocabulary)
    vocabulary = make_vocabulary(o.tokenizer)
    rows = rows_kept(found.family, s, vocabulary, o, settings.objective == "uniform")
    text = deck(found.family, s, settings)
    target_claim(o.target)
    deck_claim(o.deck)
    average = averages(source, found, o.source)
    with replacing(o.target) as partial:
        with h5py.File(partial, "w", locking=False) as f:
            state_write(f, o, text, s.length, source.step, vocabulary)
            group_write(f.create_group("params"), found.parameters, found.family, vocabulary, rows)
            if average is None:
                f["ema"] = f["params"]  # a hard link to the same data sets
            else:
                group_write(f.create_group("ema"), average, found.family, vocabulary, rows)
        seal_append(partial)
    with replacing(o.deck) as partial:
        Path(partial).write_text(f"{MADE}{o.source.name}, for {o.target.name}\n{text}")
    sizes = f"{s.blocks} blocks of width {s.width}, V = {vocabulary.size}, L = {s.length}"
    cut = f"; rows {rows} to {s.vocab - 1} of its vocabulary were cut" if rows < s.vocab else ""
    return f"{o.target}: {found.family.name}, {sizes}{cut}; its deck, {o.deck}:\n{text}".rstrip()


def rows_kept(family: Family, s: Sizes, vocabulary: Vocabulary, o: argparse.Namespace, uniform: bool) -> int:
    """The tokens of the weights that stay: all, or the first --cut-vocabulary."""
    rows, cut = o.cut_vocabulary or s.vocab, o.cut_vocabulary is not None
    require(rows <= s.vocab, f"--cut-vocabulary {rows}: the weights have only {s.vocab} tokens")
    lack = family.name == "gpt2" or uniform
    appended = lack and vocabulary.mask == vocabulary.size - 1  # a row for the mask, which they lack
    fits = {vocabulary.size, vocabulary.size - 1} if appended else {vocabulary.size}
    if rows not in fits:
        wanted = " or ".join(map(str, sorted(fits)))
        advice = f"; if their last rows are padding, give --cut-vocabulary {max(fits)}" if s.vocab > max(fits) else ""
        kept = f"the first {rows} of {s.vocab} tokens" if cut else f"weights of {rows} tokens"
        raise InputError(f"{o.source}: {kept}, but the vocabulary {vocabulary.name} has {wanted}{advice}")
    if uniform and rows == vocabulary.size:
        noise = f"their noise draws from all {rows} tokens, mdlm's not from the mask, token {vocabulary.mask}"
        warn(o.program, f"{o.source}: {noise}")
    return rows


def target_claim(path: Path) -> None:
    """Refuse to replace what is no checkpoint, or the checkpoint of a run, from which it resumes."""
    check_replaced([str(path)], "mdlm-checkpoint")
    if path.is_file() and path.stat().st_size > 0:
        with h5py.File(path, "r", locking=False) as f:
            require("adam_m" not in f, f"{path}: is the checkpoint of a run; choose another output, or remove it")


def deck_claim(path: Path) -> None:
    """Refuse to replace a deck that somebody else wrote."""
    if path.exists() and not path.read_text(errors="replace").startswith(MADE):
        raise InputError(f"{path}: exists and is not mdlm-convert's; name another file with --deck")


def averages(source: Source, found: Found, path: Path) -> Named | None:
    """The moving average by name; a Lightning checkpoint lists it in the order of the parameters, without names."""
    if source.average is None:
        return None
    if isinstance(source.average, dict):
        average = recognise(source.average, path).parameters
    else:
        average = dict(zip(found.parameters, source.average))
        require(
            len(source.average) == len(found.parameters),
            f"{path}: {len(source.average)} averages of weights for "
            f"{len(found.parameters)} parameters; export the weights without the averages",
        )
    shapes = {name: t.shape for name, t in found.parameters.items()}
    if {name: getattr(t, "shape", None) for name, t in average.items()} != shapes:
        raise InputError(f"{path}: the shapes of its moving average are not those of the parameters")
    return average


def our_value(family: Family, name: str, value: np.ndarray, vocabulary: Vocabulary, rows: int) -> np.ndarray:
    if re.fullmatch(family.transposed, name):
        value = value.T
    if name in family.vocabulary:
        value = value[:rows]
        if rows < vocabulary.size:
            value = np.concatenate([value, np.zeros((vocabulary.size - rows, *value.shape[1:]), "<f4")])
    return np.ascontiguousarray(value, "<f4")


def group_write(group: h5py.Group, tensors: Named, family: Family, vocabulary: Vocabulary, rows: int) -> None:
    for name, tensor in tensors.items():
        value = our_value(family, name, tensor.read(), vocabulary, rows)
        group.create_dataset(name, data=value)
        group[name].attrs["xxh3"] = xxhash.xxh3_64_hexdigest(value.data)


def state_write(f: h5py.File, o: argparse.Namespace, text: str, length: int, step: int, v: Vocabulary) -> None:
    numbers = {"step": step, "tokens": 0, "masked_tokens": 0, "seed": 0, "length": length, "wrap": 0}
    words = {"deck": text, "git": "imported", "data_digest": "none", "detokenizer": "none", "split": "none"}
    now = datetime.now(UTC).isoformat(timespec="seconds")
    set_attributes(f, {"format": "mdlm-checkpoint", "format_version": 1, **numbers, **words})
    set_attributes(f, {"source": o.source.name[:255], "valid_nll": float("nan"), "saved": now})
    group = write_vocabulary(f, v)
    for name in ("bytes", "offsets"):
        group[name].attrs["xxh3"] = xxhash.xxh3_64_hexdigest(group[name][:].tobytes())
