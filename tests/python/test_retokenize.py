"""mdlm-retokenize: every row keeps its text and its eos tokens; bad input is refused."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from conftest import Run, run_command

from mdlm_data.spelling import Spelling, spelling

WORDS = "[PAD] [UNK] [CLS] [SEP] [MASK] ( ) , . - ' ! don t the dog ##s 3 000 5 well known it s café".split()


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """mdlm-retokenize in a temporary folder; it must succeed, or with fails=True print one line and exit with 2."""

    def call(*arguments: object, fails: bool = False) -> str:
        done = run_command("mdlm_data.retokenize", *arguments, cwd=tmp_path)
        error = done.stderr.decode()
        assert done.returncode == (2 if fails else 0), error
        if fails:
            assert error.startswith("mdlm-retokenize: error: ") and error.count("\n") == 1, error
            assert not list(tmp_path.glob("*.tmp"))
        return done.stdout.decode() + error

    return call


def make(prepare: Run, tmp_path: Path, name: str, text: str, tokenizer: str, *more: object) -> Path:
    (tmp_path / f"{name}.txt").write_text(text, encoding="utf-8")
    prepare(f"{name}.txt", "--tokenizer", tokenizer, "--quiet", "--out", f"{name}.h5", *more)
    return tmp_path / f"{name}.h5"


def texts_of(path: Path) -> list[str]:
    """Text of each row, with | for eos."""
    s = spelling(str(path))
    with h5py.File(path) as f:
        rows = [row[:n].tolist() for row, n in zip(f["tokens"][()], f["lengths"][()])]
    parts = [np.split(row, np.flatnonzero(row == s.eos)) for row in map(np.array, rows)]
    return ["|".join(s.text(part.tolist()) for part in row) for row in parts]


TEXT = "In the beginning was a word.\n  Two  blanks, and Ünïcödé ☃\nlast one!\n"
OTHER = "quite another corpus, of other words; and yet: letters. " * 20


@pytest.mark.parametrize("wrap", ["--wrap", "--no-wrap"])
def test_text_survives(prepare: Run, run: Run, tmp_path: Path, wrap: str) -> None:
    source = make(prepare, tmp_path, "a", TEXT * 9, "bpe:300", "--length", 24, wrap)
    target = make(prepare, tmp_path, "b", OTHER, "bpe:290", "--length", 16)
    run("a.h5", "--tokenizer", "data:b.h5", "--out", "c.h5")
    with h5py.File(tmp_path / "c.h5") as c, h5py.File(target) as b:
        assert c["vocab"].attrs["hash"] == b["vocab"].attrs["hash"]
        assert c["lengths"][()].max() == c["tokens"].shape[1]
        pads = np.arange(c["tokens"].shape[1]) >= c["lengths"][()][:, None]
        assert (c["tokens"][()][pads] == b["vocab"].attrs["pad"]).all()
    # a character split between two rows becomes as many U+FFFD in both files
    assert texts_of(tmp_path / "c.h5") == texts_of(source)


def samples(path: Path, source: Path, tokens: np.ndarray, checkpoint: str | None = None) -> None:
    """A file as `mdlm sample` writes it."""
    with h5py.File(path, "w") as f, h5py.File(source) as s:
        f["tokens"] = tokens.astype("i4")
        f.attrs["format"] = "mdlm-samples"
        f.attrs["tokenizer"], f.attrs["tokenizer_hash"] = s["vocab"].attrs["tokenizer"], s["vocab"].attrs["hash"]
        if checkpoint:
            f.attrs["checkpoint"] = checkpoint


def bert(prepare: Run, tmp_path: Path) -> Path:
    (tmp_path / "vocab.txt").write_text("\n".join(WORDS), encoding="utf-8")
    return make(prepare, tmp_path, "a", "the dog .\n" * 5, "bert:vocab.txt", "--length", 8)


def ids(text: str) -> list[int]:
    return [WORDS.index(w) for w in text.split()]


def test_samples_by_hand(prepare: Run, run: Run, tmp_path: Path) -> None:
    source = bert(prepare, tmp_path)
    make(prepare, tmp_path, "b", OTHER, "bpe:280", "--length", 16)
    rows = [
        ids("[CLS] the dog ##s . [SEP] the dog [SEP] [SEP] [PAD] [PAD]"),
        ids("[CLS] it ' s 3 , 000 ( 5 ) well -")[:11] + ids("known"),
        ids("[CLS] [SEP] [PAD] [PAD] [PAD] [PAD] [PAD] [PAD] [PAD] [PAD] [PAD] [PAD]"),
        ids("[CLS] [PAD] [PAD] [PAD] [PAD] [PAD] [PAD] [PAD] [PAD] [PAD] [PAD] [PAD]"),
    ]
    samples(tmp_path / "s.h5", source, np.array(rows), str(source))
    run("s.h5", "--tokenizer", "data:b.h5", "--out", "c.h5")
    got = texts_of(tmp_path / "c.h5")
    assert got == ["the dogs.|the dog||", "it's 3,000 (5) well known", "|", "|"]
    with h5py.File(tmp_path / "c.h5") as f:
        eos = f["vocab"].attrs["eos"]
        assert f["lengths"][2] == 1 and f["tokens"][2, 0] == eos


@pytest.mark.parametrize(
    ("pieces", "text"),
    [
        ("don ' t", "don't"),
        ("the dog ##s !", "the dogs!"),
        ("well - known", "well-known"),
        ("well -", "well -"),
        ("- known", "- known"),
        ("3 . 5", "3.5"),
        ("3 , 000", "3,000"),
        ("3 , 5", "3, 5"),
        ("( the )", "(the)"),
        ("café - dog", "café-dog"),
        ("[CLS] the [MASK] [SEP]", "the"),
        ("##s", "s"),
    ],
)
def test_wordpiece(pieces: str, text: str) -> None:
    tokens = [w.encode() for w in WORDS]
    s = Spelling("", "wordpiece", "", tokens, mask=4, bos=2, eos=3, pad=0)
    assert s.text(ids(pieces)) == text


def test_length(prepare: Run, run: Run, tmp_path: Path) -> None:
    make(prepare, tmp_path, "a", TEXT * 9, "bpe:300", "--length", 24, "--no-wrap")
    make(prepare, tmp_path, "b", OTHER, "bpe:290", "--length", 16)
    run("a.h5", "--tokenizer", "data:b.h5", "--out", "whole.h5")
    printed = run("a.h5", "--tokenizer", "data:b.h5", "--length", 12, "--out", "cut.h5")
    with h5py.File(tmp_path / "whole.h5") as w, h5py.File(tmp_path / "cut.h5") as c:
        assert c["tokens"].shape == (27, 12)
        assert (c["lengths"][()] == np.minimum(w["lengths"][()], 12)).all()
        real = np.arange(12) < c["lengths"][()][:, None]
        assert (c["tokens"][()][real] == w["tokens"][:, :12][real]).all()
        assert f"{(w['lengths'][()] > 12).sum()} of 27 rows were truncated to 12 tokens" in printed


def test_refusals(prepare: Run, run: Run, tmp_path: Path) -> None:
    source = bert(prepare, tmp_path)
    make(prepare, tmp_path, "b", OTHER, "bpe:280", "--length", 16)
    rows = np.array([ids("[CLS] the dog")])

    def refused(*more: object) -> str:
        return run("s.h5", "--tokenizer", "data:b.h5", "--out", "no.h5", *more, fails=True)

    assert "s.h5: cannot be read as HDF5" in refused()
    samples(tmp_path / "s.h5", source, rows)
    assert "give a checkpoint or data file by --vocabulary" in refused()
    assert "not the vocabulary of s.h5" in refused("--vocabulary", "b.h5")
    assert "none.h5: no such file" in refused("--vocabulary", "none.h5")
    assert "vocab.txt: cannot be read" in refused("--vocabulary", "vocab.txt")
    samples(tmp_path / "s.h5", source, np.array([ids("[CLS] the [MASK]")]), str(source))
    assert "row 0 is unfinished" in refused()
    samples(tmp_path / "s.h5", source, np.array([[2, 99, 3]]), str(source))
    assert "row 0 has ids outside the 25 tokens" in refused()
    samples(tmp_path / "s.h5", source, rows, str(source))
    assert "--length 1" in refused("--length", 1)
    assert "trains a new tokenizer" in run("s.h5", "--tokenizer", "bpe:300", "--out", "no.h5", fails=True)
    assert "both read and written" in run("s.h5", "--tokenizer", "data:b.h5", "--out", "s.h5", fails=True)
    whole = bytearray(source.read_bytes())
    whole[len(whole) // 2] ^= 1
    source.with_name("s.h5").write_bytes(whole)
    assert "s.h5 is damaged" in refused()
    samples(tmp_path / "s.h5", source, rows, str(source))
    with h5py.File(tmp_path / "s.h5", "r+") as f:
        del f["tokens"]
    assert "no data set /tokens" in refused()
    assert not (tmp_path / "no.h5").exists()
