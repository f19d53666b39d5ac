"""mdlm-analysis line: its ends are those of mdlm eval, its middle a mixture; what mdlm refuses is one line."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from conftest import Call, run_command
from h5_files import make_checkpoint
from weights import MDLM, mdlm

import mdlm_h5
from mdlm_analysis import line

DECK = """
run: { dir = "a"; };
data: { train = "train.h5"; valid = "valid.h5"; };
model: { width = 16; blocks = 1; heads = 2; cond_dim = 8; };
train: { steps = 12; global_batch = 4; micro_batch = 4; warmup = 2; lr = 1e-2; ema = 0.5; log_every = 4; };
device: { threads = 1; };
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs, a and b, of different seeds."""
    at = tmp_path_factory.mktemp("line")
    (at / "text").write_text("".join(f"the words of line {i} follow {i % 7} others\n" for i in range(120)))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(at)
        names = ("--out-train", "train.h5", "--out-valid", "valid.h5")
        made = ("text", "--tokenizer", "bpe:280", "--length", 16, "--valid-documents", 20, "--quiet", *names)
        run_command("mdlm_data.prepare", *made).check_returncode()
        (at / "deck.cfg").write_text(DECK)
        mdlm("train", "deck.cfg")
        mdlm("train", "deck.cfg", "run.dir=b", "run.seed=2")
        for name in "ab":
            mdlm("eval", "deck.cfg", f"run.dir={name}", f"eval.checkpoint={name}/last.h5", "eval.draws=2")
        mdlm("mix", "half.h5", "a/last.h5=0.5", "b/last.h5=0.5")
        mdlm("eval", "deck.cfg", "eval.checkpoint=half.h5", "eval.draws=2", "eval.output=half-eval.h5")
    return at


def test_line(runs: Path, analysis: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(runs)
    monkeypatch.setenv("OMPI_ALLOW_RUN_AS_ROOT", "1")
    monkeypatch.setenv("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")
    options = ("--mdlm", MDLM, "--points", 3, "--work", tmp_path, "-o", tmp_path / "x.svg", "--format", "csv")
    rows = list(
        csv.DictReader(analysis("line", "a/last.h5", "b/last.h5", "--keys", "eval.draws=2", *options).splitlines())
    )
    assert [float(r["weight of B"]) for r in rows] == [0, 0.5, 1]
    found = [mdlm_h5.evaluation(f) for f in ("a/eval.h5", "half-eval.h5", "b/eval.h5")]
    assert [float(r["nll [nat/token]"]) for r in rows] == [e.nll for e in found]
    assert [float(r["nll low [nat/token]"]) for r in rows] == [e.attributes["nll_low"] for e in found]
    above = found[1].nll - (found[0].nll + found[2].nll) / 2
    assert [float(r["above chord [nat/token]"]) for r in rows] == pytest.approx([0, above, 0], abs=1e-12)
    assert {p.name for p in tmp_path.iterdir()} == {"x.svg", "x.csv"}  # no mixture is left
    axes = line.draw(line.line(np.linspace(0, 1, 3), found)[0], "column").axes
    assert list(axes[0].lines[1].get_ydata()) == [e.nll for e in found]


def test_refusals(tmp_path: Path, analysis: Call) -> None:
    a = make_checkpoint(tmp_path / "a.h5")
    assert "no such file" in analysis("line", a, tmp_path / "none", fails=True)
    assert "expected KEY=VALUE" in analysis("line", a, a, "--keys", "draws", fails=True)
    assert "--points: at least 2" in analysis("line", a, a, "--points", 1, fails=True)
    message = analysis("line", a, a, "--mdlm", tmp_path / "nowhere", fails=True)
    assert "cannot be run (No such file or directory); name it with --mdlm" in message
    assert "mdlm mix: exit code 1" in analysis("line", a, a, "--mdlm", "false", fails=True)
    if MDLM.is_file():
        assert "mdlm mix: mdlm: error: " in analysis("line", a, a, "--mdlm", MDLM, fails=True)
