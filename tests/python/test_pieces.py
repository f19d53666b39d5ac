"""Long documents in pieces, several processes, interrupted runs: the same file as from one process and whole documents."""

from __future__ import annotations

import io
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from conftest import command, run_command

from mdlm_data import documents
from mdlm_data.batch_store import BatchStore
from mdlm_data.documents import Unit, bounded, cut_at_blank
from mdlm_data.encoding import BatchEncoder, Encoded
from mdlm_data.framing import Unwrapped, Wrapped
from mdlm_data.vocabularies import make_vocabulary
from mdlm_data.workers import in_processes

WORDS = "in the beginning god created heaven and earth , “light” was good . 日本 12345".split()


def text_of(seed: int, words: int) -> str:
    rng = random.Random(seed)
    return "".join(rng.choice(WORDS) + rng.choice([" ", " ", " ", "\n", "  "]) for _ in range(words))


@pytest.mark.parametrize("unit", ["line", "blank", "file"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_pieces_join_to_the_documents(monkeypatch: pytest.MonkeyPatch, unit: str, newline: str) -> None:
    text = newline.join([text_of(1, 40).replace("\n", " "), "", "a", " ", text_of(2, 90).replace("\n", " "), "end"])
    wanted = [t for t, _ in bounded(Unit(unit).split(io.StringIO(text, "\n")), None)]
    for read, piece in ((7, 20), (16, 16), (64, 100)):
        monkeypatch.setattr(documents, "READ", read)
        monkeypatch.setattr(documents, "PIECE", piece)
        found, pieces = [""], list(bounded(Unit(unit).split(io.StringIO(text, "\n")), cut_at_blank))
        assert max(len(t) for t, _ in pieces) <= piece + read
        for part, end in pieces:
            found[-1] += part
            found += [""] * end
        assert found == [*wanted, ""]


def trained(folder: Path, kind: str) -> str:
    """The name of a tokenizer trained on the words above."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

    if kind == "bytes":
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    else:
        tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
        if kind == "metaspace":
            tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        else:  # as Llama 2
            tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    special = ["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=500, special_tokens=special, max_token_length=8, show_progress=False)
    tokenizer.train_from_iterator([text_of(3, 2000)], trainer)
    tokenizer.save(str(folder / f"{kind}.json"))
    return f"json:{folder / f'{kind}.json'}"


@pytest.mark.parametrize("kind", ["bytes", "metaspace", "prepend"])
def test_a_cut_changes_no_id(tmp_path: Path, kind: str) -> None:
    v = make_vocabulary(trained(tmp_path, kind))
    text = text_of(4, 4000)
    whole = v.encode([text])[0]
    parts, at = [], 0
    while len(text) - at > 1100:
        to = at + v.encode.cut(text[at : at + 1100], 1000)
        parts.append(text[at:to])
        at = to
    parts.append(text[at:])
    begins = [True] + [False] * (len(parts) - 1)
    assert len(parts) > 10 and np.array_equal(np.concatenate(v.encode(parts, begins)), whole)


def test_unbroken_text_is_cut_too(tmp_path: Path) -> None:
    v = make_vocabulary(trained(tmp_path, "bytes"))
    text = "日本語" * 2000
    at = v.encode.cut(text, 1000)
    assert 900 < at <= 1000
    a, b = v.encode([text[:at], text[at:]], [True, False])
    assert np.array_equal(np.concatenate([a, b]), v.encode([text])[0])


@pytest.mark.parametrize("framing", [Wrapped, Unwrapped])
def test_framing_does_not_see_pieces(framing: type) -> None:
    """Rows, and the account, of documents in pieces are those of whole documents."""
    v = make_vocabulary("text8")
    rng = np.random.default_rng(1)
    whole = [rng.integers(8, 34, n).tolist() for n in (5, 0, 40, 1, 17, 3)]
    sizes = [(len(d) * 2, len(d)) for d in whole]
    pieces = [(d[i : i + 4], i + 4 >= len(d)) for d in whole for i in range(0, max(len(d), 1), 4)]
    one, two = framing(v, 9), framing(v, 9)
    wanted = [one.add(Encoded.of(whole, None, sizes)), one.end()]
    found = [two.add(Encoded.of([p], [end], [(len(p) * 2, len(p))])) for p, end in pieces] + [two.end()]
    for i in range(2):
        assert np.array_equal(np.concatenate([w[i] for w in wanted]), np.concatenate([f[i] for f in found]))
    assert one.account == two.account and one.account.documents == 6 and one.account.empty == 1


def test_account_of_what_is_in_rows() -> None:
    v = make_vocabulary("text8")
    wrapped = Wrapped(v, 6)  # blocks of 4: 3 + eos, 5 + eos: the last 2 tokens are dropped
    wrapped.add(Encoded.of([[8] * 3, [9] * 5], None, [(30, 3), (60, 12)]))
    wrapped.end()
    a = wrapped.account
    assert (a.bytes, a.words, a.dropped_tokens, a.documents) == (30 + 40, 3 + 8, 2, 2)
    unwrapped = Unwrapped(v, 6)
    unwrapped.add(Encoded.of([[8] * 3, [9] * 5, []], None, [(30, 3), (60, 12), (2, 0)]))
    a = unwrapped.account
    assert (a.bytes, a.words, a.truncated, a.truncated_tokens, a.empty) == (30 + 48 + 2, 3 + 9, 1, 1, 1)


def add_one(n: int) -> int:
    if n < 0:
        raise ValueError("negative")
    if n > 1000:
        os._exit(1)
    return n + 1


def test_processes_keep_the_order_and_give_errors_on() -> None:
    assert list(in_processes(add_one, iter(range(30)), 3)) == [*range(1, 31)]
    with pytest.raises(ValueError, match="negative"):
        list(in_processes(add_one, [*range(12), -1], 2))
    with pytest.raises(Exception, match="ended early"):
        list(in_processes(add_one, [*range(12), 1001, 1], 2))


@pytest.mark.parametrize(
    ("times", "processes", "extra"), [(3, (1, 2, 3), ()), (9, (1, 3), ("--no-wrap", "--documents", "file"))]
)
def test_same_file_from_any_number_of_processes(
    prepare, tmp_path: Path, times: int, processes: tuple[int, ...], extra: tuple[str, ...]
) -> None:
    text = text_of(5, 60_000)
    (tmp_path / "t.txt").write_text(text * times)
    prepare("-", "--tokenizer", "bpe:400", "--length", 64, "--out", "v.h5", stdin=text.encode())
    found = []
    for n in processes:
        arguments = ("--tokenizer", "data:v.h5", "--length", 64, "--processes", n, "--out", f"{n}.h5", *extra)
        said = prepare("t.txt", *arguments).stdout.decode()
        assert "MB/s per core" in said
        found.append(contents(tmp_path / f"{n}.h5"))
    assert all(f == found[0] for f in found)


@pytest.fixture(scope="module")
def long_text() -> bytes:
    return text_of(8, 60_000).encode() * 20


LONG = ("-", "--tokenizer", "text8", "--max-loss", 1, "--length", 64, "--out", "a.h5")


@pytest.fixture(scope="module")
def uninterrupted(long_text: bytes, tmp_path_factory: pytest.TempPathFactory) -> tuple:
    at = tmp_path_factory.mktemp("uninterrupted")
    done = run_command("mdlm_data.prepare", *LONG, "--no-resume", cwd=at, stdin=long_text)
    assert done.returncode == 0 and b"interrupted" not in done.stdout
    return contents(at / "a.h5")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_an_interrupted_run_goes_on(
    prepare, tmp_path: Path, long_text: bytes, uninterrupted: tuple, number: int
) -> None:
    text, options = long_text, LONG
    process = subprocess.Popen(
        command("mdlm_data.prepare", *options), cwd=tmp_path, stdin=subprocess.PIPE, stderr=subprocess.PIPE
    )
    process.stdin.write(text)
    process.stdin.flush()  # it stays open, so that the run waits for more
    part, deadline = tmp_path / "a.h5.part", time.monotonic() + 200
    while not (part.exists() and part.stat().st_size > 18 * 4096 * (64 * 4 + 32)) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(number)
    assert process.wait(60) == (-signal.SIGKILL if number == signal.SIGKILL else 130)
    says = b"mdlm-prepare: interrupted; the same command goes on from a.h5.part\n"
    assert process.stderr.read() == (b"" if number == signal.SIGKILL else says)
    assert part.exists() and not (tmp_path / "a.h5").exists()
    with part.open("r+b") as f:
        f.truncate(part.stat().st_size - 1000)  # the last record is not whole
    said = prepare(*options, stdin=text).stdout.decode()
    assert int(said.split(" of ")[0]) >= 16 and "were taken from an interrupted run" in said
    assert [p.name for p in tmp_path.iterdir()] == ["a.h5"]
    assert contents(tmp_path / "a.h5") == uninterrupted


def contents(path: Path) -> tuple:
    with h5py.File(path) as f:
        attributes = {k: v for k, v in f.attrs.items() if k not in ("created", "command")}
        return attributes, f["tokens"][:].tobytes(), f["lengths"][:].tobytes()


def test_batches_of_another_text_are_not_taken(tmp_path: Path) -> None:
    v = make_vocabulary("text8")
    encode = BatchEncoder(v, "none")
    one, two, three = ([("abc", True)], True), ([("abd", True)], True), ([("abc", False)], True)

    def run(key: str, *batches: tuple) -> int:
        store = BatchStore(str(tmp_path / "p"), key)
        found = [e.ids.tolist() for e in store.encoded(encode, batches, 1)]
        store.file.close()
        assert found == [encode(b).ids.tolist() for b in batches]
        return store.found

    assert run("k", one, two) == 0 and run("k", one, two, three) == 2 and run("k", one, two, three) == 3
    assert run("k", one, three, two) == 1 and run("k", one, three, two) == 3 and run("other", one) == 0


def test_memory_does_not_grow_with_a_line(prepare, tmp_path: Path) -> None:
    (tmp_path / "v.txt").write_text(text_of(6, 5000))
    prepare("v.txt", "--tokenizer", "bpe:400", "--length", 64, "--out", "v.h5")
    line = text_of(7, 20_000).replace("\n", " ")
    peaks = []
    for times in (10, 60):
        (tmp_path / "t.txt").write_text(line * times)
        options = ("--tokenizer", "data:v.h5", "--length", 64, "--quiet", "--processes", 1, "--out", "o.h5")
        process = subprocess.Popen(command("mdlm_data.prepare", "t.txt", *options), cwd=tmp_path)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0
        peaks.append(usage.ru_maxrss / 1024)
    assert (tmp_path / "t.txt").stat().st_size > 6e6
    assert peaks[1] - peaks[0] < 33, f"peak memory in MiB: {peaks}"
