"""The model of lm-evaluation-harness: what it returns is what `mdlm likelihood` and `mdlm sample` say, checked by their
distributions. A stand-in of the harness's interface takes its place; with the package lm_eval installed, it is run, too."""

from __future__ import annotations

import itertools
import json
import math
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import command, run_command
from weights import MDLM, mdlm

import mdlm_h5
from mdlm_analysis import harness
from mdlm_analysis.harness import Scorer, cut, requests_of
from mdlm_data.errors import InputError

DECK = """
run: { dir = "a"; };
data: { train = "train.h5"; valid = "valid.h5"; };
model: { width = 16; blocks = 1; heads = 2; cond_dim = 8; };
train: { steps = 200; global_batch = 8; micro_batch = 8; warmup = 2; lr = 1e-2; valid_every = 0; ema = 0.9; };
sample: { sampler = "parallel"; steps = 16; temperature = 0.0; };
device: { threads = 1; };
"""
pytestmark = pytest.mark.skipif(not MDLM.is_file(), reason="there is no program mdlm")


@dataclass
class Instance:
    """As lm_eval.api.instance has it."""

    args: tuple
    task_name: str | None = None
    doc_id: int | None = None


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small run on letters, whose vocabulary is known: rows of 16."""
    at = tmp_path_factory.mktemp("runs")
    (at / "text").write_text("the cat sat on the mat and the dog ran\n" * 60)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(at)
        names = ("--out-train", "train.h5", "--out-valid", "valid.h5")
        made = ("text", "--tokenizer", "text8", "--length", 16, "--valid-documents", 10, "--quiet", *names)
        run_command("mdlm_data.prepare", *made).check_returncode()
        (at / "deck.cfg").write_text(DECK)
        mdlm("train", "deck.cfg")
        mdlm("train", "deck.cfg", "run.dir=b", "model.name=ar", "diffusion.objective=ar")
    return at


def scorer(runs: Path, name: str = "a", **options: object) -> Scorer:
    return Scorer(str(runs / name / "last.h5"), data=str(runs / "valid.h5"), mdlm=str(MDLM), **options)


ORDER = "eval.estimator=chain eval.order=left_to_right"


@pytest.mark.parametrize("name,keys", [("a", ORDER), ("b", "")])
def test_likelihoods_are_a_distribution(name: str, keys: str, runs: Path) -> None:
    """Over all targets of two characters; the text that decoding gives is greedy, and no other."""
    s = scorer(runs, name, keys=keys)
    letters = [t.decode() for t in s.vocabulary.tokens if len(t) == 1 and (t.islower() or t == b" ")]
    pairs = ["".join(p) for p in itertools.product(letters, repeat=2)]
    found = s.likelihoods(requests_of([Instance(("the ca", p)) for p in pairs]))
    total = sum(math.exp(ll) for ll, _ in found)
    assert 0.3 < total < 1 + 1e-5  # the rest is that of special tokens and of what letters cannot spell
    assert sum(greedy for _, greedy in found) <= 1


def test_rolling_scores_each_token_once(runs: Path) -> None:
    """By the chain rule: a text of several windows is the sum of the likelihoods of its parts given one token."""
    s = scorer(runs, keys=ORDER, context=3)
    text = "the cat sat on the mat and the dog ran"
    windows = [(w.context, w.target) for w in s._windows(list(range(40)))]
    assert [t for _, target in windows for t in target] == list(range(40))
    assert windows[0][0] == s.begin and windows[1][0] == [12, 13, 14] and all(len(c) + len(t) <= 16 for c, t in windows)
    ids = s.vocabulary.encode([text])[0].tolist()
    parts = [s._score([w], [0])[0][0] for w in s._windows(ids)]
    got = s.rolling([text, text[:15], ""])
    assert got[1] == pytest.approx(s.likelihoods(requests_of([Instance(("", text[:15]))]))[0][0], rel=1e-6)
    assert got[0] == pytest.approx(sum(parts)) and parts[0] == pytest.approx(got[1]) and got[2] == 0


def test_generates_what_samples_say(runs: Path) -> None:
    s = scorer(runs)
    texts = s.texts(["the cat", "the dog and the cat sat on"], [6, 4], [[], [" "]])
    assert len(texts[0]) <= 6 and len(texts[1]) <= 4 and " " not in texts[1] and not texts[0].startswith("the")
    assert s.texts(["the cat"], [6], [[]]) == [texts[0]]
    assert cut("a\nb; c", ["; ", "\n"]) == "a" and cut("abc", ["x", ""]) == "abc"


def test_options_of_a_document_share_their_masks(runs: Path) -> None:
    same = [
        Instance(("a", "b"), "t", 3),
        Instance(("c", "d"), "t", 3),
        Instance(("a", "b"), "t", 4),
        Instance(("a", "b")),
    ]
    assert [r.question for r in requests_of(same)] == [0, 0, 1, 2]
    assert [r.question for r in requests_of([Instance(("a", "b"))] * 2)] == [0, 1]
    s = scorer(runs)
    twice = s.likelihoods(
        requests_of([Instance(("the ", "cat sat"), "t", 1)] * 2 + [Instance(("the ", "cat sat"), "t", 2)])
    )
    assert twice[0] == twice[1] and twice[0][0] != twice[2][0]


STAND_IN = {
    "lm_eval/__init__.py": "",
    "lm_eval/api/__init__.py": "",
    "lm_eval/api/model.py": """
class Hook:
    def add_partial(self, kind, args, result): print("cached", kind, len(args))
class LM:
    def __init__(self): self.cache_hook = Hook()
""",
    "lm_eval/api/registry.py": """
models = {}
def register_model(*names): return lambda c: models.update(dict.fromkeys(names, c)) or c
""",
    "lm_eval/__main__.py": """
import json, sys
from types import SimpleNamespace as Instance
from lm_eval.api.registry import models
def cli_evaluate():
    options = dict(word.split("=", 1) for word in sys.argv[sys.argv.index("--model_args") + 1].split(","))
    m = models["mdlm"](**options, batch_size=1, device=None)
    ask = [Instance(args=("the ca", x), task_name="t", doc_id=0) for x in ("t sat", "r sat")]
    print(json.dumps(m.loglikelihood(ask)))
    print(json.dumps(m.loglikelihood_rolling([Instance(args=("the cat sat on the mat",))])))
    print(json.dumps(m.generate_until([Instance(args=("the cat", {"until": ["q"], "max_gen_toks": 5}))])))
""",
}


def test_stand_in(runs: Path, tmp_path: Path) -> None:
    """As the harness calls it, from the command line to the results."""
    for name, text in STAND_IN.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    options = f"checkpoint={runs}/a/last.h5,data={runs}/valid.h5,mdlm={MDLM},keys={ORDER} eval.batch=4"
    words = command("mdlm_analysis.harness", "--model", "mdlm", "--model_args", options, "--tasks", "piqa")
    paths = [str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    ll, rolling, texts = (json.loads(x) for x in done.stdout.splitlines() if not x.startswith("cached"))
    assert ll[0][0] > ll[1][0] and isinstance(ll[0][1], bool) and rolling[0] < 0 and len(texts[0]) <= 5
    assert done.stdout.count("cached") == 4


TASK = """
task: toy
dataset_path: json
dataset_kwargs: {data_files: {test: questions.jsonl}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_choice: choices
doc_to_target: gold
metric_list: [{metric: acc}, {metric: acc_norm}]
"""


def test_the_harness_itself(runs: Path, tmp_path: Path) -> None:
    """Its accuracy on a task is that of `mdlm likelihood` on the requests that mdlm-tasks makes of its dump."""
    pytest.importorskip("lm_eval", reason="lm_eval is not installed")
    choices = ["sat on", "the the", "dog ran"]
    lines = [json.dumps({"question": "the cat", "choices": choices[i:] + choices[:i], "gold": i % 2}) for i in range(3)]
    (tmp_path / "questions.jsonl").write_text("\n".join(lines))
    (tmp_path / "toy.yaml").write_text(TASK)
    options = f"checkpoint={runs}/a/last.h5,data={runs}/valid.h5,mdlm={MDLM},keys=eval.draws=4"
    words = ("--model", "mdlm", "--model_args", options, "--tasks", "toy", "--include_path", ".", "--log_samples")
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hub")}
    line = command("mdlm_analysis.harness", *words, "--output_path", "out")
    done = subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    (results,) = tmp_path.glob("out/*/results_*.json")
    (dump,) = tmp_path.glob("out/*/samples_toy_*.jsonl")
    made = (dump, "--data", runs / "valid.h5", "--out", tmp_path / "r.h5", "--quiet")
    run_command("mdlm_data.tasks", *made).check_returncode()
    own = (f"likelihood.requests={tmp_path}/r.h5", f"likelihood.output={tmp_path}/l.h5", "eval.draws=4")
    mdlm("likelihood", runs / "deck.cfg", f"eval.checkpoint={runs}/a/last.h5", *own)
    found, told = json.loads(results.read_text())["results"]["toy"], mdlm_h5.likelihood(tmp_path / "l.h5").attributes
    assert found["acc,none"] == pytest.approx(told["acc"]) and found["acc_norm,none"] == pytest.approx(told["acc_norm"])


def test_without_the_harness(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    monkeypatch.setitem(sys.modules, "lm_eval.api.model", None)
    with pytest.raises(InputError, match=r"pip install -e 'analysis\[lm-eval\]'"):
        harness.model()


def test_refusals(runs: Path) -> None:
    with pytest.raises(InputError, match="context=16: must be 1 to 15"):
        scorer(runs, context=16)
    with pytest.raises(InputError, match="mdlm likelihood: mdlm: error: eval.estimator = time does not"):
        scorer(runs, keys="eval.estimator=time").likelihoods(requests_of([Instance(("a", "b"))]))
    with pytest.raises(InputError, match="name it with mdlm=COMMAND"):
        Scorer(str(runs / "a/last.h5"), str(runs / "valid.h5"), mdlm="nowhere").rolling(["a"])


def test_results_are_read(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """mdlm_h5.likelihood of an output."""
    from mdlm_data.task_file import Tokens, write_requests

    s = scorer(runs)
    write_requests(str(tmp_path / "r.h5"), [Tokens([7], [8, 9], 2), Tokens([7], [8], 1)], s.vocabulary, "x", [0, 1])
    monkeypatch.chdir(runs)
    mdlm(
        "likelihood",
        "deck.cfg",
        f"likelihood.requests={tmp_path}/r.h5",
        f"likelihood.output={tmp_path}/l.h5",
        "eval.draws=3",
    )
    found = mdlm_h5.likelihood(tmp_path / "l.h5")
    assert found.draws.tolist() == [3, 1] and found.tokens.tolist() == [2, 1] and found.stderr[1] == 0
    assert found.is_greedy.tolist() == [-1, -1] and (found.ll < 0).all() and found.attributes["estimator"] == "count"
    assert found.cut.tolist() == [0, 0]
