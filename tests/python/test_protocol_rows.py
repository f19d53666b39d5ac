"""Named protocols: the rows and attributes of whole runs, also of real text."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from reference_rows import reference_rows
from tokenizers import BertWordPieceTokenizer, ByteLevelBPETokenizer

from mdlm_data.detokenizers import detokenizer
from mdlm_data.preparation import prepare as job
from mdlm_data.prepare import parse


def run(*arguments: object) -> None:
    words = [str(a) for a in (*arguments, "--quiet", "--processes", 1)]
    job(parse(words), " ".join(words))


def attributes(path: Path) -> dict:
    with h5py.File(path) as f:
        return dict(f.attrs)


def rows(path: Path) -> list[list[int]]:
    with h5py.File(path) as f:
        assert (f["lengths"][:] == f["tokens"].shape[1]).all()
        return f["tokens"][:].tolist()


# ---- whole runs


def test_text8_replayed(prepare, tmp_path: Path) -> None:
    text = "".join(np.random.default_rng(0).choice(list("abcdefghijklmnopqrstuvwxyz "), 256 * 9 + 10))
    (tmp_path / "t.txt").write_text(text)
    prepare("t.txt", "--protocol", "text8:mdlm2024", "--shards", 3, "--out", "o.h5")
    ids = [[34 if c == " " else ord(c) - 89 for c in text[i : i + 256]] for i in range(0, len(text), 256)]
    assert rows(tmp_path / "o.h5") == reference_rows(ids, 256, 1000, 3, 2, 3, True, True)  # 4, 3 and 3 documents
    a = attributes(tmp_path / "o.h5")
    wanted = {
        **{"protocol": "text8", "variant": "mdlm2024", "framing": "replay", "map_batch": 1000, "shards": 3},
        **{"add_eos": 1, "add_special": 1, "scored": "all", "wrap": 1, "source": "text8", "split": "test"},
        **{"documents": 10, "scored_tokens": 9 * 256, "dropped_tokens": 9 * 257 + 11 - 9 * 254},
    }
    assert {name: a[name] for name in wanted} == wanted
    assert a["bytes"] <= len(text) and a["words"] > 0 and "revision" not in a and "field" not in a


def test_without_protocol_the_framing_is_recorded(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("  abc \nde\n")
    common = (
        tmp_path / "t.txt",
        "--tokenizer",
        "text8",
        "--length",
        5,
        "--documents",
        "line",
        "--out",
        tmp_path / "o.h5",
    )
    run(*common, "--strip", "--revision", "r1", "--no-add-eos", "--no-add-special")
    assert rows(tmp_path / "o.h5") == [[8, 9, 10, 11, 12]]
    a = attributes(tmp_path / "o.h5")
    assert (a["framing"], a["map_batch"], a["shards"], a["add_eos"], a["add_special"]) == ("seamless", 0, 0, 0, 0)
    assert a["document_unit"] == "line+stripped" and a["revision"] == "r1" and a["bytes"] == 5
    assert "protocol" not in a and "variant" not in a
    run(*common[:3], "--length", 9, *common[5:], "--no-wrap")
    assert attributes(tmp_path / "o.h5")["framing"] == "documents"


def test_too_many_shards_leave_no_row(prepare, tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("abcdefgh\n" * 4)
    common = (
        "t.txt",
        "--tokenizer",
        "text8",
        "--documents",
        "line",
        "--length",
        20,
        "--map-batch",
        1000,
        "--out",
        "o.h5",
    )
    prepare(*common, "--shards", 2)
    assert len(rows(tmp_path / "o.h5")) == 2
    assert b"each of --shards 4 drops its part" in prepare(*common, "--shards", 4, fails=True).stderr


def test_counted_pipe(prepare, tmp_path: Path) -> None:
    """The documents of a pipe are counted, too."""
    common = ("--tokenizer", "text8", "--documents", "line", "--length", 8, "--map-batch", 1000, "--shards", 2)
    prepare("-", *common, "--out", "o.h5", stdin=b"abcdefgh\nab\nabc\n")
    assert len(rows(tmp_path / "o.h5")) == 2 and attributes(tmp_path / "o.h5")["documents"] == 3


# ---- real text and vocabularies


def ids_of(real_data: Path, name: str) -> list[list[int]]:
    """Ids of the documents of a real text, by the tokenizers library alone."""
    wiki = name == "wikitext2"
    with open(real_data / ("wikitext2_valid.txt" if wiki else "lm1b_heldout_sample.txt"), encoding="utf-8") as f:
        lines = [line if wiki and line.strip() else line.strip() for line in f]
    if name == "lm1b_packed":
        tokenizer = BertWordPieceTokenizer(str(real_data / "bert-base-uncased-vocab.txt"))
    else:
        tokenizer = ByteLevelBPETokenizer(str(real_data / "gpt2-vocab.json"), str(real_data / "gpt2-merges.txt"))
    texts = map(detokenizer("wikitext" if wiki else "lm1b"), lines)
    return [e.ids for e in tokenizer.encode_batch(list(texts), add_special_tokens=False)]


@pytest.mark.parametrize("name", ["wikitext2", "lm1b_gpt2", "lm1b_packed"])
def test_real_text(real_data: Path, tmp_path: Path, name: str) -> None:
    """The rows of each paper for 1, 8 and 64 processes, and the seamless ones."""
    wiki, bert = name == "wikitext2", name == "lm1b_packed"
    ids, length = ids_of(real_data, name), 128 if bert else 1024
    bos, eos = (101, 101) if bert else (50256, 50256)
    spec = "bert:{}/bert-base-uncased-vocab.txt" if bert else "gpt2:{0}/gpt2-vocab.json,{0}/gpt2-merges.txt"
    text = real_data / ("wikitext2_valid.txt" if wiki else "lm1b_heldout_sample.txt")
    common = (text, "--tokenizer", spec.format(real_data), "--out", tmp_path / "o.h5", "--protocol")
    for variant, shards in (("mdlm2024", 1), ("bd3lm2025", 8), ("duo2025", 64)):
        run(*common, f"{name}:{variant}", "--shards", shards)
        ends = bert or variant == "mdlm2024"
        wanted = reference_rows(ids, length, 1000, shards, bos, eos, ends, True)
        assert rows(tmp_path / "o.h5") == wanted, (variant, shards)
    run(*common, name)
    seamless = rows(tmp_path / "o.h5")
    assert seamless == reference_rows(ids, length, len(ids), 1, bos, 102 if bert else eos, True, True)
    assert len(wanted) < len(seamless) and attributes(tmp_path / "o.h5")["documents"] == len(ids)


def test_records_give_the_rows_of_text(real_data: Path, tmp_path: Path) -> None:
    """A record of WikiText is a line with its newline; an empty record is an empty document."""
    text, records = real_data / "wikitext2_valid.txt", tmp_path / "records.jsonl"
    with open(text, encoding="utf-8") as f, open(records, "w") as g:
        g.writelines(json.dumps({"text": line if line.strip() else ""}) + "\n" for line in f)
    spec = f"gpt2:{real_data}/gpt2-vocab.json,{real_data}/gpt2-merges.txt"
    for source in (text, records):
        run(source, "--tokenizer", spec, "--out", tmp_path / source.with_suffix(".h5").name, "--protocol", "wikitext2")
    a, b = (attributes(tmp_path / f"{name}.h5") for name in ("wikitext2_valid", "records"))
    assert a["digest"] == b["digest"] and (a["documents"], b["field"]) == (3760, "text")
    assert (a["document_unit"], b["document_unit"]) == ("line+newline", "record")
