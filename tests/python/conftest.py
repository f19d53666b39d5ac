"""Shared by the Python tests: how to run a command, and the folder of real data."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

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


@pytest.fixture
def prepare(tmp_path: Path) -> Run:
    """mdlm-prepare in a temporary folder; it must succeed, or with fails=True print one line and exit with 2."""

    def run(*arguments: object, stdin: bytes = b"", fails: bool = False) -> subprocess.CompletedProcess:
        done = subprocess.run(
            command("mdlm_data.prepare", *arguments), cwd=tmp_path, input=stdin, capture_output=True, timeout=300
        )
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
