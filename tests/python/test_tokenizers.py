"""Text survives its tokenizer, or one clear line says why not: random texts and random tokenizer.json files."""

from __future__ import annotations

import copy
import json
import os
import random
from collections import Counter
from pathlib import Path

import h5py
import numpy as np
import pytest
from random_tokenizers import SPECIALS, WORDS, random_text, random_tokenizer
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from mdlm_data.characters import CharEncoder
from mdlm_data.errors import InputError
from mdlm_data.fidelity import Fidelity
from mdlm_data.spelling import Spelling
from mdlm_data.vocabularies import make_vocabulary
from mdlm_data.vocabulary import Vocabulary

FILES = 4000 if os.environ.get("LONG") == "1" else 150
TEXTS = 5  # for each file


def spell(v: Vocabulary, ids: np.ndarray) -> str:
    return Spelling("", v.kind, v.hash, v.tokens, v.mask, v.bos, v.eos, v.pad).text(ids.tolist())


def test_random_tokenizers(tmp_path: Path) -> None:
    """Refused in one line; or the loss it counts is at least what an independent comparison finds missing."""
    ends: Counter[str] = Counter()
    for seed in range(FILES):
        rng = random.Random(seed)
        path = tmp_path / "t.json"
        path.write_text(random_tokenizer(rng), encoding="utf-8")
        try:
            v = make_vocabulary(f"json:{path}")
        except InputError as e:
            assert "\n" not in str(e) and "t.json" in str(e) or "json:t" in str(e), (seed, str(e))
            ends["refused"] += 1
            continue
        for text in [random_text(rng) for _ in range(TEXTS)] + [" ".join(rng.choices(WORDS, k=8))]:
            ids = v.encode([text])[0]
            assert not np.isin(ids, [v.mask, v.bos, v.eos, v.pad]).any(), (seed, text)
            loss = Fidelity(v).compare([text], [ids])
            back = spell(v, ids)
            if back in (text, " " + text):
                assert loss.lost == 0, (seed, text)
                ends["kept"] += 1
            elif loss.lost or loss.unknown:
                ends["loss told"] += 1
            else:
                assert loss.changed == 1, (seed, text, back)
                ends["changed"] += 1
                definition = json.loads(v.definition)
                if definition["normalizer"] is None:  # then only white space may differ
                    assert "".join(text.split()) == "".join(back.split()), (seed, text, back)
    assert min(ends[k] for k in ("refused", "kept", "loss told", "changed")) > FILES // 50, ends


def test_random_text_survives_byte_level_bpe(prepare, tmp_path: Path) -> None:
    """Through the whole program: the text of the rows is the text of the file."""
    rng = random.Random(1)
    lines = [" ".join(random_text(rng).split()).replace("\x85", "") for _ in range(10 * FILES)]
    lines = [line for line in lines if line]
    (tmp_path / "t.txt").write_text("\n".join(lines) + "\n", encoding="utf-8", newline="")
    said = prepare("t.txt", "--tokenizer", "bpe:1000", "--length", 600, "--no-wrap", "--out", "o.h5")
    assert said.stderr == b""
    v = make_vocabulary(f"data:{tmp_path / 'o.h5'}")
    with h5py.File(tmp_path / "o.h5") as f:
        rows = [spell(v, row[1 : n - 1]) for row, n in zip(f["tokens"][:], f["lengths"][:])]
        assert f.attrs["bytes"] == sum(len(line.encode()) for line in lines)
        assert f.attrs["words"] == sum(len(line.split()) for line in lines)
        assert f.attrs["truncated_documents"] == f.attrs["lost_characters"] == 0
    assert rows == lines


# ---- tokenizer.json files by hand


def definition(**changes: object) -> dict:
    """A BPE of characters and a few merges, special tokens first."""
    letters = sorted(set("".join(WORDS)) | set("▁ <>/smakp"))
    vocab = {t: i for i, t in enumerate([*SPECIALS, *letters, "th", "the", "▁the"])}
    merges = [("t", "h"), ("th", "e"), ("▁", "the")]
    model = models.BPE(vocab=vocab, merges=merges, unk_token="<unk>")
    tokenizer = Tokenizer(model)
    tokenizer.add_special_tokens(SPECIALS)
    made = json.loads(tokenizer.to_str())
    for name, value in changes.items():
        where = made if name in made else made["model"]
        where[name] = value
    return made


def vocabulary(folder: Path, made: dict) -> Vocabulary:
    (folder / "t.json").write_text(json.dumps(made))
    return make_vocabulary(f"json:{folder / 't.json'}")


METASPACE = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
PREPEND = {
    "type": "Sequence",
    "normalizers": [
        {"type": "Prepend", "prepend": "▁"},
        {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
    ],
}


@pytest.mark.parametrize(
    "changes", [dict(pre_tokenizer=METASPACE), dict(normalizer=PREPEND), dict(pre_tokenizer=None), dict(fuse_unk=True)]
)
def test_blanks_and_spelt_specials_survive(tmp_path: Path, changes: dict) -> None:
    v = vocabulary(tmp_path, definition(**changes))
    for text in ("the heaven", " the  heaven ", "the </s> <mask> said<s>"):
        assert spell(v, v.encode([text])[0]) in (text, " " + text)


def test_bytes_are_tokens_only_with_byte_fallback(tmp_path: Path) -> None:
    made = definition(pre_tokenizer=METASPACE)
    size = len(made["model"]["vocab"])
    made["model"]["vocab"] |= {f"<0x{b:02X}>": size + b for b in range(256)}
    plain = vocabulary(tmp_path, made)
    assert plain.tokens[size + 0x41] == b"<0x41>"
    made["model"]["byte_fallback"] = True
    v = vocabulary(tmp_path, made)
    assert v.tokens[size + 0x41] == b"A" and spell(v, v.encode(["the 日"])[0]) == " the 日"
    assert v.hash != plain.hash


def test_end_of_word_suffix_is_a_blank(tmp_path: Path) -> None:
    made = definition(pre_tokenizer={"type": "WhitespaceSplit"}, end_of_word_suffix="</w>")
    size = len(made["model"]["vocab"])
    letters = sorted(set("".join(WORDS)))
    made["model"]["vocab"] |= {f"{c}</w>": size + i for i, c in enumerate(letters)}
    v = vocabulary(tmp_path, made)
    assert spell(v, v.encode(["the heaven and"])[0]) == "the heaven and "


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (dict(dropout=0.1), "dropout 0.1"),
        (dict(pre_tokenizer={"type": "WhitespaceSplit"}), "blanks between words do not come back"),
        (dict(normalizer={"type": "Prepend", "prepend": "s"}, pre_tokenizer=None), None),
        (dict(normalizer={"type": "Replace", "pattern": {"Regex": "[a-z]"}, "content": "a"}), None),
    ],
)
def test_what_cannot_be_spelt_is_refused_or_told(tmp_path: Path, changes: dict, says: str | None) -> None:
    if says:
        with pytest.raises(InputError, match=says):
            vocabulary(tmp_path, definition(**changes))
    else:
        v = vocabulary(tmp_path, definition(**changes))
        assert Fidelity(v).compare(["the heaven"], v.encode(["the heaven"])).changed == 1


def test_hash_covers_all_that_changes_ids(tmp_path: Path) -> None:
    base = definition(pre_tokenizer=METASPACE)
    light = {"id": len(base["model"]["vocab"]), "content": "light", "special": False}
    light |= dict(single_word=False, lstrip=False, rstrip=False, normalized=True)
    changed = [dict(ignore_merges=True), dict(byte_fallback=True), dict(fuse_unk=True), dict(pre_tokenizer=None)]
    changed += [dict(normalizer={"type": "NFC"}), dict(pre_tokenizer=METASPACE | {"prepend_scheme": "first"})]
    changed += [dict(added_tokens=[*base["added_tokens"], light | flags]) for flags in ({}, {"lstrip": True})]
    changed += [
        dict(added_tokens=[*base["added_tokens"], light | flags])
        for flags in ({"special": True}, {"normalized": False})
    ]
    made = [base] + [copy.deepcopy(base) for _ in changed]
    for one, change in zip(made[1:], changed):
        for name, value in change.items():
            (one if name in one else one["model"])[name] = value
    hashes = [vocabulary(tmp_path, one).hash for one in made]
    assert len(set(hashes)) == len(hashes)
    decoded = copy.deepcopy(base) | {"decoder": {"type": "Fuse"}}  # changes no id
    assert vocabulary(tmp_path, decoded).hash == hashes[0]


def test_usual_tokenizers_keep_their_hashes(tmp_path: Path) -> None:
    """Those of version 0.5: files made before go on."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate([*alphabet, "ab"])}, merges=[("a", "b")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<s>", "</s>"])
    tokenizer.save(str(tmp_path / "t.json"))
    (tmp_path / "v.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "day"]))
    found = [make_vocabulary(f"{s}{tmp_path}/{f}").hash for s, f in (("json:", "t.json"), ("bert:", "v.txt"))]
    assert found == HASHES and make_vocabulary("text8").hash == "43bbda48065fc0e713c73e7056c36505"


HASHES = ["aa95bf034963e836749780ab26f80104", "a4a192c4961f2ba96c28354259cd356d"]


# ---- characters


def test_text8_lowers_capitals() -> None:
    v = make_vocabulary("text8")
    assert v.encode(["The Cat"])[0].tolist() == v.encode(["the cat"])[0].tolist()
    loss = Fidelity(v).compare(["The Cat", "the cat", "3 É"], v.encode(["The Cat", "the cat", "3 É"]))
    assert (loss.changed, loss.lost, loss.unknown) == (2, 2, 2)


def test_characters_of_ones_own(prepare, tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("ACGTNACGT\nTTGA\n")
    prepare("t.txt", "--tokenizer", "chars:TGCAN", "--length", 8, "--out", "a.h5")
    prepare("t.txt", "--tokenizer", "chars", "--length", 8, "--out", "b.h5")
    prepare("t.txt", "--tokenizer", "data:a.h5", "--length", 8, "--out", "c.h5")
    files = [h5py.File(tmp_path / f"{n}.h5") for n in "abc"]
    for f in files:
        assert (
            f.attrs["digest"] == files[0].attrs["digest"]
            and f["vocab"].attrs["hash"] == files[0]["vocab"].attrs["hash"]
        )
        assert (f["vocab"].attrs["kind"], f["vocab"].attrs["tokenizer"], f["vocab"].attrs["size"]) == (
            "chars",
            "chars",
            10,
        )
        assert bytes(f["vocab/bytes"][:]) == b"[BOS][EOS][MASK][PAD][UNK]ACGNT"
    (tmp_path / "t.txt").write_text("ACGTXXACGT\n")
    error = prepare("t.txt", "--tokenizer", "chars:ACGT", "--length", 8, "--out", "d.h5", fails=True).stderr
    assert b"the tokenizer chars loses 20.0% of the text (2 of 10 characters" in error
    prepare("t.txt", "--tokenizer", "chars:ACGT", "--length", 8, "--max-loss", 0.2, "--out", "d.h5")
    with h5py.File(tmp_path / "d.h5") as f:
        assert f.attrs["unknown_tokens"] == f.attrs["lost_characters"] == 2


def test_any_character_is_a_token() -> None:
    letters = "a☃\U0001f600\nÉ"
    v = make_vocabulary(f"chars:{letters}")
    assert isinstance(v.encode, CharEncoder) and spell(v, v.encode([letters * 3])[0]) == letters * 3
