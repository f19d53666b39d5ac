"""Shared by the Python tests: how to run a command, and the folder of real data."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

ROOT = Path(__file__).resolve().parents[2]

REAL = (
    "bert-base-uncased-vocab.txt",
    "gpt2-vocab.json",
    "gpt2-merges.txt",
    "lm1b_heldout_sample.txt",
    "wikitext2_valid.txt",
)
Run = Callable[..., subprocess.CompletedProcess]
Call = Callable[..., str]


def command(module: str, *arguments: object) -> list[str]:
    return [sys.executable, "-m", module, *map(str, arguments)]


PIPE = 1 << 16  # bytes that a pipe holds


def run_command(
    module: str, *arguments: object, cwd: Path | str = ".", stdin: bytes = b""
) -> subprocess.CompletedProcess:
    """The command in a child of its own, which this process forks: a small command spends most of its time on imports.

    With more input than a pipe holds it is a process of its own."""
    if len(stdin) > PIPE:
        return subprocess.run(command(module, *arguments), cwd=cwd, input=stdin, capture_output=True, timeout=300)
    main = importlib.import_module(module).main
    given, end = os.pipe()
    os.write(end, stdin)
    os.close(end)
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        pid = os.fork()
        if pid == 0:
            _child(main, [str(a) for a in arguments], cwd, (given, out.fileno(), err.fileno()))
        os.close(given)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        for f in (out, err):
            f.seek(0)
        return subprocess.CompletedProcess(command(module, *arguments), code, out.read(), err.read())


def _child(main: Callable[[list[str]], int], words: list[str], cwd: Path | str, streams: tuple[int, ...]) -> NoReturn:
    code: object = 1
    try:
        for i, stream in enumerate(streams):
            os.dup2(stream, i)
        sys.stdin, sys.stdout = open(0, closefd=False), open(1, "w", closefd=False)
        sys.stderr = open(2, "w", 1, closefd=False)
        os.environ["TOKENIZERS_PARALLELISM"] = "false"  # their threads are not those of this process
        os.chdir(cwd)
        code = main(words)
    except SystemExit as e:
        code = e.code
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()  # an unfinished line
    os._exit(code if isinstance(code, int) else code is not None)


@pytest.fixture
def prepare(tmp_path: Path) -> Run:
    """mdlm-prepare in a temporary folder; it must succeed, or with fails=True print one line and exit with 2."""

    def run(*arguments: object, stdin: bytes = b"", fails: bool = False) -> subprocess.CompletedProcess:
        done = run_command("mdlm_data.prepare", *arguments, cwd=tmp_path, stdin=stdin)
        error = done.stderr.decode()
        if fails:
            assert done.returncode == 2, error
            assert error.startswith("mdlm-prepare: error: ") and error.count("\n") == 1, error
        else:
            assert done.returncode == 0, error
        return done

    return run


@pytest.fixture
def real_data() -> Path:
    """The folder with real vocabularies and texts."""
    folder = os.environ.get("MDLM_TEST_DATA")
    if not folder:
        pytest.skip("MDLM_TEST_DATA names no folder with the real vocabularies")
    for name in REAL:
        if not (Path(folder) / name).is_file():
            pytest.skip(f"MDLM_TEST_DATA={folder} has no {name}")
    return Path(folder)


@pytest.fixture
def convert(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> Run:
    """mdlm-convert in a temporary folder, inside this process; returns what it prints.

    It must succeed, or with fails=True raise an InputError of one line and a list at most; returns that message."""
    from mdlm_analysis.convert import job
    from mdlm_data.errors import InputError

    def call(*arguments: object, fails: bool = False) -> str:
        if not fails:
            job([str(a) for a in arguments])
            return "".join(capsys.readouterr())
        with pytest.raises((InputError, OSError)) as caught:
            job([str(a) for a in arguments])
        assert all(line.startswith("  ") for line in str(caught.value).splitlines()[1:]), caught.value
        assert not list(tmp_path.glob("*.tmp"))
        return f"{caught.value}\n"

    monkeypatch.chdir(tmp_path)
    return call


@pytest.fixture
def analysis(capsys: pytest.CaptureFixture) -> Call:
    """mdlm-analysis inside this process; returns what it prints.

    It must end with the given status, or with fails=True raise an error of one line; returns that message."""
    from mdlm_analysis.cli import analyse
    from mdlm_data.errors import InputError

    def call(*arguments: object, fails: bool = False, status: int = 0) -> str:
        line = [str(a) for a in arguments]
        if not fails:
            assert analyse(line) == status
            return capsys.readouterr().out
        with pytest.raises((InputError, OSError)) as caught:
            analyse(line)
        assert "\n" not in str(caught.value), caught.value
        return str(caught.value)

    return call
