"""mdlm-prepare: bad input, full disks, interruptions, memory."""

from __future__ import annotations

import gzip
import os
import resource
import signal
import subprocess
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from conftest import command
from prepared import content, read


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
        (changed(("text8", "data:t.txt")), "t.txt: not a data file"),
        (changed(("text8", "data:other.h5")), "not a data file"),
        (changed(("o.h5", "t.txt")), "both read and written"),
        (changed(("o.h5", "./folder/../t.txt")), "both read and written"),
        (changed(("o.h5", "nowhere/o.h5")), "no folder"),
        (changed(("o.h5", "folder")), "folder: is a folder"),
        (changed(("o.h5", "pipe")), "pipe: is not a regular file"),
        (changed(("o.h5", "other.h5")), "other.h5: exists and is not a mdlm-data file"),
        (changed(("o.h5", "short.gz")), "short.gz: exists and is not a mdlm-data file"),
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
    os.mkfifo(tmp_path / "pipe")
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
    with h5py.File(tmp_path / "o.h5", "w") as f:
        f.attrs["format"] = "mdlm-data"
    old = (tmp_path / "o.h5").read_bytes()

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
    assert (tmp_path / "o.h5").read_bytes() == old


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_run_leaves_nothing(tmp_path: Path, number: int) -> None:
    words = command("mdlm_data.prepare", "-", *GOOD[1:], "--documents", "line")
    process = subprocess.Popen(
        words,
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),  # ignored where the tests run in the background
    )
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
    for times in (1, 5):
        text = tmp_path / f"{times}.txt"
        text.write_text(paragraph * times)
        arguments = ("--tokenizer", "bpe:1000", "--length", 64, "--quiet", "--valid-documents", 100)
        outputs = ("--out-train", tmp_path / "t.h5", "--out-valid", tmp_path / "v.h5")
        process = subprocess.Popen(command("mdlm_data.prepare", text, *arguments, *outputs))
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0
        peaks.append(usage.ru_maxrss / 1024)
    assert (tmp_path / "5.txt").stat().st_size > 4e6
    assert peaks[1] - peaks[0] < 27, f"peak memory in MiB: {peaks}"
