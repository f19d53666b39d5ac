"""The tokenizers that --tokenizer offers: one function per kind, each of which returns a Vocabulary."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from mdlm_data.bpe import train_bpe
from mdlm_data.characters import characters, characters_of, stored, text8
from mdlm_data.errors import InputError
from mdlm_data.fidelity import check_own_text
from mdlm_data.specials import END_OF_TEXT, MASK, SPECIALS, USUAL_NAMES
from mdlm_data.token_bytes import bytes_of_tokens, kind_and_bytes
from mdlm_data.vocabulary import Vocabulary, from_tokenizer
from mdlm_data.vocabulary_group import read_specials, read_tokens


def make_vocabulary(
    spec: str,
    special: dict[str, str] | None = None,
    eos_is_bos: bool = False,
    training_text: Callable[[], Iterator[str]] | None = None,
) -> Vocabulary:
    """The vocabulary of a --tokenizer option; bpe: trains one on `training_text` and is refused without that."""
    kind, _, rest = spec.partition(":")
    if special and kind != "json":
        raise InputError(f"--special is for json: tokenizers; {kind} fixes its special tokens")
    if kind == "text8" and not rest:
        vocabulary = text8()
    elif kind == "chars":
        if not rest and training_text is None:
            raise InputError("--tokenizer chars: takes the characters of a text; name them, as in chars:ACGTN")
        vocabulary = characters(rest) if rest else characters_of(training_text())
    elif kind == "bpe":
        if training_text is None:
            raise InputError(f"--tokenizer {spec}: trains a new tokenizer; name an existing one")
        vocabulary = train_bpe(rest, training_text())
    elif kind in FROM_FILES and rest:
        for path in rest.split(",") if kind == "gpt2" else [rest]:
            _check_readable(path)
        try:
            vocabulary = from_json(rest, special or {}) if kind == "json" else FROM_FILES[kind](rest)
        except InputError:
            raise
        except Exception as e:  # the libraries raise bare Exceptions for a malformed file
            raise InputError(f"{rest}: not a tokenizer that {kind}: can read: {e}") from e
    else:
        raise InputError(
            f"--tokenizer {spec}: give bpe:SIZE, json:FILE, bert:VOCAB.txt, gpt2:VOCAB.json,MERGES.txt, "
            "data:FILE.h5, chars:SET, chars or text8"
        )
    _check(vocabulary, spec)
    check_own_text(vocabulary, spec)
    return replace(vocabulary, eos=vocabulary.bos) if eos_is_bos else vocabulary


def trained(spec: str) -> bool:
    """Whether the vocabulary is made from the text."""
    return spec == "chars" or spec.startswith("bpe:")


# ---- one function per kind


def gpt2(spec: str) -> Vocabulary:
    """GPT-2's byte-level BPE from its two files; the mask is appended as the last id, which is also the pad."""
    vocab, comma, merges = spec.partition(",")
    if not comma:
        raise InputError(f"--tokenizer gpt2:{spec}: give both files, gpt2:VOCAB.json,MERGES.txt")
    tokenizer = Tokenizer(models.BPE.from_file(vocab, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    end = _token_id(tokenizer, END_OF_TEXT, vocab)
    tokens = [*bytes_of_tokens(tokenizer), MASK.encode()]
    mask = len(tokens) - 1
    return from_tokenizer(
        f"gpt2:{Path(vocab).stem}", "byte_bpe", tokenizer, tokens, mask=mask, bos=end, eos=end, pad=mask
    )


def bert(path: str) -> Vocabulary:
    """WordPiece over lower-cased words, as bert-base-uncased, from a vocab.txt with one token per line."""
    lines = Path(path).read_text(encoding="utf-8").removesuffix("\n").split("\n")
    ids = {line.rstrip("\r"): i for i, line in enumerate(lines)}
    if len(ids) != len(lines):
        raise InputError(f"{path}: not a BERT vocabulary: a token occurs twice")
    for name in ("[UNK]", "[CLS]", "[SEP]", "[MASK]", "[PAD]"):
        if name not in ids:
            raise InputError(f"{path}: not a BERT vocabulary: no line {name}")
    tokenizer = Tokenizer(models.WordPiece(vocab=ids, unk_token="[UNK]", max_input_chars_per_word=100))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = {"mask": "[MASK]", "bos": "[CLS]", "eos": "[SEP]", "pad": "[PAD]", "unknown": "[UNK]"}
    tokens = [t.encode() for t in ids]
    return from_tokenizer(
        f"bert:{Path(path).stem}", "wordpiece", tokenizer, tokens, **{role: ids[t] for role, t in special.items()}
    )


def from_json(path: str, special: dict[str, str]) -> Vocabulary:
    """A Hugging Face tokenizer.json; special tokens by usual name or by `special`; a missing mask is appended."""
    tokenizer = Tokenizer.from_file(path)
    definition = json.loads(tokenizer.to_str())
    kind, tokens = kind_and_bytes(tokenizer, definition, path)
    ids = {role: _special_id(tokenizer, role, special.get(role), path) for role in SPECIALS}
    if ids["mask"] is None:
        ids["mask"] = len(tokens)
        tokens.append(MASK.encode())
    for role in ("bos", "eos"):
        if ids[role] is None:
            raise InputError(f"{path}: no {role} token under a usual name; give --special {role}=TOKEN")
    ids["pad"] = ids["mask"] if ids["pad"] is None else ids["pad"]
    ids["unknown"] = _unknown_id(tokenizer, definition["model"])
    return from_tokenizer(f"json:{Path(path).stem}", kind, tokenizer, tokens, **ids)


def from_data(path: str) -> Vocabulary:
    """The vocabulary stored in a data file or an imported checkpoint, with the same ids, name and hash."""
    try:
        file = h5py.File(path, "r", locking=False)
    except OSError as e:
        if "signature not found" in str(e):
            raise InputError(f"{path}: not a data file written by mdlm-prepare") from e
        raise
    with file as f:
        if f.attrs.get("format") not in ("mdlm-data", "mdlm-checkpoint"):
            raise InputError(f"{path}: not a data file written by mdlm-prepare")
        group = f["vocab"]
        a = group.attrs
        if a["tokenizer"] == "text8":
            return text8()
        if a["tokenizer"] == "chars":
            return stored(read_tokens(group))
        if "json" not in group:
            raise InputError(f"{path}: holds the tokens but not the tokenizer; name the training data instead")
        tokenizer = Tokenizer.from_str(group["json"][:].tobytes().decode())
        ids = read_specials(group) | {"unknown": int(a["unknown"]) if "unknown" in a else None}
        vocabulary = from_tokenizer(a["tokenizer"], a["kind"], tokenizer, read_tokens(group), **ids)
        return replace(vocabulary, name=a["tokenizer"], hash=a["hash"])


FROM_FILES: dict[str, Callable[..., Vocabulary]] = {"json": from_json, "bert": bert, "gpt2": gpt2, "data": from_data}


# ---- helpers


def _token_id(tokenizer: Tokenizer, token: str, path: str) -> int:
    found = tokenizer.token_to_id(token)
    if found is None:
        raise InputError(f"{path}: no token {token!r} in this vocabulary")
    return found


def _special_id(tokenizer: Tokenizer, role: str, token: str | None, path: str) -> int | None:
    if token is not None:
        return _token_id(tokenizer, token, path)
    found = (tokenizer.token_to_id(name) for name in USUAL_NAMES[role])
    return next((i for i in found if i is not None), None)


def _unknown_id(tokenizer: Tokenizer, model: dict[str, Any]) -> int | None:
    """The id that stands for what the vocabulary cannot spell, if it has one."""
    token = model.get("unk_token")
    return model.get("unk_id") if token is None else tokenizer.token_to_id(token)


def _check_readable(path: str) -> None:
    try:
        with open(path, "rb") as f:
            f.read(1)
    except OSError as e:
        raise InputError(f"{path}: {e.strerror}") from e


def _check(v: Vocabulary, spec: str) -> None:
    if len(v.name.encode()) > 63:
        raise InputError(f"--tokenizer {spec}: the name {v.name!r} is longer than 63 bytes; rename the file")
    if v.size < 6 or v.size > 2**31:
        raise InputError(f"--tokenizer {spec}: a vocabulary of {v.size} tokens; it takes 6 to 2^31")
    if v.mask in (v.bos, v.eos):
        raise InputError(f"--tokenizer {spec}: the mask token must differ from bos and eos")
