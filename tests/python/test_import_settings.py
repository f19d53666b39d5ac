"""mdlm-convert import: what hyper-parameters and options tell, the deck, padded vocabularies."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from conftest import ROOT, Run
from weights import (
    HUB,
    MODEL,
    Call,
    Global,
    average,
    folder,
    golden_gpt2,
    hub,
    lightning,
    logits,
    mdlm,
    network,
    pickled,
    reference,
    save,
    tokenizer,
)

import mdlm_h5

# ---- settings


OBJECTIVES = {
    "subs": {},
    "subs timed": {"time_conditioning": True, "change_of_variables": True},
    "subs importance": {"importance_sampling": True},
    "subs in steps": {"T": 50},
    "d3pm": {"parameterization": "d3pm", "T": 50, "time_conditioning": True},
    "d3pm masked": {"parameterization": "d3pm", "T": 50, "time_conditioning": True, "subs_masking": True},
    "sedd": {"parameterization": "sedd", "time_conditioning": True, "noise": "geometric"},
    "ar": {"parameterization": "ar", "backbone": "ar"},
    "mamba": {"backbone": "dimamba", "time_conditioning": True},
}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_lightning_of_every_objective_is_evaluated(convert: Run, prepare: Run, tmp_path: Path, name: str) -> None:
    """The hyper-parameters tell all; eval takes the deck that import writes."""
    changes = OBJECTIVES[name]
    kind = str(changes.get("backbone", "dit"))
    weights = hub(kind)
    model = MODEL | {"hidden_size": weights[next(k for k in weights if "embed" in k)].shape[1]}
    lightning(tmp_path / "best.ckpt", weights, average(weights), reference(**changes) | {"model": model})
    words = tokenizer(tmp_path, 13, 4)
    convert("import", "best.ckpt", "ours.h5", "--tokenizer", words)
    deck = mdlm_h5.deck((tmp_path / "ours.cfg").read_text())
    assert deck["model"]["name"] == kind and deck["model"]["heads"] == 2
    for key in ("T", "subs_masking", "change_of_variables"):
        assert deck["diffusion"].get(key, False) == changes.get(key, 0), key
    assert (deck["diffusion"].get("time") == "importance") == (name == "subs importance")
    assert deck["model"]["time_conditioning"] == changes.get("time_conditioning", False)
    assert deck["diffusion"].get("schedule", "loglinear") == changes.get("noise", "loglinear")
    ours = mdlm_h5.checkpoint(tmp_path / "ours.h5")
    assert ours.deck == deck and ours.length == 8 and ours.step == 77
    (tmp_path / "text").write_text("w0 w1 w2 w3 w4 w5 w6 w7\n" * 9)
    prepare("text", "--tokenizer", words, "--length", 8, "--out", "data.h5")
    files = {"checkpoint": "ours.h5", "data": "data.h5", "output": "eval.h5"}
    mdlm("eval", tmp_path / "ours.cfg", *(f"eval.{k}={tmp_path / v}" for k, v in files.items()))
    assert 1 < mdlm_h5.evaluation(tmp_path / "eval.h5").nll < 10


def test_what_cannot_be_known_must_be_given(convert: Run, tmp_path: Path) -> None:
    save(tmp_path / "w.safetensors", hub("dit"))
    words = tokenizer(tmp_path, 13, 4)
    error = convert("import", "w.safetensors", "no.h5", "--tokenizer", words, fails=True)
    assert "give --objective, --time-conditioning, --heads, --length" in error
    given = ("--heads", 2, "--length", 8, "--time-conditioning", "--objective", "d3pm")
    error = convert("import", "w.safetensors", "no.h5", "--tokenizer", words, *given, fails=True)
    assert "give --T" in error
    convert("import", "w.safetensors", "ours.h5", "--tokenizer", words, *given, "--T", 50)
    logits(tmp_path, "ours", h5py.File(ROOT / "tests/golden/dit.h5")["cases/d3pm"])


def test_the_deck_of_somebody_else_stays(convert: Run, tmp_path: Path) -> None:
    folder(tmp_path / "hub", hub("dit"), HUB)
    (tmp_path / "ours.cfg").write_text("model: { };\n")
    words = tokenizer(tmp_path, 13, 4)
    assert "ours.cfg: exists" in convert("import", "hub", "ours.h5", "--tokenizer", words, fails=True)
    assert (tmp_path / "ours.cfg").read_text() == "model: { };\n" and not (tmp_path / "ours.h5").exists()
    for _ in "ab":
        convert("import", "hub", "ours.h5", "--tokenizer", words, "--deck", "mine.cfg")


def test_padded_vocabulary(convert: Run, tmp_path: Path) -> None:
    padded = {
        k: np.pad(v, [(0, 3), *[(0, 0)] * (v.ndim - 1)]) if v.shape[0] == 13 else v for k, v in hub("dit").items()
    }
    folder(tmp_path / "hub", padded, HUB | {"vocab_size": 16})
    given = ("import", "hub", "ours.h5", "--tokenizer", tokenizer(tmp_path, 13, 4))
    assert "if their last rows are padding, give --cut-vocabulary 13" in convert(*given, fails=True)
    assert "the first 12 of 16 tokens" in convert(*given, "--cut-vocabulary", 12, fails=True)
    assert "only 16 tokens" in convert(*given, "--cut-vocabulary", 17, fails=True)
    assert "rows 13 to 15 of its vocabulary were cut" in convert(*given, "--cut-vocabulary", 13)
    ours = mdlm_h5.checkpoint(tmp_path / "ours.h5")
    assert all(np.array_equal(ours.parameter(k), v) for k, v in network("dit").items())
    folder(tmp_path / "hub", padded, HUB)  # whose vocab_size does not count the padding
    convert(*given, "--cut-vocabulary", 13)


def test_gpt2_folder_with_padding(convert: Run, tmp_path: Path) -> None:
    weights, golden = golden_gpt2()
    weights["wte.weight"] = np.pad(weights["wte.weight"], ((0, 3), (0, 0)))
    config = {"model_type": "gpt2", "n_head": 2, "n_embd": 16, "n_layer": 2, "vocab_size": 16, "n_positions": 8}
    folder(tmp_path / "hub", weights, config)
    convert("import", "hub", "ours.h5", "--tokenizer", tokenizer(tmp_path, 13, 4), "--cut-vocabulary", 13)
    logits(tmp_path, "ours", golden["cases/ar"])


def test_pickles_of_hyper_parameters_run_nothing(convert: Run, tmp_path: Path) -> None:
    made = tmp_path / "made"

    def state(t) -> dict:
        evil = Call(Global("os", "mkdir"), str(made))
        return {"state_dict": {k: t(v) for k, v in hub("dit").items()}, "hyper_parameters": {"config": evil}}

    pickled(tmp_path / "x.ckpt", state)
    error = convert("import", "x.ckpt", "no.h5", "--tokenizer", tokenizer(tmp_path, 13, 4), fails=True)
    assert "give --objective" in error and not made.exists()
