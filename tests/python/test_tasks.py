"""mdlm-tasks: questions, pairs and dumps of lm-evaluation-harness to requests; where target and context meet; bad input."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import h5py
import pytest
from conftest import run_command

from mdlm_data.task_file import split
from mdlm_data.vocabularies import from_data

TEXT = "And God said, Let there be light: and there was light.\n" * 30
QUESTION = {"question": "And God said,", "choices": ["Let there be light", "the end"], "gold": 1}
Tasks = Callable[..., subprocess.CompletedProcess]


@pytest.fixture(params=("bpe:300", "text8"))
def data(request: pytest.FixtureRequest, prepare, tmp_path: Path) -> Path:
    prepare("-", "--tokenizer", request.param, "--length", 16, "--out", "data.h5", stdin=TEXT.encode())
    return tmp_path / "data.h5"


@pytest.fixture
def tasks(tmp_path: Path) -> Tasks:
    """mdlm-tasks on standard input; it must succeed, or with fails=True print one line and exit with 2."""

    def run(*items: object, fails: bool = False, options: tuple[str, ...] = ()) -> subprocess.CompletedProcess:
        given = "\n".join(i if isinstance(i, str) else json.dumps(i) for i in items)
        arguments = ("-", "--data", "data.h5", "--out", "r.h5", *options)
        done = run_command("mdlm_data.tasks", *arguments, cwd=tmp_path, stdin=given.encode())
        error = done.stderr.decode()
        if fails:
            assert done.returncode == 2, error
            assert error.startswith("mdlm-tasks: error: ") and error.count("\n") == 1, error
        else:
            assert done.returncode == 0, error
        assert not (tmp_path / "r.h5.tmp").exists()
        return done

    return run


def requests(path: Path) -> tuple[dict, list[tuple[list[int], list[int]]]]:
    """The series, and (context, target) of each request."""
    with h5py.File(path) as f:
        r = {name: f[f"requests/{name}"][:].tolist() for name in f["requests"]}
    pairs = []
    for at, c, t in zip(r["offset"], r["context_length"], r["target_length"]):
        pairs.append((r["tokens"][at : at + c], r["tokens"][at + c : at + c + t]))
    assert sum(len(c) + len(t) for c, t in pairs) == len(r["tokens"])
    return r, pairs


def test_questions(data: Path, tasks: Tasks, tmp_path: Path) -> None:
    v = from_data(str(data))
    done = tasks(QUESTION, {**QUESTION, "gold": 0, "choices": ["light", "was", "there"]})
    assert "r.h5: 5 requests of 2 questions" in done.stdout.decode()
    r, pairs = requests(tmp_path / "r.h5")
    assert r["option_of"] == [0, 0, 1, 1, 1] and r["gold"] == [0, 1, 1, 0, 0]
    assert r["bytes"] == [len(t) for t in ("Let there be light", "the end", "light", "was", "there")]
    for (context, target), choice in zip(pairs, ("Let there be light", "the end", "light", "was", "there")):
        whole = v.encode([f"And God said, {choice}"])[0].tolist()
        assert context[0] == v.bos and context[1:] + target == whole
        assert context[1:] == v.encode(["And God said,"])[0].tolist()
    with h5py.File(tmp_path / "r.h5") as f:
        assert f.attrs["format"] == "mdlm-requests" and f.attrs["tokenizer_hash"] == v.hash
        assert f.attrs["tokenizer"] == v.name


def test_blanks_move_to_the_target(data: Path, tasks: Tasks, tmp_path: Path) -> None:
    assert split("a b \n", "c") == ("a b", " \nc") and split("a", " c") == ("a", " c") and split(" ", "c") == ("", " c")
    tasks({"context": "there was ", "continuation": "light"}, {"context": "there was", "continuation": " light"})
    r, pairs = requests(tmp_path / "r.h5")
    assert pairs[0] == pairs[1] and "gold" not in r and r["option_of"] == [0, 1] and r["bytes"] == [5, 5]


def test_a_token_across_the_border(data: Path, tasks: Tasks, tmp_path: Path) -> None:
    """The text is tokenized as a whole; a target that disappears in the context's last token is tokenized alone."""
    v = from_data(str(data))
    tasks({"context": "li", "continuation": "ght and"}, {"context": "ligh", "continuation": "t"}, options=("--no-bos",))
    for (context, target), text in zip(requests(tmp_path / "r.h5")[1], ("light and", "light")):
        whole = v.encode([text])[0].tolist()
        assert target and (context + target == whole or target == v.encode(["t"])[0].tolist())


def test_empty_context(data: Path, tasks: Tasks, tmp_path: Path) -> None:
    v = from_data(str(data))
    item = {"context": "", "continuation": "light"}
    for options, want in (((), [v.bos]), (("--no-bos",), [])):
        tasks(item, {**QUESTION, "question": ""}, options=options)
        pairs = requests(tmp_path / "r.h5")[1]
        assert pairs[0] == (want, v.encode(["light"])[0].tolist())
        assert pairs[2][1] == v.encode(["the end"])[0].tolist()  # no delimiter before the first word


@pytest.mark.parametrize("dump", ["lists", "objects"])
def test_harness_dumps(dump: str, data: Path, tasks: Tasks, tmp_path: Path) -> None:
    """The forms of --log_samples: arguments as lists, or as gen_args_0 …; target as number, number in text, or text."""

    def item(target: object, *pairs: tuple[str, str]) -> dict:
        named = {f"gen_args_{i}": {"arg_0": c, "arg_1": t} for i, (c, t) in enumerate(pairs)}
        return {
            "doc_id": 0,
            "doc": {"choices": 3},
            "target": target,
            "arguments": named if dump == "objects" else pairs,
        }

    options = (("God said", " light"), ("God said", " there"))
    tasks(item(1, *options), item("0", *options), item("there", *options), item("light", options[0]))
    r, pairs = requests(tmp_path / "r.h5")
    assert r["gold"] == [0, 1, 1, 0, 0, 1, 0] and r["option_of"] == [0, 0, 1, 1, 2, 2, 3] and r["bytes"] == [5] * 7
    assert pairs[0] == pairs[2] == pairs[6] and pairs[1][0] == pairs[0][0] and pairs[1][1] != pairs[0][1]
    for target, why in ((2, "neither the number of an option nor its text"), ("x", "target is 'x'")):
        assert why in tasks(item(target, *options), fails=True).stderr.decode()


BAD = [
    ("{", "-: line 1: is no JSON"),
    ({"context": "a\ud800", "continuation": "b"}, "-: line 1: "),
    ("3", "-: line 1: is no JSON object"),
    ({"context": "a"}, "there is no 'continuation'"),
    ({"context": "a", "continuation": ""}, "a continuation is empty"),
    ({"context": 3, "continuation": "a"}, "3 is no text"),
    ({**QUESTION, "gold": 2}, "gold is 2: it must be 0 to 1"),
    ({**QUESTION, "gold": "1"}, "gold is '1'"),
    ({**QUESTION, "choices": ["one"]}, "at least two texts"),
    ({"arguments": [["a", {"until": ["b"]}]]}, "something else than the likelihood"),
    ({"arguments": [["whole text"]]}, "something else than the likelihood"),
    ("", "there is no request"),
]


@pytest.mark.parametrize("item,why", BAD, ids=[why for _, why in BAD])
def test_bad_input(item: object, why: str, prepare, tasks: Tasks, tmp_path: Path) -> None:
    prepare("-", "--tokenizer", "text8", "--length", 16, "--out", "data.h5", stdin=TEXT.encode())
    assert why in tasks(item, fails=True).stderr.decode()
    assert not (tmp_path / "r.h5").exists()
