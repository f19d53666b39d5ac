"""mdlm-prompt: holes, the tokenizer of a data file, the attributes of the output, bad input."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import h5py
import pytest
import xxhash
from conftest import run_command

from mdlm_data.prompt_file import pieces
from mdlm_data.vocabularies import from_data

TEXT = "And God said, Let there be light: and there was light.\n" * 30
MADE: tuple[str, ...] = ("bpe:300", "text8")


@pytest.fixture(params=MADE)
def data(request: pytest.FixtureRequest, prepare, tmp_path: Path) -> Path:
    """A data file with rows of 16 tokens."""
    prepare("-", "--tokenizer", request.param, "--length", 16, "--out", "data.h5", stdin=TEXT.encode())
    return tmp_path / "data.h5"


@pytest.fixture
def prompt(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess]:
    """mdlm-prompt on standard input; it must succeed, or with fails=True print one line and exit with 2."""

    def run(text: str, *arguments: object, fails: bool = False) -> subprocess.CompletedProcess:
        words = ("-", "--data", "data.h5", "--out", "p.h5", *arguments)
        done = run_command("mdlm_data.prompt", *words, cwd=tmp_path, stdin=text.encode())
        error = done.stderr.decode()
        if fails:
            assert done.returncode == 2, error
            assert error.startswith("mdlm-prompt: error: ") and error.count("\n") == 1, error
        else:
            assert done.returncode == 0, error
        assert not (tmp_path / "p.h5.tmp").exists()
        return done

    return run


def rows(path: Path) -> list[list[int]]:
    with h5py.File(path) as f:
        assert f["tokens"].dtype == "<i4"
        return f["tokens"][:].tolist()


def test_holes_between_tokens(data: Path, prompt, tmp_path: Path) -> None:
    v = from_data(str(data))
    said, light = (list(map(int, v.encode([t])[0])) for t in ("said", " light"))
    m = v.mask
    prompt("said____ light\n[MASK]{3} light\n\n____[MASK]said[MASK]{2}\n", "--quiet")
    want = [
        [v.bos, *said, m, *light],
        [v.bos, m, m, m, *light],
        [v.bos],
        [v.bos, m, m, *said, m, m],
    ]
    width = max(map(len, want))
    assert rows(tmp_path / "p.h5") == [row + [m] * (width - len(row)) for row in want]
    prompt("said\n", "--no-bos", "--eos")
    assert rows(tmp_path / "p.h5") == [[*said, v.eos]]


def test_a_blank_before_a_hole_belongs_to_the_hole() -> None:
    line = "a [MASK] b ____{2} [MASK]"
    assert list(pieces(line, "byte_bpe")) == ["a", 1, " b", 2, "", 1, ""]
    assert list(pieces(line, "chars")) == ["a ", 1, " b ", 2, " ", 1, ""]  # here a space is a token


def test_what_the_file_records(data: Path, prompt, tmp_path: Path) -> None:
    done = prompt("said ____\n")
    v = from_data(str(data))
    assert b"1 prompts of at most" in done.stdout and b"with 1 holes" in done.stdout
    with h5py.File(tmp_path / "p.h5") as f:
        a = dict(f.attrs)
    assert (a["format"], a["format_version"], a["mask"]) == ("mdlm-prompts", 1, v.mask)
    assert (a["tokenizer"], a["tokenizer_hash"]) == (v.name, v.hash)
    assert a["command"].startswith("mdlm-prompt - --data data.h5")
    raw = (tmp_path / "p.h5").read_bytes()
    assert raw.endswith(b"MDLMSEAL")
    n = int.from_bytes(raw[-32:-24], "little")
    assert int.from_bytes(raw[n : n + 8], "little") == xxhash.xxh3_64_intdigest(raw[: min(n, 65536)])


def test_warnings(data: Path, prompt) -> None:
    assert b"prompt 1 has" in prompt("a\nLet there be____{40}\n").stderr
    unknown = b"unknown to the vocabulary" in prompt("said \u00e9\n").stderr
    assert unknown == (from_data(str(data)).unknown is not None)


def test_bad_input(data: Path, prompt, tmp_path: Path) -> None:
    assert b"no prompt" in prompt("", fails=True).stderr
    assert b"more than" in prompt("____{99999999999}\n", fails=True).stderr
    assert b"____{0}: a hole has at least one token" in prompt("a ____{0} b\n", fails=True).stderr
    assert b"both read and written" in prompt("a\n", "--out", "data.h5", fails=True).stderr
    assert b"folder" in prompt("a\n", "--out", "none/p.h5", fails=True).stderr
    assert b"none.h5" in prompt("a\n", "--data", "none.h5", fails=True).stderr
    assert b"lists the options" in prompt("a\n", "--bas", fails=True).stderr
    with h5py.File(tmp_path / "other.h5", "w") as f:
        f["x"] = 1
    assert b"not a data file" in prompt("a\n", "--data", "other.h5", fails=True).stderr
    assert not (tmp_path / "p.h5").exists()
