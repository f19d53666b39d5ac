"""mdlm-convert: imported GPT-2 weights give the logits of tests/golden; every network survives import and export."""

from __future__ import annotations

import json
import struct
import subprocess
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from conftest import ROOT, Run, command
from weights import (
    Call,
    Global,
    Pickler,
    Tensors,
    golden_gpt2,
    hub,
    lightning,
    logits,
    mdlm,
    network,
    read,
    same,
    save,
    tokenizer,
)

from mdlm_analysis.pytorch_file import Inert, pytorch_open
from mdlm_analysis.shapes import DIMAMBA

# ---- GPT-2


@pytest.mark.parametrize("prefix", ["", "transformer."])
def test_gpt2_golden(convert: Run, tmp_path: Path, prefix: str) -> None:
    weights, golden = golden_gpt2()
    tied = {"lm_head.weight": weights["wte.weight"]}
    save(tmp_path / "gpt2.safetensors", {prefix + k: v for k, v in weights.items()} | tied)
    words = tokenizer(tmp_path, int(golden.attrs["vocab"]), int(golden.attrs["mask"]))
    printed = convert("import", "gpt2.safetensors", "gpt2.h5", "--tokenizer", words, "--heads", 2)
    assert 'name = "gpt2"' in printed and "L = 8" in printed
    mdlm("info", tmp_path / "gpt2.h5")  # every checksum
    logits(tmp_path, "gpt2", golden["cases/ar"])


def test_gpt2_there_and_back(convert: Run, tmp_path: Path) -> None:
    weights, golden = golden_gpt2()
    save(tmp_path / "gpt2.safetensors", weights)
    words = tokenizer(tmp_path, int(golden.attrs["vocab"]), int(golden.attrs["mask"]))
    convert("import", "gpt2.safetensors", "gpt2.h5", "--tokenizer", words, "--heads", 2)
    convert("export", "gpt2.h5", "back.safetensors")
    same(read(tmp_path / "back.safetensors"), {k: v for k, v in weights.items() if not k.endswith(".attn.bias")})


def test_gpt2_without_mask(convert: Run, tmp_path: Path) -> None:
    """The public weights have no mask token: import adds a row for it, export removes it."""
    weights, golden = golden_gpt2()
    save(tmp_path / "gpt2.safetensors", weights)
    words = tokenizer(tmp_path, int(golden.attrs["vocab"]), None)
    convert("import", "gpt2.safetensors", "gpt2.h5", "--tokenizer", words, "--heads", 2)
    with h5py.File(tmp_path / "gpt2.h5") as f:
        assert f["params/wte.weight"].shape == (14, 16) and not f["params/wte.weight"][13].any()
        assert f["vocab"].attrs["mask"] == 13
    convert("export", "gpt2.h5", "back.safetensors", "--weights", "live")
    same(read(tmp_path / "back.safetensors"), {k: v for k, v in weights.items() if not k.endswith(".attn.bias")})


# ---- the networks of the reference


UNTIMED = ("--objective", "subs", "--no-time-conditioning")


@pytest.mark.parametrize("name", ["dit", "ar", "dimamba"])
def test_reference_there_and_back(convert: Run, tmp_path: Path, name: str) -> None:
    weights = hub(name)
    save(tmp_path / "hub.safetensors", weights)
    V = next(v for k, v in weights.items() if "embed" in k).shape[0]
    given = ("--tokenizer", tokenizer(tmp_path, V, 4), "--heads", 2, "--length", 8)
    printed = convert("import", "hub.safetensors", "ours.h5", *given, *(() if name == "ar" else UNTIMED))
    assert f'name = "{name}"' in printed
    with h5py.File(tmp_path / "ours.h5") as f:
        same({k: v[()] for k, v in f["ema"].items()}, network(name))
    mdlm("info", tmp_path / "ours.h5")
    golden = h5py.File(ROOT / f"tests/golden/{name}.h5")
    logits(tmp_path, "ours", golden["cases/ar" if name == "ar" else "cases/subs"])
    convert("export", "ours.h5", "back")
    same(read(tmp_path / "back/model.safetensors"), weights)
    convert("import", "back", "again.h5", "--tokenizer", given[1])  # config.json tells the rest
    assert (tmp_path / "again.cfg").read_text().split("\n")[1:] == (tmp_path / "ours.cfg").read_text().split("\n")[1:]
    with h5py.File(tmp_path / "again.h5") as f:
        same({k: v[()] for k, v in f["ema"].items()}, network(name))


@pytest.mark.parametrize("name", ["dit", "dimamba"])
def test_logits_with_time(convert: Run, tmp_path: Path, name: str) -> None:
    save(tmp_path / "hub.safetensors", hub(name))
    given = ("--tokenizer", tokenizer(tmp_path, 13, 4), "--heads", 2, "--length", 8)
    convert("import", "hub.safetensors", "ours.h5", *given, "--objective", "subs", "--time-conditioning")
    logits(tmp_path, "ours", h5py.File(ROOT / f"tests/golden/{name}.h5")["cases/subs_time"])


@pytest.mark.parametrize("name", ["dit", "dimamba"])
def test_lightning(convert: Run, tmp_path: Path, name: str) -> None:
    weights = hub(name)
    average = {k: v + 1 for k, v in network(name).items()}
    order = [k for k in weights if k.removeprefix("backbone.") in average]  # a state_dict is in parameter order
    lightning(
        tmp_path / "best.ckpt",
        weights | {"noise.sigma_max": np.ones(1, "f4")},
        {k: average[k.removeprefix("backbone.")] for k in order},
    )
    V = next(v for k, v in weights.items() if "embed" in k).shape[0]
    given = ("--tokenizer", tokenizer(tmp_path, V, 3), "--heads", 2, "--length", 8)
    convert("import", "best.ckpt", "ours.h5", *given, *UNTIMED)
    with h5py.File(tmp_path / "ours.h5") as f:
        assert f.attrs["step"] == 77
        same({k: v[()] for k, v in f["params"].items()}, network(name))
        same({k: v[()] for k, v in f["ema"].items()}, average)
    mdlm("info", tmp_path / "ours.h5")


def test_pickles_run_nothing(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bad.ckpt", "w") as z, z.open("bad/data.pkl", "w") as f:
        Pickler(f, 2).dump({"x": Call(Global("os", "mkdir"), str(tmp_path / "made"))})
    found = pytorch_open(tmp_path / "bad.ckpt")
    assert isinstance(found["x"], Inert) and not (tmp_path / "made").exists()


def test_bf16_and_f16(tmp_path: Path) -> None:
    header = {
        "a": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]},
        "b": {"dtype": "F16", "shape": [1, 2], "data_offsets": [4, 8]},
    }
    text = json.dumps(header).encode()
    data = struct.pack("<HH", 0x3FC0, 0xC000) + np.array([0.5, -3], "<f2").tobytes()
    (tmp_path / "x.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data)
    got = read(tmp_path / "x.safetensors")
    assert got["a"].tolist() == [1.5, -2] and got["b"].tolist() == [[0.5, -3]]


# ---- what is refused


def test_errors_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "x.ckpt").write_bytes(b"nonsense")
    run = ("import", tmp_path / "x.ckpt", tmp_path / "no.h5", "--tokenizer", tokenizer(tmp_path, 13, 4))
    done = subprocess.run(command("mdlm_analysis.convert", *run), capture_output=True, text=True, timeout=300)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("mdlm-convert: error: ") and done.stderr.count("\n") == 1, done.stderr


def test_refusals(convert: Run, tmp_path: Path) -> None:
    weights, _ = golden_gpt2()
    path = tmp_path / "w.safetensors"
    words = tokenizer(tmp_path, 13, 4)

    def refused(tensors: Tensors, *options: object) -> str:
        save(path, tensors)
        return convert("import", path.name, "no.h5", "--tokenizer", words, "--heads", 2, *options, fails=True)

    assert "1 missing; " in refused({k: v for k, v in weights.items() if k != "h.1.ln_2.bias"})
    first = "not the weights of gpt2, dit, ar, dimamba: its first parameters are a.b, c\n"
    assert first in refused({"a.b": np.zeros(1, "f4"), "c": np.zeros(2, "f4")})
    assert "--objective subs: gpt2 is trained with ar" in refused(weights, "--objective", "subs")
    assert "--time-conditioning" in refused(weights, "--time-conditioning")
    assert "--heads 3" in refused(weights, "--heads", 3)
    assert "must be positive" in refused(weights, "--heads", 0)
    other = tokenizer(tmp_path, 20, 4)
    save(path, weights)
    printed = convert("import", path.name, "no.h5", "--tokenizer", other, "--heads", 2, fails=True)
    assert "weights of 13 tokens, but the vocabulary json:words20 has 20" in printed
    assert "trains a new" in convert("import", path.name, "no.h5", "--tokenizer", "bpe:300", "--heads", 2, fails=True)
    path.write_bytes(path.read_bytes()[:-8])
    assert "ends early" in convert("import", path.name, "no.h5", "--tokenizer", words, "--heads", 2, fails=True)
    path.write_bytes(b"nonsense that is no file of tensors")
    assert "not a safetensors file" in convert("import", path.name, "no.h5", "--tokenizer", words, fails=True)
    for header in (b"[]", b'{"a": 1}', b'{"a": {"dtype": "F32", "shape": "x", "data_offsets": [0, 4]}}'):
        path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(8))
        assert "not a safetensors file" in convert("import", path.name, "no.h5", "--tokenizer", words, fails=True)
    (tmp_path / "x.ckpt").write_bytes(b"nonsense")
    assert "not a PyTorch file" in convert("import", "x.ckpt", "no.h5", "--tokenizer", words, fails=True)
    assert "both read and written" in convert("import", "x.ckpt", "x.ckpt", "--tokenizer", words, fails=True)
    lightning(tmp_path / "x.ckpt", hub("dit"), {})
    raw = bytearray((tmp_path / "x.ckpt").read_bytes())
    raw[raw.index(b"best/data/0") + 20] ^= 1  # within the first tensor
    (tmp_path / "x.ckpt").write_bytes(raw)
    pickle = raw[:]
    pickle[raw.index(b"shadow_params")] ^= 1
    (tmp_path / "y.ckpt").write_bytes(pickle)
    assert "Bad CRC-32" in convert("import", "y.ckpt", "no.h5", "--tokenizer", words, fails=True)
    dit = tokenizer(tmp_path, len(network("dit")["vocab_embed.embedding"]), 3)
    given = ("--tokenizer", dit, "--heads", 2, "--length", 8, *UNTIMED)
    assert "is missing or damaged" in convert("import", "x.ckpt", "no.h5", *given, fails=True)
    convert("import", "none.safetensors", "no.h5", "--tokenizer", words, fails=True)
    assert "none.h5: cannot be read" in convert("export", "none.h5", "no.safetensors", fails=True)
    assert "w.safetensors: cannot be read as HDF5" in convert("export", path.name, "no.safetensors", fails=True)
    save(path, weights)
    convert("import", path.name, "whole.h5", "--tokenizer", words, "--heads", 2)
    whole = (tmp_path / "whole.h5").read_bytes()
    for at in range(100, len(whole), len(whole) // 7):
        (tmp_path / "flipped.h5").write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert "flipped.h5 is damaged" in convert("export", "flipped.h5", "no.safetensors", fails=True)
    with h5py.File(tmp_path / "part.h5", "w") as f:
        f.attrs["format"] = "mdlm-checkpoint"
    assert "part.h5: cannot be read as mdlm-checkpoint" in convert("export", "part.h5", "no.safetensors", fails=True)
    assert not (tmp_path / "no.safetensors").exists()
    assert not (tmp_path / "no.h5").exists()
    rev = "backbone." + DIMAMBA + "layers.0.mixer.mamba_rev.in_proj.weight"
    loose = hub("dimamba")
    loose[rev] = loose[rev] + 1
    assert "differs from model.bimamba.backbone.layers.0.mixer.mamba_fwd.in_proj.weight" in refused(loose)
