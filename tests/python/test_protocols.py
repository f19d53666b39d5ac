"""Named protocols: what each fixes and what it refuses."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from mdlm_data.detokenizers import TABLES
from mdlm_data.errors import InputError
from mdlm_data.fetch import fetch
from mdlm_data.prepare import parse
from mdlm_data.protocols import DATA_SETS, LAMBADA, VARIANTS, ZERO_SHOT, check_vocabulary, settings

PAPERS = ("mdlm2024", "bd3lm2025", "duo2025")


# ---- what a protocol fixes


@pytest.mark.parametrize(
    ("name", "tokenizer", "length", "wrap", "detokenizer", "field", "split"),
    [
        ("lm1b", "bert-base-uncased", 128, False, "lm1b", "text", "test"),
        ("lm1b_packed", "bert-base-uncased", 128, True, "lm1b", "text", "test"),
        ("lm1b_gpt2", "gpt2", 1024, True, "lm1b", "text", "test"),
        ("openwebtext", "gpt2", 1024, True, "none", "text", "valid"),
        ("text8", "text8", 256, True, "none", "text", "test"),
        ("text8_crop", "text8", 512, True, "none", "text", "train"),
        ("ptb", "gpt2", 1024, True, "ptb", "sentence", "validation"),
        ("wikitext2", "gpt2", 1024, True, "wikitext", "text", "validation"),
        ("wikitext103", "gpt2", 1024, True, "wikitext", "text", "validation"),
        ("lambada", "gpt2", 1024, True, "lambada", "text", "test"),
        ("ag_news", "gpt2", 1024, True, "none", "text", "test"),
        ("pubmed", "gpt2", 1024, True, "scientific_papers", "article", "validation"),
        ("arxiv", "gpt2", 1024, True, "scientific_papers", "article", "validation"),
    ],
)
@pytest.mark.parametrize("variant", VARIANTS)
def test_data_set(
    name: str, tokenizer: str, length: int, wrap: bool, detokenizer: str, field: str, split: str, variant
):
    fixed = settings(f"{name}:{variant}")
    assert (fixed["length"], fixed["wrap"], fixed["detokenizer"], fixed["field"]) == (length, wrap, detokenizer, field)
    assert DATA_SETS[name].tokenizer == tokenizer and DATA_SETS[name].splits[0] == split and detokenizer in TABLES
    replayed = wrap and variant in PAPERS
    assert fixed["map_batch"] == (1000 if replayed else 0) and ("shards" in fixed) == (not replayed)
    zero_shot = tokenizer == "gpt2" and name != "openwebtext"
    assert (name in ZERO_SHOT) == zero_shot
    assert fixed["add_eos"] == (not zero_shot or variant in ("seamless", "mdlm2024"))
    assert fixed["add_special"] == ((name, variant) != ("openwebtext", "bd3lm2025"))
    assert fixed["eos_is_bos"] == (name == "lm1b_packed" and replayed)


def test_all_data_sets_are_in_the_table_above() -> None:
    assert len(DATA_SETS) == 13 and settings("ptb") == settings("ptb:seamless")
    assert {v for v in VARIANTS if VARIANTS[v].scored == "all but the first"} == {"bd3lm2025"}


GIVEN = ("t", "--tokenizer", "gpt2:v,m", "--out", "o.h5", "--protocol")
SPLIT = ("t", "--tokenizer", "gpt2:v,m", "--out-train", "t.h5", "--out-valid", "v.h5", "--protocol")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((*GIVEN, "pbt"), "no data set 'pbt'; known: lm1b, "),
        ((*GIVEN, "ptb:mdlm"), "no variant 'mdlm'; known: seamless, mdlm2024, "),
        ((*GIVEN, "ptb:"), "no variant ''"),
        ((*GIVEN, "ptb", "--length", "128"), "--protocol ptb fixes length = 1024; it cannot be 128"),
        ((*GIVEN, "ptb", "--no-wrap"), "fixes wrap = True"),
        ((*GIVEN, "lm1b", "--wrap"), "fixes wrap = False"),
        ((*GIVEN, "ptb", "--detokenizer", "lm1b"), "fixes detokenizer = ptb"),
        ((*GIVEN, "ptb", "--source", "wsj"), "fixes source = ptb"),
        ((*GIVEN, "ptb", "--field", "text"), "fixes field = sentence"),
        ((*GIVEN, "ptb", "--keep-newline"), "fixes keep-newline = False"),
        ((*GIVEN, "ptb", "--eos-is-bos"), "fixes eos-is-bos = False"),
        ((*GIVEN, "ptb", "--split", "test"), "--split is validation, not test"),
        ((*GIVEN, "ptb", "--map-batch", "1000"), "fixes map-batch = 0"),
        ((*GIVEN, "ptb", "--shards", "8"), "fixes shards = 0"),
        ((*GIVEN, "ptb", "--limit", "8"), "takes all documents"),
        ((*GIVEN, "ptb:mdlm2024"), "give --shards P"),
        ((*GIVEN, "ptb:mdlm2024", "--shards", "1", "--no-add-eos"), "fixes add-eos = True"),
        ((*GIVEN, "ptb:duo2025", "--shards", "1", "--add-eos"), "fixes add-eos = False"),
        ((*GIVEN, "lm1b:mdlm2024", "--shards", "8"), "fixes shards = 0"),
        ((*SPLIT, "ptb"), "its splits are fixed"),
        ((*SPLIT, "openwebtext", "--valid-documents", "9"), "fixes valid-documents = 100000"),
        ((*SPLIT, "openwebtext", "--valid-fraction", "0.1"), "fixes valid-documents = 100000"),
        (("t", "--vocabulary", "data:a.h5", "--out", "o.h5", "--protocol", "ptb"), "not for token ids"),
        (("t", "--out", "o.h5", "--protocol", "ptb"), "give --tokenizer, the files of gpt2"),
        (("t", "--tokenizer", "text8", "--out", "o.h5"), "give --length L, the tokens in a row, or --protocol"),
        ((*GIVEN[:5], "--length", "8", "--shards", "2"), "--shards goes with --map-batch"),
        ((*GIVEN[:5], "--length", "8", "--no-wrap", "--no-add-eos"), "go with --wrap"),
        ((*GIVEN[:5], "--length", "8", "--no-wrap", "--map-batch", "9"), "go with --wrap"),
    ],
)
def test_contradictions(arguments: tuple[str, ...], says: str) -> None:
    with pytest.raises(InputError, match=".") as error:
        parse(list(arguments))
    assert says in str(error.value) and "\n" not in str(error.value)


def test_what_agrees_is_accepted() -> None:
    agreeing = ("--length", "1024", "--wrap", "--detokenizer", "ptb", "--shards", "8", "--split", "validation")
    o = parse([*GIVEN, "ptb:bd3lm2025", *agreeing])
    assert (o.shards, o.map_batch, o.add_eos, o.add_special, o.source) == (8, 1000, False, True, "ptb")
    assert parse([*SPLIT, "openwebtext"]).valid_documents == 100_000
    assert parse(["t", "--out", "o.h5", "--protocol", "text8"]).tokenizer == "text8"


def test_vocabulary_of_a_protocol() -> None:
    check_vocabulary("ptb", "gpt2", (50257, 50256, 50256, 50257))
    check_vocabulary("lm1b_packed", "bert-base-uncased", (103, 101, 102, 0))
    check_vocabulary("lm1b_packed:duo2025", "bert-base-uncased", (103, 101, 101, 0))
    for spec, name, ids in (
        ("ptb", "bpe", (50257, 50256, 50256, 50257)),
        ("ptb", "gpt2", (50257, 50256, 50255, 50257)),
        ("lm1b", "bert-base-uncased", (103, 101, 101, 0)),
    ):
        with pytest.raises(InputError, match=f"--protocol {spec}"):
            check_vocabulary(spec, name, ids)


# ---- texts through Hugging Face's datasets, here a stand-in that writes down what it is asked for


class Loaded:
    def select_columns(self, columns: list[str]) -> Loaded:
        self.columns = columns
        return self

    def save_to_disk(self, folder: str) -> None:
        Path(folder).mkdir()
        (Path(folder) / "columns").write_text(" ".join(self.columns))


@pytest.mark.parametrize(
    ("name", "wanted", "field"),
    [
        ("ptb", (("ptb-text-only/ptb_text_only", None), {"split": "validation", "revision": None}), "sentence"),
        (
            "wikitext103",
            (("Salesforce/wikitext", "wikitext-103-raw-v1"), {"split": "validation", "revision": None}),
            "text",
        ),
        ("arxiv", (("armanc/scientific_papers", "arxiv"), {"split": "validation", "revision": None}), "article"),
        ("lambada", (("json",), {"data_files": LAMBADA.split()[1], "split": "train"}), "text"),
    ],
)
def test_fetch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, wanted: tuple, field: str) -> None:
    asked = []
    fake = SimpleNamespace(load_dataset=lambda *a, **k: asked.append((a, k)) or Loaded())
    monkeypatch.setitem(sys.modules, "datasets", fake)
    fetch(name, str(tmp_path / "folder"))
    assert asked == [wanted] and (tmp_path / "folder" / "columns").read_text() == field
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]


def test_fetch_refusals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> None:
        raise RuntimeError("scripts are no longer supported\nmore")

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=fails, __version__="9"))
    for name, says in (
        ("ptb", "^ptb: datasets 9 cannot load .*: scripts are no longer supported$"),
        ("text8", "no such data set"),
        ("openwebtext", "divide it by mdlm-prepare"),
    ):
        with pytest.raises(InputError, match=says):
            fetch(name, str(tmp_path / "folder"))
    assert not list(tmp_path.iterdir())
