"""Random texts and random tokenizer.json files for the property tests."""

from __future__ import annotations

import json
import random
from typing import Any

from tokenizers import Tokenizer, models, trainers

RANGES = [(0x20, 0x7F), (0x20, 0x7F), (0xA0, 0x250), (0x370, 0x530), (0x5D0, 0x600), (0x0E00, 0x0E5C), (0x3040, 0x30FF)]
RANGES += [(0x4E00, 0x5000), (0x1F300, 0x1F600), (0x300, 0x340), (0xE000, 0xE010), (0x2000, 0x2070), (0xFB00, 0xFB07)]
SPELT = [
    "<s>",
    "</s>",
    "<mask>",
    "<pad>",
    "[MASK]",
    "<|endoftext|>",
    "<0x41>",
    "▁",
    "##",
    "</w>",
    "Ġ",
    "\u2028",
    "\u00a0",
]
SPECIALS = ["<unk>", "<s>", "</s>", "<pad>", "<mask>"]
WORDS = "In the beginning God created heaven and earth And there was light the the a of that said unto".split()


def random_text(rng: random.Random) -> str:
    """Words, characters of many scripts, white space, spellings of special tokens."""
    parts = []
    for _ in range(rng.randrange(1, 30)):
        kind = rng.randrange(10)
        if kind < 4:
            parts.append(rng.choice(WORDS))
        elif kind < 6:
            parts.append(rng.choice(SPELT))
        elif kind < 7:
            parts.append(rng.choice([" ", "  ", "\t", "\n", "\r\n", " \n "]))
        else:
            low, high = rng.choice(RANGES)
            parts.append("".join(chr(rng.randrange(low, high)) for _ in range(rng.randrange(1, 5))))
        parts.append(rng.choice(["", " ", " "]))
    return "".join(parts)


def random_normalizer(rng: random.Random) -> dict[str, Any] | None:
    simple = [{"type": t} for t in ("NFC", "NFKC", "NFD", "Lowercase", "StripAccents")]
    simple += [
        {"type": "Strip", "strip_left": True, "strip_right": True},
        {"type": "Prepend", "prepend": "▁"},
        {"type": "Prepend", "prepend": "x"},
        {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
        {"type": "Replace", "pattern": {"String": "e"}, "content": "3"},
        {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": True,
            "strip_accents": None,
            "lowercase": True,
        },
    ]
    chosen = rng.sample(simple, rng.choice([0, 0, 1, 2]))
    return {"type": "Sequence", "normalizers": chosen} if len(chosen) > 1 else (chosen or [None])[0]


def random_pre_tokenizer(rng: random.Random) -> dict[str, Any] | None:
    choices: list[Any] = [
        None,
        {"type": "ByteLevel", "add_prefix_space": rng.random() < 0.5, "trim_offsets": True, "use_regex": rng.random() < 0.7},
        {"type": "Metaspace", "replacement": rng.choice("▁▁_"), "prepend_scheme": rng.choice(["always", "first", "never"]),
         "split": rng.random() < 0.7},
        {"type": "Whitespace"},
        {"type": "WhitespaceSplit"},
        {"type": "BertPreTokenizer"},
        {"type": "Punctuation", "behavior": rng.choice(["Isolated", "Removed"])},
    ]  # fmt: skip
    chosen = rng.choice(choices)
    if chosen and rng.random() < 0.2:
        return {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, chosen]}
    return chosen


def random_tokenizer(rng: random.Random) -> str:
    """A tokenizer.json, trained on a few texts and then changed."""
    kind = rng.choice(["BPE", "BPE", "BPE", "Unigram", "WordPiece", "WordLevel"])
    texts = [random_text(rng) + " ".join(rng.choices(WORDS, k=30)) for _ in range(30)]
    fallback = rng.random() < 0.4 and kind == "BPE"
    specials = SPECIALS + ([f"<0x{i:02X}>" for i in range(256)] if fallback else [])
    rest = dict(special_tokens=specials, show_progress=False)
    if kind == "BPE":
        suffix = "</w>" if rng.random() < 0.2 else ""
        tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=fallback, end_of_word_suffix=suffix))
        trainer = trainers.BpeTrainer(vocab_size=600, **(dict(end_of_word_suffix=suffix) if suffix else {}), **rest)
    elif kind == "Unigram":
        tokenizer, trainer = (
            Tokenizer(models.Unigram()),
            trainers.UnigramTrainer(vocab_size=2000, unk_token="<unk>", **rest),
        )
    elif kind == "WordPiece":
        tokenizer = Tokenizer(models.WordPiece(unk_token="<unk>"))
        trainer = trainers.WordPieceTrainer(vocab_size=500, **rest)
    else:
        tokenizer, trainer = Tokenizer(models.WordLevel(unk_token="<unk>")), trainers.WordLevelTrainer(**rest)
    definition = json.loads(tokenizer.to_str())
    definition["normalizer"], definition["pre_tokenizer"] = random_normalizer(rng), random_pre_tokenizer(rng)
    tokenizer = Tokenizer.from_str(json.dumps(definition))
    tokenizer.train_from_iterator(texts, trainer)
    definition = json.loads(tokenizer.to_str())
    if kind == "BPE":
        definition["model"]["dropout"] = rng.choice([None] * 9 + [0.1])
        definition["model"]["ignore_merges"] = rng.random() < 0.2
    if rng.random() < 0.3:
        extra = {"content": rng.choice(["light", "God ", "##", " the"]), "single_word": False, "special": False}
        flags = {name: rng.random() < 0.3 for name in ("lstrip", "rstrip", "normalized")}
        size = tokenizer.get_vocab_size()
        if tokenizer.token_to_id(extra["content"]) is None:
            definition["added_tokens"].append({"id": size, **extra, **flags})
    return json.dumps(definition)
