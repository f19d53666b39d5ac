"""Files of weights as other programs write them, made by hand, for the tests of mdlm-convert."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from conftest import ROOT

from mdlm_analysis.safetensors_file import safetensors_open, safetensors_write

MDLM = (
    Path(os.environ.get("BUILD", ROOT / "build")).resolve() / "mdlm"
)  # BUILD may be relative, and tests change directory
Tensors = dict[str, np.ndarray]


def mdlm(*arguments: object) -> None:
    if not MDLM.is_file():
        pytest.skip(f"there is no {MDLM}; make builds it")
    environment = os.environ | {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    done = subprocess.run([MDLM, *map(str, arguments)], env=environment, capture_output=True, text=True, timeout=300)
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


class Global:
    """Pickles as a global of a module that is not installed."""

    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name


class Call:
    def __init__(self, what: Global, *arguments: object) -> None:
        self.what, self.arguments = what, arguments

    def __reduce__(self) -> tuple:
        return self.what, self.arguments


class Made:
    """Pickles as an object of a class that is not installed, with this state."""

    def __init__(self, what: Global, state: dict) -> None:
        self.what, self.state = what, state


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
        elif isinstance(obj, Made):
            self.save(obj.what)
            self.write(pickle.EMPTY_TUPLE + pickle.NEWOBJ)
            self.save(obj.state)
            self.write(pickle.BUILD)
        elif isinstance(obj, Storage):
            self.save(obj.id)
            self.write(pickle.BINPERSID)
        else:
            super().save(obj, save_persistent_id)


def omega(value: object) -> object:
    """Plain values as the nodes of OmegaConf pickle: their content, their parents, a cache of flags."""
    if isinstance(value, dict):
        return Made(
            Global("omegaconf.dictconfig", "DictConfig"),
            {"_parent": None, "_content": {k: omega(v) for k, v in value.items()}},
        )
    return Made(Global("omegaconf.nodes", "AnyNode"), {"_metadata": None, "_val": value, "_flags_cache": {}})


def pickled(path: Path, make: Callable[[Callable[..., Call]], object]) -> None:
    """What torch.save(make(tensor), path) writes, where tensor(value, turned) is a tensor, stored transposed if turned."""
    raw: list[bytes] = []

    def tensor(value: np.ndarray, turned: bool = False) -> Call:
        stored = np.asarray(value.T if turned else value, order="C")
        raw.append(stored.tobytes())
        strides = tuple(s // value.itemsize for s in (stored.T if turned else stored).strides)
        storage = Storage({4: "FloatStorage", 8: "DoubleStorage"}[value.itemsize], str(len(raw) - 1), value.size)
        rebuild = Global("torch._utils", "_rebuild_tensor_v2")
        return Call(rebuild, storage, 0, value.shape, strides, False, OrderedDict())

    with zipfile.ZipFile(path, "w") as z:
        with z.open("best/data.pkl", "w") as f:
            Pickler(f, 2).dump(make(tensor))
        for i, data in enumerate(raw):
            z.writestr(f"best/data/{i}", data)


def lightning(path: Path, weights: Tensors, average: Tensors, config: dict | None = None) -> None:
    """A .ckpt as Lightning writes it; matrices are stored transposed, the averages are float64."""
    pickled(
        path,
        lambda tensor: {
            "epoch": 1,
            "global_step": 77,
            "hyper_parameters": {
                "config": omega(config or {}),
                "tokenizer": Call(Global("transformers", "Tokenizer"), "x"),
            },
            "state_dict": OrderedDict((k, tensor(v, v.ndim == 2)) for k, v in weights.items()),
            "ema": {"decay": 0.9999, "shadow_params": [tensor(v.astype("f8")) for v in average.values()]},
        },
    )


def logits(folder: Path, checkpoint: str, case: h5py.Group) -> None:
    """The logits of an imported checkpoint, under the deck that import wrote, are those of the golden case."""
    with h5py.File(folder / "in.h5", "w") as f:
        f["z"], f["t"] = case["z"][()], case["times"][1] if "times" in case else np.zeros(len(case["z"]))
    names = {"checkpoint": f"{checkpoint}.h5", "input": "in.h5", "output": f"{checkpoint}_logits.h5"}
    mdlm("logits", folder / f"{checkpoint}.cfg", *(f"logits.{k}={folder / v}" for k, v in names.items()))
    with h5py.File(folder / names["output"]) as f:
        want = case["logits"][()]
        assert np.abs(f["logits"][()] - want).max() < 1e-5 * max(1, np.abs(want).max())


# ---- configurations


HUB = {"model_type": "mdlm", "vocab_size": 13, "model_length": 20, "hidden_dim": 8, "cond_dim": 2, "n_blocks": 2}
HUB |= {"n_heads": 4, "dropout": 0.1, "time_conditioning": False}
MODEL = {"hidden_size": 8, "cond_dim": 2, "length": "${length}", "n_blocks": 2, "n_heads": 2, "dropout": 0.1}


def folder(at: Path, weights: Tensors, config: dict) -> Path:
    at.mkdir(exist_ok=True)
    save(at / "model.safetensors", weights)
    (at / "config.json").write_text(json.dumps(config))
    return at


def reference(**changes: object) -> dict:
    """The configuration of a run of the reference."""
    training = {key: changes.pop(key, False) for key in ("change_of_variables", "importance_sampling")}
    noise = {"type": changes.pop("noise", "loglinear"), "sigma_min": 1e-4, "sigma_max": 20}
    usual = {"backbone": "dit", "parameterization": "subs", "time_conditioning": False, "T": 0, "subs_masking": False}
    return usual | {"length": 8, "model": MODEL, "noise": noise, "training": training} | changes


def average(weights: Tensors) -> Tensors:
    """What EMA lists: no buffers, the tied projections once."""
    return {
        k: v
        for k, v in weights.items()
        if "rotary" not in k and "mamba_rev.in_proj" not in k and "rev.out_proj" not in k
    }


def bits(path: Path) -> dict[str, bytes]:
    with h5py.File(path) as f:
        return {f"{group}/{k}": v[()].tobytes() for group in ("params", "ema") for k, v in f[group].items()}
