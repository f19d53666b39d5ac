"""Vocabularies: text → token ids, and what a data file says about them so that ids become text again.

Every maker returns a Vocabulary. The mask token is always counted in its size V. Text never becomes a special token: a
corpus that spells out "[MASK]" or "<|endoftext|>" gets those characters' ordinary tokens.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import xxhash
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

from errors import InputError

Ids = Sequence[int] | np.ndarray
SPECIALS = ("mask", "bos", "eos", "pad")
END = "<|endoftext|>"

# Tokenizers the papers use, known by the hash of their definition; another file of the same kind is named after itself.
KNOWN = {
    "b9b1c81b32d461e2c67490321b3adbcd": "gpt2",
    "0de65912b82abe94310c1fc72a793ff8": "bert-base-uncased",
}

# Names a tokenizer.json may use for a special token, best first.
USUAL = {
    "mask": ("[MASK]", "<mask>", "<|mask|>", "<|mdm_mask|>"),
    "bos": ("[BOS]", "<s>", "<bos>", "<|begin_of_text|>", "[CLS]", END),
    "eos": ("[EOS]", "</s>", "<eos>", "<|end_of_text|>", "[SEP]", END),
    "pad": ("[PAD]", "<pad>", "<|padding|>"),
}


@dataclass(frozen=True)
class Vocabulary:
    name: str  # "bpe", "gpt2", "bert-base-uncased", "text8", "json:…"
    kind: str  # how tokens join to text: "byte_bpe" | "wordpiece" | "chars"
    hash: str  # xxh3-128 of what turns text into ids
    tokens: list[bytes]  # the bytes of every token, id order
    mask: int
    bos: int
    eos: int
    pad: int
    definition: str  # tokenizer.json of the Hugging Face library; "" for text8
    encode: Callable[[list[str]], list[Ids]]
    unknown: int | None = None  # id of what the vocabulary cannot spell

    @property
    def size(self) -> int:
        return len(self.tokens)


def make_vocabulary(
    spec: str,
    special: dict[str, str] | None = None,
    eos_is_bos: bool = False,
    training_text: Callable[[], Iterator[str]] | None = None,
) -> Vocabulary:
    """The vocabulary a --tokenizer option asks for; bpe: trains one on `training_text`, None: it may not."""
    kind, _, rest = spec.partition(":")
    if special and kind != "json":
        raise InputError(f"--special is for json: tokenizers; {kind} fixes its special tokens")
    if kind == "text8" and not rest:
        vocabulary = text8()
    elif kind == "bpe":
        if training_text is None:
            raise InputError(f"--tokenizer {spec}: trains a new tokenizer; name one that is there")
        vocabulary = train_bpe(_bpe_size(rest), training_text())
    elif kind in FROM_FILES and rest:
        for path in rest.split(",") if kind == "gpt2" else [rest]:
            _check_readable(path)
        try:
            vocabulary = from_json(rest, special or {}) if kind == "json" else FROM_FILES[kind](rest)
        except InputError:
            raise
        except Exception as e:  # the libraries raise bare Exceptions for a file they cannot make sense of
            raise InputError(f"{rest}: not a tokenizer that {kind}: can read: {e}") from e
    else:
        raise InputError(
            f"--tokenizer {spec}: give bpe:SIZE, json:FILE, bert:VOCAB.txt, gpt2:VOCAB.json,MERGES.txt, "
            "data:FILE.h5 or text8"
        )
    _check(vocabulary, spec)
    return replace(vocabulary, eos=vocabulary.bos) if eos_is_bos else vocabulary


# ---- the makers


def text8() -> Vocabulary:
    """The 27 characters of text8 behind 8 special ids."""
    names = "[CLS] [SEP] [BOS] [EOS] [MASK] [PAD] [RESERVED] [UNK]".split()
    tokens = [n.encode() for n in names] + [c.encode() for c in "abcdefghijklmnopqrstuvwxyz "]
    unknown = names.index("[UNK]")
    ids = np.full(128, unknown, np.uint32)
    for i, token in enumerate(tokens[len(names) :], len(names)):
        ids[token[0]] = i

    def encode(texts: list[str]) -> list[Ids]:
        codes = (np.frombuffer(t.encode("utf-32-le"), "<u4") for t in texts)
        return [np.where(c < 128, ids[np.minimum(c, 127)], unknown) for c in codes]

    return Vocabulary(
        "text8",
        "chars",
        _hash([t.decode() for t in tokens]),
        tokens,
        mask=4,
        bos=2,
        eos=3,
        pad=5,
        definition="",
        encode=encode,
        unknown=unknown,
    )


def train_bpe(size: int, texts: Iterator[str]) -> Vocabulary:
    """A byte-level BPE of `size` tokens: 256 bytes, merges, then <|endoftext|> (bos and eos) and [MASK] (also pad)."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=size - 2,
        show_progress=False,
        special_tokens=[],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokens = [*_bytes_of_tokens(tokenizer), END.encode(), b"[MASK]"]
    end, mask = len(tokens) - 2, len(tokens) - 1
    return _from_tokenizer("bpe", "byte_bpe", tokenizer, tokens, mask=mask, bos=end, eos=end, pad=mask)


def gpt2(spec: str) -> Vocabulary:
    """GPT-2's byte-level BPE from its two files; the mask is appended as the last id, which is also the pad."""
    vocab, comma, merges = spec.partition(",")
    if not comma:
        raise InputError(f"--tokenizer gpt2:{spec}: give both files, gpt2:VOCAB.json,MERGES.txt")
    tokenizer = Tokenizer(models.BPE.from_file(vocab, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    end = _token_id(tokenizer, END, vocab)
    tokens = [*_bytes_of_tokens(tokenizer), b"[MASK]"]
    mask = len(tokens) - 1
    return _from_tokenizer(
        f"gpt2:{Path(vocab).stem}", "byte_bpe", tokenizer, tokens, mask=mask, bos=end, eos=end, pad=mask
    )


def bert(path: str) -> Vocabulary:
    """WordPiece over lower-cased words, as bert-base-uncased, from a vocab.txt: one token a line."""
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
    return _from_tokenizer(
        f"bert:{Path(path).stem}",
        "wordpiece",
        tokenizer,
        [t.encode() for t in ids],
        mask=ids["[MASK]"],
        bos=ids["[CLS]"],
        eos=ids["[SEP]"],
        pad=ids["[PAD]"],
        unknown=ids["[UNK]"],
    )


def from_json(path: str, special: dict[str, str]) -> Vocabulary:
    """A Hugging Face tokenizer.json; special tokens by usual names or as `special` says; a missing mask is appended."""
    tokenizer = Tokenizer.from_file(path)
    kind, tokens = _kind_and_bytes(tokenizer, path)
    ids = {role: _special_id(tokenizer, role, special.get(role), path) for role in SPECIALS}
    if ids["mask"] is None:
        ids["mask"] = len(tokens)
        tokens.append(b"[MASK]")
    for role in ("bos", "eos"):
        if ids[role] is None:
            raise InputError(f"{path}: no {role} token under a usual name; give --special {role}=TOKEN")
    ids["pad"] = ids["mask"] if ids["pad"] is None else ids["pad"]
    return _from_tokenizer(f"json:{Path(path).stem}", kind, tokenizer, tokens, **ids)


def from_data(path: str) -> Vocabulary:
    """The vocabulary that another data file, or an imported checkpoint, carries: ids, name and hash are the same."""
    with h5py.File(path, "r") as f:
        if f.attrs.get("format") not in ("mdlm-data", "mdlm-checkpoint"):
            raise InputError(f"{path}: not a data file written by prepare.py")
        group = f["vocab"]
        a = group.attrs
        if a["tokenizer"] == "text8":
            return text8()
        if "json" not in group:
            raise InputError(f"{path}: has the tokens, but not what makes them of text; name the data trained on")
        raw, offsets = group["bytes"][:].tobytes(), group["offsets"][:]
        tokens = [raw[i:j] for i, j in zip(offsets[:-1], offsets[1:])]
        tokenizer = Tokenizer.from_str(group["json"][:].tobytes().decode())
        vocabulary = _from_tokenizer(
            a["tokenizer"],
            a["kind"],
            tokenizer,
            tokens,
            **{s: int(a[s]) for s in SPECIALS},
            unknown=int(a["unknown"]) if "unknown" in a else None,
        )
        return replace(vocabulary, name=a["tokenizer"], hash=a["hash"])


FROM_FILES: dict[str, Callable[..., Vocabulary]] = {"json": from_json, "bert": bert, "gpt2": gpt2, "data": from_data}


# ---- what they share


def _from_tokenizer(name: str, kind: str, tokenizer: Tokenizer, tokens: list[bytes], **ids: Any) -> Vocabulary:
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = True  # a special token's spelling in the text is ordinary text
    definition = json.loads(tokenizer.to_str())
    digest = _hash(_canonical(definition))

    def encode(texts: list[str]) -> list[Ids]:
        return [e.ids for e in tokenizer.encode_batch_fast(texts, add_special_tokens=False)]

    return Vocabulary(
        KNOWN.get(digest, name), kind, digest, tokens, definition=json.dumps(definition), encode=encode, **ids
    )


def _canonical(definition: dict[str, Any]) -> dict[str, Any]:
    """The parts of a tokenizer.json that decide the ids, spelled alike by every version of the library."""
    model = definition["model"]
    vocab = model["vocab"]
    if isinstance(vocab, dict):
        vocab = sorted(vocab, key=vocab.__getitem__)
    merges = [m.split(" ", 1) if isinstance(m, str) else m for m in model.get("merges", [])]
    return {
        "model": model["type"],
        "unknown": model.get("unk_token"),
        "vocab": vocab,
        "merges": merges,
        "added": [(t["id"], t["content"]) for t in definition["added_tokens"]],
        "normalizer": definition["normalizer"],
        "pre_tokenizer": definition["pre_tokenizer"],
    }


def _hash(value: Any) -> str:
    return xxhash.xxh3_128_hexdigest(json.dumps(value, sort_keys=True, separators=(",", ":")).encode())


def _byte_of_char() -> dict[str, int]:
    """Byte-level BPE spells each byte as a printable character: itself if printable, else the next from U+0100."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in printable]
    return {chr(b): b for b in printable} | {chr(0x100 + i): b for i, b in enumerate(others)}


def _bytes_of_tokens(tokenizer: Tokenizer) -> list[bytes]:
    """Raw bytes of every token of a byte-level vocabulary, id order; added tokens keep their spelling."""
    byte = _byte_of_char()
    added = tokenizer.get_added_tokens_decoder()

    def raw(i: int, token: str) -> bytes:
        if i in added or any(c not in byte for c in token):
            return token.encode()
        return bytes(byte[c] for c in token)

    return [raw(i, token) for i, token in enumerate(_tokens_by_id(tokenizer))]


def _tokens_by_id(tokenizer: Tokenizer) -> list[str]:
    vocab = tokenizer.get_vocab(with_added_tokens=True)
    if max(vocab.values(), default=-1) >= 2**31 - 1:
        raise InputError("the vocabulary has ids beyond 2^31")
    tokens = [""] * (max(vocab.values(), default=-1) + 1)  # an id that nothing has stays empty
    for token, i in vocab.items():
        tokens[i] = token
    return tokens


def _kind_and_bytes(tokenizer: Tokenizer, path: str) -> tuple[str, list[bytes]]:
    definition = json.loads(tokenizer.to_str())
    tokens = _tokens_by_id(tokenizer)
    if definition["model"]["type"] == "WordPiece":
        return "wordpiece", [t.encode() for t in tokens]
    if '"ByteLevel"' in json.dumps([definition["pre_tokenizer"], definition["decoder"]]):
        return "byte_bpe", _bytes_of_tokens(tokenizer)
    if any("\u2581" in t for t in tokens):  # SentencePiece: U+2581 is the blank, <0x0A> a byte
        return "byte_bpe", [_piece_bytes(t) for t in tokens]
    raise InputError(
        f"{path}: tokens of model {definition['model']['type']} cannot be joined to text; "
        "give a byte-level BPE, a WordPiece or a SentencePiece tokenizer"
    )


def _piece_bytes(token: str) -> bytes:
    if len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
        return bytes.fromhex(token[3:5])
    return token.replace("\u2581", " ").encode()


def _token_id(tokenizer: Tokenizer, token: str, path: str) -> int:
    found = tokenizer.token_to_id(token)
    if found is None:
        raise InputError(f"{path}: no token {token!r} in this vocabulary")
    return found


def _special_id(tokenizer: Tokenizer, role: str, token: str | None, path: str) -> int | None:
    if token is not None:
        return _token_id(tokenizer, token, path)
    found = (tokenizer.token_to_id(name) for name in USUAL[role])
    return next((i for i in found if i is not None), None)


def _bpe_size(text: str) -> int:
    if not text.isdigit() or not 258 <= int(text) <= 2**31:
        raise InputError(
            f"--tokenizer bpe:{text}: SIZE is a number from 258 (256 bytes and 2 special tokens) to 2^31"
        )
    return int(text)


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
