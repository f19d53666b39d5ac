"""mdlm-prepare: framing, vocabularies, the contents of the file, bad input."""

from __future__ import annotations

import gzip
import json
import math
import os
import resource
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import h5py
import numpy as np
import pytest
import xxhash
from conftest import command
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from mdlm_data.characters import text8
from mdlm_data.encoding import Encoded, batches
from mdlm_data.framing import Unwrapped, Wrapped
from mdlm_data.vocabularies import make_vocabulary

VERSES = [
    "In the beginning God created the heaven and the earth.",
    "And God said, Let there be light: and there was light.",
    "And the evening and the morning were the first day.",
]


def encode8(text: str) -> list[int]:
    """text8 ids: letters start at 8, then comes the space; 7 stands for all other characters."""
    return [8 + ord(c) - ord("a") if "a" <= c <= "z" else 34 if c == " " else 7 for c in text]


def read(path: Path) -> tuple[np.ndarray, np.ndarray, dict, dict]:
    with h5py.File(path) as f:
        return f["tokens"][:], f["lengths"][:], dict(f.attrs), dict(f["vocab"].attrs)


def scored(path: Path) -> list[int]:
    tokens, lengths, _, _ = read(path)
    return [int(t) for row, n in zip(tokens, lengths) for t in row[:n]]


def token_bytes(path: Path) -> list[bytes]:
    with h5py.File(path) as f:
        raw, offsets = f["vocab/bytes"][:].tobytes(), f["vocab/offsets"][:].tolist()
    return [raw[i:j] for i, j in zip(offsets, offsets[1:])]


def content(path: Path) -> bytes:
    """The text of the file's tokens, without bos, eos and pad."""
    spelling = token_bytes(path)
    vocab = read(path)[3]
    frame = {int(vocab[s]) for s in ("bos", "eos", "pad")}
    return b"".join(spelling[t] for t in scored(path) if t not in frame)


# ---- framing by hand; text8 has bos = 2, eos = 3, pad = 5


def test_wrapped_stream_continues_across_documents_and_batches() -> None:
    framing = Wrapped(text8(), 5)  # blocks of 3
    first, lengths = framing.add(Encoded.of([[10, 11], []]))  # 10 11 3 | 3
    assert first.tolist() == [[2, 10, 11, 3, 3]] and lengths.tolist() == [5]
    second, lengths = framing.add(Encoded.of([[12, 13, 14, 15]]))  # 3 12 13 | 14 15 3
    assert second.tolist() == [[2, 3, 12, 13, 3], [2, 14, 15, 3, 3]] and lengths.tolist() == [5, 5]
    third, _ = framing.add(Encoded.of([[16]]))  # 16 3 is the remainder
    assert len(third) == 0 and len(framing.end()[0]) == 0


@pytest.mark.parametrize(
    ("document", "row", "length"),
    [([10], [2, 10, 3, 3, 5, 5], 4), ([], [2, 3, 3, 5, 5, 5], 3), ([10, 11, 12], [2, 10, 11, 12, 3, 3], 6)],
)
def test_short_text_becomes_one_row(document: list[int], row: list[int], length: int) -> None:
    framing = Wrapped(text8(), 6)
    rows = [framing.add(Encoded.of([document])), framing.end()]
    assert np.concatenate([r for r, _ in rows]).tolist() == [row]
    assert np.concatenate([n for _, n in rows]).tolist() == [length]


def test_unwrapped_has_one_document_per_row() -> None:
    rows, lengths = Unwrapped(text8(), 5).add(Encoded.of([[10], [], [10, 11, 12], [10, 11, 12, 13]]))
    assert rows.tolist() == [[2, 10, 3, 5, 5], [2, 3, 5, 5, 5], [2, 10, 11, 12, 3], [2, 10, 11, 12, 3]]
    assert lengths.tolist() == [3, 2, 5, 5]


def test_batches_are_bounded_and_lose_nothing() -> None:
    texts = ["a" * n for n in (1, 7, 2, 30, 1, 1)]
    found = [[text for text, _ in pieces] for pieces, _ in batches(((t, True) for t in texts), size=8, most=3)]
    assert [len(b) for b in found] == [2, 2, 2] and sum(found, []) == texts


# ---- whole runs


def test_text8_file(prepare, tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("the cat sat on 3 mats\n")
    prepare("t.txt", "--tokenizer", "text8", "--length", 8, "--out", "o.h5")
    tokens, lengths, attributes, vocab = read(tmp_path / "o.h5")
    stream = encode8("the cat ") + [3] + encode8("sat on 3") + [3] + encode8(" mats") + [3]  # chunks of 8 characters
    expected = [[2, *stream[i : i + 6], 3] for i in (0, 6, 12, 18)]
    assert tokens.tolist() == expected and lengths.tolist() == [8] * 4
    assert (vocab["mask"], vocab["bos"], vocab["eos"], vocab["pad"], vocab["size"]) == (4, 2, 3, 5, 35)
    assert (vocab["tokenizer"], vocab["kind"]) == ("text8", "chars")
    assert tokens.dtype == np.uint16 and lengths.dtype == np.uint32
    assert attributes["format"] == "mdlm-data" and attributes["format_version"] == 1 and attributes["wrap"] == 1
    assert attributes["documents"] == 3 and attributes["source"] == "t.txt" and attributes["split"] == "all"
    assert attributes["detokenizer"] == "none" and attributes["command"].startswith("mdlm-prepare t.txt --tokenizer")


def test_chunks_of_another_size(prepare, tmp_path: Path) -> None:
    arguments = ("--tokenizer", "text8", "--length", 10, "--chunk", 3, "--no-wrap", "--out", "o.h5")
    prepare("-", *arguments, stdin=b"abcdefgh\n")
    pads = [5] * 5
    assert read(tmp_path / "o.h5")[0].tolist() == [
        [2, *encode8("abc"), 3, *pads],
        [2, *encode8("def"), 3, *pads],
        [2, *encode8("gh"), 3, 5, *pads],
    ]


@pytest.mark.parametrize(
    ("unit", "documents"),
    [
        ("line", ["ab", "", "c", "", "", "d"]),  # a line of spaces counts as empty
        ("blank", ["ab", "c", "d"]),
        ("file", ["ab\n\nc\n  \n\nd"]),
        ("chunk", ["ab\n\nc\n  \n", "\nd"]),
    ],
)
def test_documents(prepare, tmp_path: Path, unit: str, documents: list[str]) -> None:
    prepare(
        *("-", "--tokenizer", "text8", "--length", 20, "--no-wrap", "--documents", unit, "--out", "o.h5"),
        *("--max-loss", 1),
        *(["--chunk", 9] if unit == "chunk" else []),
        stdin=b"\xef\xbb\xbfab\r\n\r\nc\r\n  \r\n\r\nd\r\n".replace(b"\r", b"" if unit in ("file", "chunk") else b"\r"),
    )
    rows, lengths, _, _ = read(tmp_path / "o.h5")
    if unit == "file":
        documents = [documents[0] + "\n"]  # a file is read verbatim
    assert [row[1 : n - 1].tolist() for row, n in zip(rows, lengths)] == [encode8(d) for d in documents]


def test_kept_newlines(prepare, tmp_path: Path) -> None:
    arguments = ("--tokenizer", "text8", "--length", 6, "--no-wrap", "--documents", "line", "--keep-newline")
    prepare("-", *arguments, "--max-loss", 1, "--out", "o.h5", stdin=b"ab\n \nc\n")
    rows = read(tmp_path / "o.h5")[0].tolist()
    assert rows == [[2, 8, 9, 7, 3, 5], [2, 3, 5, 5, 5, 5], [2, 10, 7, 3, 5, 5]]  # text8 encodes a newline as 7


def test_several_inputs_and_gz_are_one_text(prepare, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\ntwo\n")
    (tmp_path / "b.txt.gz").write_bytes(gzip.compress(b"three\nfour"))
    common = ("--tokenizer", "text8", "--documents", "line", "--length", 8, "--limit", 3)
    prepare("a.txt", "b.txt.gz", *common, "--out", "x.h5")
    prepare("-", *common, "--out", "y.h5", stdin=b"one\ntwo\nthree\n")
    x, y = read(tmp_path / "x.h5"), read(tmp_path / "y.h5")
    assert x[2]["digest"] == y[2]["digest"] and x[2]["documents"] == 3
    assert (x[2]["source"], y[2]["source"]) == ("a.txt,b.txt.gz", "stdin")


def test_contiguous_and_chunked_hold_the_same(prepare, tmp_path: Path) -> None:
    text = ("abc def " * 4000).encode()
    for rows in (0, 7):
        prepare("-", "--tokenizer", "text8", "--length", 32, "--chunk-rows", rows, "--out", f"{rows}.h5", stdin=text)
    with h5py.File(tmp_path / "0.h5") as a, h5py.File(tmp_path / "7.h5") as b:
        assert a["tokens"].chunks is None and b["tokens"].chunks == (7, 32) and b["tokens"].fletcher32
        assert np.array_equal(a["tokens"][:], b["tokens"][:]) and np.array_equal(a["lengths"][:], b["lengths"][:])
        assert a.attrs["digest"] == b.attrs["digest"]


def test_digest_is_of_all_tokens_then_all_lengths(prepare, tmp_path: Path) -> None:
    prepare(
        "-", "--tokenizer", "bpe:280", "--length", 16, "--no-wrap", "--out", "o.h5", stdin="\n".join(VERSES).encode()
    )
    tokens, lengths, attributes, _ = read(tmp_path / "o.h5")
    data = tokens.astype("<u4").tobytes() + lengths.astype("<u4").tobytes()
    assert attributes["digest"] == xxhash.xxh3_128_hexdigest(data)


def test_trained_bpe_spells_the_text(prepare, tmp_path: Path) -> None:
    text = "\n".join([*VERSES, "Ænglisc, naïve café, 日本語 🙂, [MASK] and <|endoftext|>"] * 20)
    (tmp_path / "t.txt").write_text(text)
    prepare("t.txt", "--tokenizer", "bpe:400", "--length", 2000, "--documents", "blank", "--no-wrap", "--out", "o.h5")
    vocab = read(tmp_path / "o.h5")[3]
    assert content(tmp_path / "o.h5") == text.encode()
    assert len(token_bytes(tmp_path / "o.h5")) == vocab["size"] <= 400
    assert (vocab["tokenizer"], vocab["kind"]) == ("bpe", "byte_bpe")
    v = vocab["size"]
    assert (vocab["bos"], vocab["eos"], vocab["mask"], vocab["pad"]) == (v - 2, v - 2, v - 1, v - 1)
    assert token_bytes(tmp_path / "o.h5")[v - 2 :] == [b"<|endoftext|>", b"[MASK]"]


def test_standard_input_equals_the_file(prepare, tmp_path: Path) -> None:
    text = "\n".join(VERSES * 30).encode()
    (tmp_path / "t.txt").write_bytes(text)
    common = ("--tokenizer", "bpe:300", "--length", 16, "--valid-documents", 9, "--out-train")  # three passes
    prepare("t.txt", *common, "a.h5", "--out-valid", "av.h5")
    prepare("-", *common, "b.h5", "--out-valid", "bv.h5", stdin=text)
    for a, b in (("a.h5", "b.h5"), ("av.h5", "bv.h5")):
        x, y = read(tmp_path / a), read(tmp_path / b)
        assert x[2]["digest"] == y[2]["digest"] and x[3]["hash"] == y[3]["hash"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.h5", "av.h5", "b.h5", "bv.h5", "t.txt"]


def test_split_takes_the_last_documents(prepare, tmp_path: Path) -> None:
    lines = ["abc", "de", "f", "gh", "ij"]
    common = ("--tokenizer", "text8", "--documents", "line", "--length", 6, "--no-wrap", "--out-train", "t.h5")
    for option, value in (("--valid-documents", 2), ("--valid-fraction", 0.35)):
        prepare("-", *common, "--out-valid", "v.h5", option, value, stdin="\n".join(lines).encode())
        train, valid = read(tmp_path / "t.h5"), read(tmp_path / "v.h5")
        rows = [[2, *encode8(line), 3] for line in lines]
        assert [r[:n].tolist() for r, n in zip(*train[:2])] == rows[:3]
        assert [r[:n].tolist() for r, n in zip(*valid[:2])] == rows[3:]
        assert (train[2]["split"], valid[2]["split"]) == ("train", "valid")
        assert train[3]["hash"] == valid[3]["hash"]


def test_unigram_values(prepare, tmp_path: Path) -> None:
    common = ("--tokenizer", "bpe:270", "--length", 12, "--no-wrap", "--valid-documents", 1)
    out = prepare("-", *common, "--out-train", "t.h5", "--out-valid", "v.h5", stdin="\n".join(VERSES).encode())
    train, valid = Counter(scored(tmp_path / "t.h5")), Counter(scored(tmp_path / "v.h5"))
    for name, counts in (("t.h5", train), ("v.h5", valid)):
        n = sum(counts.values())
        entropy = -sum(c / n * math.log(c / n) for c in counts.values())
        assert read(tmp_path / name)[2]["unigram_nats"] == pytest.approx(entropy, rel=1e-12)
    size, n = int(read(tmp_path / "v.h5")[3]["size"]), sum(train.values())
    nats = -sum(c * math.log((train[t] + 1) / (n + size)) for t, c in valid.items()) / sum(valid.values())
    found = read(tmp_path / "v.h5")[2]["unigram_ppl_train"]
    assert found == pytest.approx(math.exp(nats), rel=1e-12) and f"{found:.2f}" in out.stdout.decode()
    assert "unigram_ppl_train" not in read(tmp_path / "t.h5")[2]


def test_eos_is_bos(prepare, tmp_path: Path) -> None:
    prepare("-", "--tokenizer", "text8", "--length", 6, "--eos-is-bos", "--out", "o.h5", stdin=b"abc")
    tokens, _, _, vocab = read(tmp_path / "o.h5")
    assert tokens.tolist() == [[2, 8, 9, 10, 2, 2]] and vocab["eos"] == vocab["bos"] == 2


def test_big_vocabulary_needs_32_bits(prepare, tmp_path: Path) -> None:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{i}" for i in range(66000))]
    (tmp_path / "vocab.txt").write_text("\n".join(words) + "\n")
    prepare("-", "--tokenizer", "bert:vocab.txt", "--length", 4, "--out", "o.h5", stdin=b"w65999 w0")
    tokens = read(tmp_path / "o.h5")[0]
    assert tokens.dtype == np.uint32 and tokens[0].tolist() == [2, 66004, 5, 3]


# ---- vocabularies


def test_wordpiece(prepare, tmp_path: Path) -> None:
    names = "[PAD] [UNK] [CLS] [SEP] [MASK] the morn ##ing day . [ ] mask".split()
    (tmp_path / "vocab.txt").write_text("\n".join(names) + "\n")
    common = ("-", "--tokenizer", "bert:vocab.txt", "--length", 12, "--no-wrap", "--out", "o.h5")
    text = "The MORNING dáy. zebra\n[MASK]\n".encode()
    assert b"loses 20.0% of the text" in prepare(*common, stdin=text, fails=True).stderr
    done = prepare(*common, "--max-loss", 0.2, stdin=text)
    tokens, lengths, _, vocab = read(tmp_path / "o.h5")
    assert tokens[0, : lengths[0]].tolist() == [2, 5, 6, 7, 8, 9, 1, 3]
    assert tokens[1, : lengths[1]].tolist() == [2, 10, 12, 11, 3]  # ordinary tokens, not the mask token
    assert (vocab["mask"], vocab["bos"], vocab["eos"], vocab["pad"]) == (4, 2, 3, 0)
    assert (vocab["tokenizer"], vocab["kind"]) == ("bert:vocab", "wordpiece")
    assert token_bytes(tmp_path / "o.h5")[7] == b"##ing"
    assert b"warning" in done.stderr and b"unknown to the vocabulary" in done.stderr


def byte_level(folder: Path, *specials: str) -> Path:
    """A tokenizer.json with the bytes, one merge and some special tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {c: i for i, c in enumerate([*alphabet, "ab"])}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[("a", "b")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(specials))
    tokenizer.enable_truncation(3)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder / "tokenizer.json"


def test_json_with_all_special_tokens(prepare, tmp_path: Path) -> None:
    byte_level(tmp_path, "<s>", "</s>", "<mask>", "<pad>")
    text = "ab <mask> 日 ab"
    common = ("--tokenizer", "json:tokenizer.json", "--length", 40, "--no-wrap")
    prepare("-", *common, "--out", "o.h5", stdin=text.encode())
    vocab = read(tmp_path / "o.h5")[3]
    assert [int(vocab[s]) for s in ("bos", "eos", "mask", "pad", "size")] == [257, 258, 259, 260, 261]
    assert (vocab["tokenizer"], vocab["kind"]) == ("json:tokenizer", "byte_bpe")
    assert content(tmp_path / "o.h5") == text.encode()  # neither truncated nor a mask token
    assert scored(tmp_path / "o.h5")[1] == 256


def test_json_without_a_mask_and_with_named_ends(prepare, tmp_path: Path) -> None:
    byte_level(tmp_path, "<<begin>>", "<<end>>")
    common = ("-", "--tokenizer", "json:tokenizer.json", "--length", 9, "--no-wrap", "--out", "o.h5")
    error = prepare(*common, stdin=b"ab", fails=True).stderr
    assert b"--special bos=TOKEN" in error
    prepare(*common, "--special", "bos=<<begin>>", "--special", "eos=<<end>>", stdin=b"ab")
    vocab = read(tmp_path / "o.h5")[3]
    assert [int(vocab[s]) for s in ("bos", "eos", "mask", "pad", "size")] == [257, 258, 259, 259, 260]
    assert token_bytes(tmp_path / "o.h5")[257:] == [b"<<begin>>", b"<<end>>", b"[MASK]"]


def test_gpt2_files(prepare, tmp_path: Path) -> None:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {c: i for i, c in enumerate([*alphabet, "ab", "Ġab", "<|endoftext|>"])}
    (tmp_path / "vocab.json").write_text(json.dumps(vocab))
    (tmp_path / "merges.txt").write_text("#version: 0.2\na b\nĠ ab\n")
    prepare("-", "--tokenizer", "gpt2:vocab.json,merges.txt", "--length", 6, "--out", "o.h5", stdin=b"ab ab")
    tokens, _, _, attributes = read(tmp_path / "o.h5")
    assert tokens.tolist() == [[258, 256, 257, 258, 258, 259]]
    assert [int(attributes[s]) for s in ("bos", "eos", "mask", "pad", "size")] == [258, 258, 259, 259, 260]
    assert token_bytes(tmp_path / "o.h5")[256:] == [b"ab", b" ab", b"<|endoftext|>", b"[MASK]"]


@pytest.mark.parametrize("spec", ["bpe:280", "text8"])
def test_tokenizer_of_another_data_file(prepare, tmp_path: Path, spec: str) -> None:
    text = "\n".join(VERSES).lower().encode()
    common = ("--length", 16, "--documents", "line", "--out")
    prepare("-", "--tokenizer", spec, *common, "a.h5", stdin=text)
    prepare("-", "--tokenizer", "data:a.h5", *common, "b.h5", stdin=text)
    a, b = read(tmp_path / "a.h5"), read(tmp_path / "b.h5")
    assert a[2]["digest"] == b[2]["digest"] and a[3] == b[3]
    assert token_bytes(tmp_path / "a.h5") == token_bytes(tmp_path / "b.h5")


def test_hash_tells_vocabularies_apart(tmp_path: Path) -> None:
    hashes = set()
    for last in ("night", "light"):
        (tmp_path / "v.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "day", last]))
        hashes.add(make_vocabulary(f"bert:{tmp_path / 'v.txt'}").hash)
    assert len(hashes) == 2 and all(len(h) == 32 for h in hashes)


# ---- bad input


def test_invalid_utf8_is_replaced_and_counted(prepare, tmp_path: Path) -> None:
    common = ("-", "--tokenizer", "bpe:300", "--length", 32, "--no-wrap", "--out", "o.h5")
    text = b"good\n" * 100 + b"ba\xff\xfed\ncut \xe6\x97\n"
    done = prepare(*common, stdin=text)
    assert done.stderr.count(b"4 invalid or NUL byte(s) replaced") == 1
    assert read(tmp_path / "o.h5")[2]["replaced_bytes"] == 4
    assert "ba\ufffd\ufffddcut \ufffd".encode() in content(tmp_path / "o.h5")


def test_quiet_prints_nothing(prepare) -> None:
    done = prepare("-", "--tokenizer", "text8", "--length", 8, "--quiet", "--out", "o.h5", stdin=b"abc")
    assert done.stdout == b"" and done.stderr == b""


GOOD = ("t.txt", "--tokenizer", "text8", "--length", "8", "--out", "o.h5")


def changed(*pairs: tuple[str, str]) -> list[str]:
    """GOOD with some words replaced; an empty replacement removes the word."""
    words = dict(pairs)
    return [w for w in (words.get(word, word) for word in GOOD) if w]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (changed(("t.txt", "nowhere.txt")), "nowhere.txt: No such file"),
        (changed(("t.txt", "folder")), "folder: is a folder"),
        (changed(("t.txt", "empty.txt")), "the corpus holds no text"),
        ([*changed(("t.txt", "blank.txt")), "--documents", "line"], "the corpus holds no text"),
        (changed(("t.txt", "empty.txt"), ("text8", "bpe:300")), "the corpus is empty"),
        (changed(("t.txt", "short.gz")), "short.gz: damaged .gz file"),
        (changed(("t.txt", "short.gz"), ("text8", "bpe:300")), "short.gz: damaged .gz file"),
        (changed(("8", "3")), "--length 3"),
        (changed(("8", "x")), "--length"),
        (changed(("text8", "text9")), "--tokenizer text9"),
        (changed(("text8", "bpe:100")), "bpe:100"),
        (changed(("text8", "bpe:4294967296")), "2^31"),
        (changed(("text8", "json:nowhere.json")), "nowhere.json: No such file"),
        (changed(("text8", "json:t.txt")), "t.txt: not a tokenizer"),
        (changed(("text8", "bert:t.txt")), "t.txt: not a BERT vocabulary"),
        (changed(("text8", "gpt2:t.txt,t.txt")), "not a tokenizer"),
        (changed(("text8", "gpt2:t.txt")), "both files"),
        (changed(("text8", "data:t.txt")), "t.txt: not a tokenizer"),
        (changed(("text8", "data:other.h5")), "not a data file"),
        (changed(("o.h5", "t.txt")), "both read and written"),
        (changed(("o.h5", "./folder/../t.txt")), "both read and written"),
        (changed(("o.h5", "nowhere/o.h5")), "no folder"),
        (changed(("o.h5", "folder")), "folder: is a folder"),
        (changed(("--out", ""), ("o.h5", "")), "give --out"),
        ([*GOOD, "--valid-documents", "1"], "--out is for one file"),
        ([*changed(("--out", "--out-train")), "--out-valid", "o.h5", "--valid-documents", "1"], "for both outputs"),
        ([*changed(("--out", "--out-train")), "--out-valid", "v.h5", "--valid-documents", "9"], "nothing is left"),
        ([*changed(("--out", "--out-train")), "--out-valid", "v.h5"], "--valid-documents or --valid-fraction"),
        ([*GOOD, "--detokenizer", "lm2b"], "no detokenizer 'lm2b'"),
        ([*GOOD, "--lenght", "8"], "--lenght"),
        ([*GOOD, "--special", "mask=x"], "--special is for json:"),
    ],
)
def test_bad_input(prepare, tmp_path: Path, arguments: list[str], says: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "t.txt").write_text("the text\n")
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "blank.txt").write_text("\n\n  \n")
    (tmp_path / "short.gz").write_bytes(gzip.compress(os.urandom(4000).hex().encode())[:3000])
    with h5py.File(tmp_path / "other.h5", "w") as f:
        f.attrs["format"] = "something else"
    before = {p: p.read_bytes() for p in tmp_path.iterdir() if p.is_file()}
    assert says in prepare(*arguments, fails=True).stderr.decode()
    assert {p: p.read_bytes() for p in tmp_path.iterdir() if p.is_file()} == before


@pytest.mark.parametrize("extra", [(), ("--chunk-rows", "0")])
def test_full_disk_keeps_the_old_file(tmp_path: Path, extra: tuple[str, ...]) -> None:
    (tmp_path / "t.txt").write_text("abcdefgh" * 100_000)
    (tmp_path / "o.h5").write_text("the old one")

    def small_files() -> None:  # a write beyond the limit fails as on a full disk
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))

    done = subprocess.run(
        command("mdlm_data.prepare", *GOOD, *extra),
        cwd=tmp_path,
        preexec_fn=small_files,
        capture_output=True,
        timeout=300,
    )
    assert done.stderr.decode() == "mdlm-prepare: error: o.h5: cannot write it: File too large\n"
    assert done.returncode == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["o.h5", "t.txt"]
    assert (tmp_path / "o.h5").read_text() == "the old one"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_run_leaves_nothing(tmp_path: Path, number: int) -> None:
    words = command("mdlm_data.prepare", "-", *GOOD[1:], "--documents", "line")
    process = subprocess.Popen(words, cwd=tmp_path, stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdin.write(b"some text\n" * 20_000)
    process.stdin.flush()
    deadline = time.monotonic() + 30
    while not (tmp_path / "o.h5.tmp").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert (tmp_path / "o.h5.tmp").exists()  # it has started to write and waits for more text
    process.send_signal(number)
    error = process.stderr.read()  # standard input stays open, so the run ends by the signal alone
    assert process.wait(30) == 130 and error == b"mdlm-prepare: interrupted; no file was written\n"
    process.stdin.close()
    assert list(tmp_path.iterdir()) == []


# ---- size


def test_memory_does_not_grow_with_the_text(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    words = ["".join(chr(97 + c) for c in rng.integers(0, 26, n)) for n in rng.integers(2, 9, 300)]
    paragraph = "\n".join(" ".join(rng.choice(words, 12)) for _ in range(12_000)) + "\n"  # about 0.9 MB
    peaks = []
    for times in (1, 10):
        text = tmp_path / f"{times}.txt"
        text.write_text(paragraph * times)
        arguments = ("--tokenizer", "bpe:1000", "--length", 64, "--quiet", "--valid-documents", 100)
        outputs = ("--out-train", tmp_path / "t.h5", "--out-valid", tmp_path / "v.h5")
        process = subprocess.Popen(command("mdlm_data.prepare", text, *arguments, *outputs))
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0
        peaks.append(usage.ru_maxrss / 1024)
    assert (tmp_path / "10.txt").stat().st_size > 8e6
    assert peaks[1] - peaks[0] < 60, f"peak memory in MiB: {peaks}"


# ---- the real vocabularies


def test_real_gpt2(real_data: Path) -> None:
    files = [real_data / "gpt2-vocab.json", real_data / "gpt2-merges.txt"]
    v = make_vocabulary(f"gpt2:{files[0]},{files[1]}")
    assert list(v.encode(["hello world"])[0]) == [31373, 995]
    assert (v.name, v.size, v.mask, v.bos, v.eos, v.pad) == ("gpt2", 50258, 50257, 50256, 50256, 50257)
    text = (real_data / "wikitext2_valid.txt").read_text()[:20000]
    assert b"".join(v.tokens[i] for i in v.encode([text])[0]).decode() == text
    assert v.tokens[995] == b" world"


def test_real_bert(real_data: Path) -> None:
    v = make_vocabulary(f"bert:{real_data / 'bert-base-uncased-vocab.txt'}")
    assert list(v.encode(["Hello World"])[0]) == [7592, 2088]
    assert (v.name, v.size, v.mask, v.bos, v.eos, v.pad) == ("bert-base-uncased", 30522, 103, 101, 102, 0)


def test_real_lm1b(prepare, real_data: Path, tmp_path: Path) -> None:
    vocab = f"bert:{real_data / 'bert-base-uncased-vocab.txt'}"
    common = ("--tokenizer", vocab, "--length", 128, "--no-wrap", "--detokenizer", "lm1b", "--limit", 500)
    prepare(real_data / "lm1b_heldout_sample.txt", *common, "--out", "o.h5")
    tokens, lengths, attributes, _ = read(tmp_path / "o.h5")
    assert tokens.shape == (500, 128) and attributes["wrap"] == 0 and attributes["detokenizer"] == "lm1b"
    for row, n in zip(tokens.tolist(), lengths.tolist()):
        assert row[0] == 101 and row[n - 1] == 102 and row[n:] == [0] * (128 - n) and 103 not in row


def test_real_wikitext(prepare, real_data: Path, tmp_path: Path) -> None:
    files = f"gpt2:{real_data / 'gpt2-vocab.json'},{real_data / 'gpt2-merges.txt'}"
    common = ("--tokenizer", files, "--length", 1024, "--detokenizer", "wikitext", "--keep-newline")
    prepare(real_data / "wikitext2_valid.txt", *common, "--out", "o.h5")
    tokens, _, attributes, _ = read(tmp_path / "o.h5")
    assert (tokens[:, 0] == 50256).all() and (tokens[:, -1] == 50256).all()
    lines = (real_data / "wikitext2_valid.txt").read_text().count("\n")
    assert attributes["documents"] == lines
    stream = tokens[:, 1:-1].ravel()
    assert stream[0] == 50256 and attributes["document_unit"] == "line+newline"  # the first line is empty: a lone eos
    assert lines - 40 < (stream == 50256).sum() <= lines  # the dropped remainder holds a few of them
