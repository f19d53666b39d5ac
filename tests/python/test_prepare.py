"""mdlm-prepare: framing, whole runs and the contents of the file."""

from __future__ import annotations

import gzip
import math
from collections import Counter
from pathlib import Path

import h5py
import numpy as np
import pytest
import xxhash
from prepared import VERSES, content, encode8, read, scored, token_bytes

from mdlm_data.characters import text8
from mdlm_data.encoding import Encoded, batches
from mdlm_data.framing import Unwrapped, Wrapped

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


# ---- real texts


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
