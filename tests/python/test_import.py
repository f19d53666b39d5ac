"""mdlm-convert import: hub folders, shards, wrappers, and lists of what does not fit."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import Run
from h5_files import make_checkpoint
from weights import HUB, folder, golden_gpt2, hub, network, pickled, save, tokenizer

import mdlm_h5

# ---- folders, and what lies beside a file


def test_hub_folder(convert: Run, tmp_path: Path) -> None:
    folder(tmp_path / "hub", hub("dit"), HUB)
    words = tokenizer(tmp_path, 13, 4)
    convert("import", "hub", "ours.h5", "--tokenizer", words)
    convert("import", "hub/model.safetensors", "file.h5", "--tokenizer", words, "--deck", "other.cfg")
    deck = mdlm_h5.deck((tmp_path / "ours.cfg").read_text())
    assert deck["model"]["heads"] == 4 and mdlm_h5.checkpoint(tmp_path / "ours.h5").length == 20
    assert deck == mdlm_h5.deck((tmp_path / "other.cfg").read_text()) and not (tmp_path / "file.cfg").exists()
    assert mdlm_h5.checkpoint(tmp_path / "file.h5").length == 20


def test_options_override_with_a_warning(convert: Run, tmp_path: Path) -> None:
    folder(tmp_path / "hub", hub("dit"), HUB)
    words = tokenizer(tmp_path, 13, 4)
    assert "--heads is 2, but hub/config.json says 4" in convert(
        "import", "hub", "o.h5", "--tokenizer", words, "--heads", 2
    )
    assert mdlm_h5.deck((tmp_path / "o.cfg").read_text())["model"]["heads"] == 2


def test_files_that_are_not_replaced(convert: Run, tmp_path: Path) -> None:
    folder(tmp_path / "hub", hub("dit"), HUB)
    run = ("import", "hub", "o.h5", "--tokenizer", tokenizer(tmp_path, 13, 4))
    convert(*run)
    convert(*run)  # what import made may be made again
    make_checkpoint(tmp_path / "o.h5")
    before = (tmp_path / "o.h5").read_bytes()
    assert "o.h5: is the checkpoint of a run" in convert(*run, fails=True)
    assert (tmp_path / "o.h5").read_bytes() == before
    (tmp_path / "o.h5").write_text("a text")
    assert "o.h5: exists and is not a mdlm-checkpoint file" in convert(*run, fails=True)
    assert (tmp_path / "o.h5").read_text() == "a text"


def test_folders_that_are_refused(convert: Run, tmp_path: Path) -> None:
    words = tokenizer(tmp_path, 13, 4)

    def refused(name: str, *more: object) -> str:
        return convert("import", name, "no.h5", "--tokenizer", words, *more, fails=True)

    at = folder(tmp_path / "hub", hub("dit"), HUB | {"n_blocks": 3})
    assert "blocks is 2, but hub/config.json says 3" in refused("hub")
    folder(at, hub("dit"), HUB | {"n_heads": "4"})
    assert "n_heads is '4', not a whole number" in refused("hub")
    folder(at, hub("dit"), {"model_type": "llama"})
    assert "model_type is llama" in refused("hub")
    folder(at, golden_gpt2()[0], {"model_type": "gpt2", "n_head": 2, "activation_function": "relu"})
    assert "activation_function is relu" in refused("hub")
    (at / "config.json").write_text("{")
    assert "config.json: not JSON" in refused("hub")
    (at / "config.json").unlink()
    assert "give --heads" in refused("hub")
    (at / "model.safetensors").unlink()
    assert "hub: holds no weights" in refused("hub")
    for name in "ab":
        save(at / f"{name}.safetensors", hub("dit"))
    assert "hub: holds several files of weights: a.safetensors, b.safetensors" in refused("hub")
    assert not list(tmp_path.glob("no.*"))


@pytest.mark.parametrize("kind", ["safetensors", "bin"])
def test_shards(convert: Run, tmp_path: Path, kind: str) -> None:
    at = folder(tmp_path / "hub", {}, HUB)
    (at / "model.safetensors").unlink()
    weights, base = hub("dit"), "model" if kind == "safetensors" else "pytorch_model"
    parts = {f"{base}-{i + 1}.{kind}": dict(list(weights.items())[i::2]) for i in (0, 1)}
    for name, part in parts.items():
        if kind == "safetensors":
            save(at / name, part)
        else:
            pickled(at / name, lambda tensor, part=part: {k: tensor(v) for k, v in part.items()})
    index = {"weight_map": {k: name for name, part in parts.items() for k in part}}
    (at / f"{base}.{kind}.index.json").write_text(json.dumps(index))
    words = tokenizer(tmp_path, 13, 4)
    convert("import", "hub", "ours.h5", "--tokenizer", words)
    convert("import", f"hub/{base}.{kind}.index.json", "same.h5", "--tokenizer", words)
    for name in ("ours.h5", "same.h5"):
        ours = mdlm_h5.checkpoint(tmp_path / name)
        assert all(np.array_equal(ours.parameter(k), v) for k, v in network("dit").items())
    index["weight_map"]["backbone.more"] = next(iter(parts))
    (at / f"{base}.{kind}.index.json").write_text(json.dumps(index))
    assert "backbone.more is not in its shard" in convert("import", "hub", "no.h5", "--tokenizer", words, fails=True)
    (at / next(iter(parts))).unlink()
    assert f"its shard {base}-1.{kind} is missing" in convert(
        "import", "hub", "no.h5", "--tokenizer", words, fails=True
    )
    index["weight_map"]["backbone.more"] = "../x.safetensors"
    (at / f"{base}.{kind}.index.json").write_text(json.dumps(index))
    assert "names a shard outside its folder" in convert("import", "hub", "no.h5", "--tokenizer", words, fails=True)


# ---- wrappers, and lists of what does not fit


@pytest.mark.parametrize("before", ["model.", "module.", "_orig_mod.", "module._orig_mod.model."])
def test_wrappers(convert: Run, tmp_path: Path, before: str) -> None:
    for name in ("dit", "dimamba"):
        weights = {before + k.replace("backbone.", "backbone._orig_mod.", 1): v for k, v in hub(name).items()}
        folder(tmp_path / name, weights, {k: v for k, v in HUB.items() if k != "hidden_dim"})
        convert("import", name, "ours.h5", "--tokenizer", tokenizer(tmp_path, 13, 4))
        ours = mdlm_h5.checkpoint(tmp_path / "ours.h5")
        assert all(np.array_equal(ours.parameter(k), v) for k, v in network(name).items())


def test_nested_dictionaries(convert: Run, tmp_path: Path) -> None:
    weights = {k.removeprefix("backbone."): v for k, v in hub("dit").items()}
    given = ("--tokenizer", tokenizer(tmp_path, 13, 4), "--heads", 2, "--length", 8)
    given += ("--objective", "subs", "--no-time-conditioning")

    def saved(make) -> None:
        pickled(tmp_path / "x.pt", make)

    def named(t, more: float = 0) -> dict:
        return {k: t(v + np.float32(more)) for k, v in weights.items()}

    saved(
        lambda t: {"model": {"net": named(t)}, "optimizer": {"state": {0: {"exp_avg": t(np.ones(3, "f4"))}}}, "step": 3}
    )
    convert("import", "x.pt", "ours.h5", *given)
    saved(lambda t: {"model": named(t), "model_ema": {"module": named(t, 1)}})
    convert("import", "x.pt", "ours.h5", *given)
    ours = mdlm_h5.checkpoint(tmp_path / "ours.h5")
    for name, value in network("dit").items():
        assert np.array_equal(ours.parameter(name, "params"), value)
        assert np.array_equal(ours.parameter(name), value + np.float32(1))
    saved(lambda t: {"student": named(t), "teacher": named(t)})
    assert "several sets of weights: student, teacher" in convert("import", "x.pt", "no.h5", *given, fails=True)
    saved(lambda t: {"a": {"b": t(np.ones(3, "f4"))}})
    assert "its first parameters are a.b\n" in convert("import", "x.pt", "no.h5", *given, fails=True)


def test_everything_that_does_not_fit_is_listed(convert: Run, tmp_path: Path) -> None:
    weights, _ = golden_gpt2()
    del weights["h.1.ln_2.bias"], weights["ln_f.weight"]
    weights |= {"h.0.x": np.zeros(1, "f4"), "h.0.mlp.c_fc.weight": weights["h.0.mlp.c_fc.weight"].T}
    weights = {f"transformer.{k}": v for k, v in weights.items()} | {"score.weight": np.zeros((2, 16), "f4")}
    save(tmp_path / "w.safetensors", weights)
    raw = (tmp_path / "w.safetensors").read_bytes()
    at = raw.index(b"F32", raw.index(b'"transformer.h.0.ln_1.bias"'))
    (tmp_path / "w.safetensors").write_bytes(raw[:at] + b"I32" + raw[at + 3 :])
    words = tokenizer(tmp_path, 13, 4)
    error = convert("import", "w.safetensors", "no.h5", "--tokenizer", words, "--heads", 2, fails=True)
    assert "2 missing, 2 extra, 1 of another shape, 1 not of floating point;" in error
    assert sorted(error.splitlines()[1:]) == [
        "  extra: score.weight [2, 16]",
        "  extra: transformer.h.0.x [1]",
        "  missing: transformer.h.1.ln_2.bias [16]",
        "  missing: transformer.ln_f.weight [16]",
        "  not of floating point: transformer.h.0.ln_1.bias of type <i4",
        "  of another shape: transformer.h.0.mlp.c_fc.weight [64, 16], expected [16, 64]",
    ]
    untied, _ = golden_gpt2()
    save(tmp_path / "w.safetensors", untied | {"lm_head.weight": untied["wte.weight"] + 1})
    error = convert("import", "w.safetensors", "no.h5", "--tokenizer", words, "--heads", 2, fails=True)
    assert "lm_head.weight differs from wte.weight" in error
