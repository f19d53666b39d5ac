"""mdlm-convert: imported GPT-2 weights give the logits of tests/golden; every network survives import and export."""

from __future__ import annotations

import json
import os
import pickle
import struct
import subprocess
import zipfile
from collections import OrderedDict
from pathlib import Path

import h5py
import numpy as np
import pytest
from conftest import ROOT, Run, command

from mdlm_analysis.pytorch_file import Inert, pytorch_open
from mdlm_analysis.safetensors_file import safetensors_open, safetensors_write
from mdlm_analysis.shapes import DIMAMBA

MDLM = Path(os.environ.get("BUILD", ROOT / "build")) / "mdlm"
Tensors = dict[str, np.ndarray]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """mdlm-convert in a temporary folder; it must succeed, or with fails=True print one line and exit with 2."""

    def call(*arguments: object, fails: bool = False) -> str:
        done = subprocess.run(
            command("mdlm_analysis.convert", *arguments), cwd=tmp_path, capture_output=True, text=True, timeout=300
        )
        if fails:
            assert done.returncode == 2, done.stderr
            assert done.stderr.startswith("mdlm-convert: error: ") and done.stderr.count("\n") == 1, done.stderr
            assert not list(tmp_path.glob("*.tmp"))
            return done.stderr
        assert done.returncode == 0, done.stderr
        return done.stdout

    return call


def mdlm(*arguments: object) -> None:
    if not MDLM.is_file():
        pytest.skip(f"there is no {MDLM}; make builds it")
    environment = os.environ | {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    done = subprocess.run(
        [MDLM.resolve(), *map(str, arguments)], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr


def tokenizer(folder: Path, size: int, mask: int | None) -> str:
    """A WordPiece tokenizer with `size` tokens; [MASK] has the id `mask`, if given."""
    words = ["[CLS]", "[SEP]", "[UNK]", *(f"w{i}" for i in range(size - 3 - (mask is not None)))]
    if mask is not None:
        words.insert(mask, "[MASK]")
    path = folder / f"words{size}.json"
    definition = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": None,
        "decoder": None,
        "model": {
            "type": "WordPiece",
            "unk_token": "[UNK]",
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": {w: i for i, w in enumerate(words)},
        },
    }
    path.write_text(json.dumps(definition))
    return f"json:{path}"


def golden_gpt2() -> tuple[Tensors, h5py.File]:
    """GPT-2 weights in the layout of the public file ([in,out], with buffers), and the golden file."""
    f = h5py.File(ROOT / "tests/golden/gpt2.h5")
    weights = {k: v[()].astype("f4") for k, v in f["params"].items()}
    weights = {k: v.T if "c_" in k and v.ndim == 2 else v for k, v in weights.items()}
    L = int(f.attrs["length"])
    buffers = {f"h.{i}.attn.bias": np.tril(np.ones((1, 1, L, L), "f4")) for i in range(2)}
    return weights | buffers, f


def save(path: Path, tensors: Tensors) -> None:
    safetensors_write(path, {k: v.shape for k, v in tensors.items()}, tensors.values())


def read(path: Path) -> Tensors:
    return {k: v.read() for k, v in safetensors_open(path).items()}


def same(a: Tensors, b: Tensors) -> None:
    assert set(a) == set(b)
    for name in a:
        assert a[name].shape == b[name].shape and np.array_equal(a[name], b[name]), name


# ---- GPT-2


@pytest.mark.parametrize("prefix", ["", "transformer."])
def test_gpt2_golden(run: Run, tmp_path: Path, prefix: str) -> None:
    weights, golden = golden_gpt2()
    tied = {"lm_head.weight": weights["wte.weight"]}
    save(tmp_path / "gpt2.safetensors", {prefix + k: v for k, v in weights.items()} | tied)
    words = tokenizer(tmp_path, int(golden.attrs["vocab"]), int(golden.attrs["mask"]))
    printed = run("import", "gpt2.safetensors", "gpt2.h5", "--tokenizer", words, "--heads", 2)
    assert 'name = "gpt2"' in printed and "L = 8" in printed
    mdlm("info", tmp_path / "gpt2.h5")  # every checksum
    case = golden["cases/ar"]
    (tmp_path / "deck.cfg").write_text(printed.split("\n", 1)[1])
    with h5py.File(tmp_path / "in.h5", "w") as f:
        f["z"], f["t"] = case["z"][()], np.zeros(len(case["z"]))
    files = [f"logits.{k}={tmp_path / v}.h5" for k, v in (("checkpoint", "gpt2"), ("input", "in"), ("output", "out"))]
    mdlm("logits", tmp_path / "deck.cfg", *files)
    with h5py.File(tmp_path / "out.h5") as f:
        want = case["logits"][()]
        assert np.abs(f["logits"][()] - want).max() < 2e-5 * np.abs(want).max()


def test_gpt2_there_and_back(run: Run, tmp_path: Path) -> None:
    weights, golden = golden_gpt2()
    save(tmp_path / "gpt2.safetensors", weights)
    words = tokenizer(tmp_path, int(golden.attrs["vocab"]), int(golden.attrs["mask"]))
    run("import", "gpt2.safetensors", "gpt2.h5", "--tokenizer", words, "--heads", 2)
    run("export", "gpt2.h5", "back.safetensors")
    same(read(tmp_path / "back.safetensors"), {k: v for k, v in weights.items() if not k.endswith(".attn.bias")})


def test_gpt2_without_mask(run: Run, tmp_path: Path) -> None:
    """The public weights have no mask token: import adds a row for it, export removes it."""
    weights, golden = golden_gpt2()
    save(tmp_path / "gpt2.safetensors", weights)
    words = tokenizer(tmp_path, int(golden.attrs["vocab"]), None)
    run("import", "gpt2.safetensors", "gpt2.h5", "--tokenizer", words, "--heads", 2)
    with h5py.File(tmp_path / "gpt2.h5") as f:
        assert f["params/wte.weight"].shape == (14, 16) and not f["params/wte.weight"][13].any()
        assert f["vocab"].attrs["mask"] == 13
    run("export", "gpt2.h5", "back.safetensors", "--weights", "live")
    same(read(tmp_path / "back.safetensors"), {k: v for k, v in weights.items() if not k.endswith(".attn.bias")})


# ---- the networks of the reference


def network(name: str) -> Tensors:
    with h5py.File(ROOT / f"tests/golden/{name}.h5") as f:
        return {k: v[()].astype("f4") for k, v in f["params"].items()}


def hub(name: str) -> Tensors:
    """Weights in the layout of the reference's file: a prefix, a buffer, the tied projections twice."""
    weights = network(name)
    if name == "dimamba":
        twins = ("mamba_fwd.in_proj", "mamba_fwd.out_proj")
        weights |= {k.replace("_fwd", "_rev"): v for k, v in weights.items() if any(t in k for t in twins)}
    else:
        K = weights["vocab_embed.embedding"].shape[1] // 2
        weights["rotary_emb.inv_freq"] = (10000.0 ** (-np.arange(0, K, 2) / K)).astype("f4")
    return {"backbone." + k: v for k, v in weights.items()}


@pytest.mark.parametrize("name", ["dit", "ar", "dimamba"])
def test_reference_there_and_back(run: Run, tmp_path: Path, name: str) -> None:
    weights = hub(name)
    save(tmp_path / "hub.safetensors", weights)
    V = next(v for k, v in weights.items() if "embed" in k).shape[0]
    words = tokenizer(tmp_path, V, 3)
    printed = run("import", "hub.safetensors", "ours.h5", "--tokenizer", words, "--heads", 2, "--length", 8)
    assert f'name = "{name}"' in printed
    with h5py.File(tmp_path / "ours.h5") as f:
        same({k: v[()] for k, v in f["ema"].items()}, network(name))
    run("export", "ours.h5", "back.safetensors")
    same(read(tmp_path / "back.safetensors"), weights)
    mdlm("info", tmp_path / "ours.h5")
    (tmp_path / "deck.cfg").write_text(printed.split("\n", 1)[1])
    with h5py.File(tmp_path / "in.h5", "w") as f:
        f["z"], f["t"] = np.full((2, 8), 3), np.full(2, 0.5)
    files = [f"logits.{k}={tmp_path / v}.h5" for k, v in (("checkpoint", "ours"), ("input", "in"), ("output", "out"))]
    mdlm("logits", tmp_path / "deck.cfg", *files)


class Global:
    """Pickles as a global of a module that is not installed."""

    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name


class Call:
    def __init__(self, what: Global, *arguments: object) -> None:
        self.what, self.arguments = what, arguments

    def __reduce__(self) -> tuple:
        return self.what, self.arguments


class Storage:
    def __init__(self, kind: str, key: str, n: int) -> None:
        self.id = ("storage", Global("torch", kind), key, "cpu", n)


class Pickler(pickle._Pickler):  # the pure Python version, which can be extended by a new kind of global
    def save(self, obj: object, save_persistent_id: bool = True) -> None:
        if isinstance(obj, Global):
            self.write(pickle.GLOBAL + f"{obj.module}\n{obj.name}\n".encode())
        elif isinstance(obj, Call):
            self.save(obj.what)
            self.save(obj.arguments)
            self.write(pickle.REDUCE)
        elif isinstance(obj, Storage):
            self.save(obj.id)
            self.write(pickle.BINPERSID)
        else:
            super().save(obj, save_persistent_id)


def lightning(path: Path, weights: Tensors, average: Tensors) -> None:
    """A .ckpt in the layout of torch.save; one tensor is stored transposed, the averages are float64."""
    raw: list[bytes] = []

    def tensor(value: np.ndarray, kind: str, turned: bool = False) -> Call:
        stored = np.ascontiguousarray(value.T if turned else value)
        raw.append(stored.tobytes())
        strides = tuple(s // value.itemsize for s in (stored.T if turned else stored).strides)
        storage = Storage(kind, str(len(raw) - 1), value.size)
        rebuild = Global("torch._utils", "_rebuild_tensor_v2")
        return Call(rebuild, storage, 0, value.shape, strides, False, OrderedDict())

    state = {
        "epoch": 1,
        "global_step": 77,
        "hyper_parameters": Call(Global("omegaconf.dictconfig", "DictConfig"), {"a": 1}),
        "state_dict": OrderedDict((k, tensor(v, "FloatStorage", v.ndim == 2)) for k, v in weights.items()),
        "ema": {"decay": 0.9999, "shadow_params": [tensor(v.astype("f8"), "DoubleStorage") for v in average.values()]},
    }
    with zipfile.ZipFile(path, "w") as z:
        with z.open("best/data.pkl", "w") as f:
            Pickler(f, 2).dump(state)
        for i, data in enumerate(raw):
            z.writestr(f"best/data/{i}", data)


@pytest.mark.parametrize("name", ["dit", "dimamba"])
def test_lightning(run: Run, tmp_path: Path, name: str) -> None:
    weights = hub(name)
    average = {k: v + 1 for k, v in network(name).items()}
    order = [k for k in weights if k.removeprefix("backbone.") in average]  # a state_dict is in parameter order
    lightning(
        tmp_path / "best.ckpt",
        weights | {"noise.sigma_max": np.ones(1, "f4")},
        {k: average[k.removeprefix("backbone.")] for k in order},
    )
    V = next(v for k, v in weights.items() if "embed" in k).shape[0]
    run("import", "best.ckpt", "ours.h5", "--tokenizer", tokenizer(tmp_path, V, 3), "--heads", 2, "--length", 8)
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


def test_refusals(run: Run, tmp_path: Path) -> None:
    weights, _ = golden_gpt2()
    path = tmp_path / "w.safetensors"
    words = tokenizer(tmp_path, 13, 4)

    def refused(tensors: Tensors, *options: object) -> str:
        save(path, tensors)
        return run("import", path.name, "no.h5", "--tokenizer", words, "--heads", 2, *options, fails=True)

    assert "h.1.ln_2.bias is missing" in refused({k: v for k, v in weights.items() if k != "h.1.ln_2.bias"})
    assert "h.0.x is not a parameter" in refused(weights | {"h.0.x": np.zeros(1, "f4")})
    wrong = weights | {"h.0.mlp.c_fc.weight": weights["h.0.mlp.c_fc.weight"].T}
    assert "h.0.mlp.c_fc.weight has the shape [16, 64], expected [64, 16]" in refused(wrong)
    assert "not the weights of gpt2, dit, ar, dimamba" in refused({"a": np.zeros(1, "f4")})
    assert "--objective subs: gpt2 is trained with ar" in refused(weights, "--objective", "subs")
    assert "--time-conditioning" in refused(weights, "--time-conditioning")
    assert "--heads 3" in refused(weights, "--heads", 3)
    assert "must be positive" in refused(weights, "--heads", 0)
    other = tokenizer(tmp_path, 20, 4)
    save(path, weights)
    printed = run("import", path.name, "no.h5", "--tokenizer", other, "--heads", 2, fails=True)
    assert "weights of 13 tokens, but the vocabulary" in printed
    assert "trains a new" in run("import", path.name, "no.h5", "--tokenizer", "bpe:300", "--heads", 2, fails=True)
    path.write_bytes(path.read_bytes()[:-8])
    assert "ends early" in run("import", path.name, "no.h5", "--tokenizer", words, "--heads", 2, fails=True)
    path.write_bytes(b"nonsense that is no file of tensors")
    assert "not a safetensors file" in run("import", path.name, "no.h5", "--tokenizer", words, fails=True)
    (tmp_path / "x.ckpt").write_bytes(b"nonsense")
    assert "not a PyTorch file" in run("import", "x.ckpt", "no.h5", "--tokenizer", words, fails=True)
    assert "both read and written" in run("import", "x.ckpt", "x.ckpt", "--tokenizer", words, fails=True)
    lightning(tmp_path / "x.ckpt", hub("dit"), {})
    raw = bytearray((tmp_path / "x.ckpt").read_bytes())
    raw[raw.index(b"best/data/0") + 20] ^= 1  # within the first tensor
    (tmp_path / "x.ckpt").write_bytes(raw)
    dit = tokenizer(tmp_path, len(network("dit")["vocab_embed.embedding"]), 3)
    assert "is missing or damaged" in run("import", "x.ckpt", "no.h5", "--tokenizer", dit, "--heads", 2, fails=True)
    run("import", "none.safetensors", "no.h5", "--tokenizer", words, fails=True)
    assert "none.h5: cannot be read" in run("export", "none.h5", "no.safetensors", fails=True)
    assert "w.safetensors: cannot be read as HDF5" in run("export", path.name, "no.safetensors", fails=True)
    save(path, weights)
    run("import", path.name, "whole.h5", "--tokenizer", words, "--heads", 2)
    whole = (tmp_path / "whole.h5").read_bytes()
    for at in range(100, len(whole), len(whole) // 7):
        (tmp_path / "flipped.h5").write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert "flipped.h5 is damaged" in run("export", "flipped.h5", "no.safetensors", fails=True)
    with h5py.File(tmp_path / "part.h5", "w") as f:
        f.attrs["format"] = "mdlm-checkpoint"
    assert "part.h5: a part is missing" in run("export", "part.h5", "no.safetensors", fails=True)
    assert not (tmp_path / "no.safetensors").exists()
    assert not (tmp_path / "no.h5").exists()
    rev = "backbone." + DIMAMBA + "layers.0.mixer.mamba_rev.in_proj.weight"
    loose = hub("dimamba")
    loose[rev] = loose[rev] + 1
    assert "the directions are not tied" in refused(loose)
