"""mdlm-prepare: the vocabularies that it makes and reads, their special tokens, hashes and spellings."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from prepared import VERSES, content, read, scored, token_bytes
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from mdlm_data.vocabularies import make_vocabulary


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
