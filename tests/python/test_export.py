"""mdlm-convert export: what public code loads, and that import gives the same bits again."""

from __future__ import annotations

import json
import pickletools
import zipfile
from pathlib import Path

import numpy as np
import pytest
from conftest import Run
from weights import HUB, MODEL, average, bits, folder, golden_gpt2, hub, lightning, read, reference, same, tokenizer

import mdlm_h5

PUBLIC = {"collections OrderedDict", "torch FloatStorage", "torch._utils _rebuild_tensor_v2"}


def trained(convert: Run, tmp_path: Path, name: str, **changes: object) -> str:
    """A checkpoint with a moving average of its own; returns the tokenizer."""
    weights = hub(name)
    model = MODEL | {"hidden_size": weights[next(k for k in weights if "word_emb" in k or "vocab_emb" in k)].shape[1]}
    averages = {k: v + np.float32(0.25) for k, v in average(weights).items()}
    lightning(tmp_path / "theirs.ckpt", weights, averages, reference(**{"backbone": name} | changes) | {"model": model})
    words = tokenizer(tmp_path, 13, 4)
    convert("import", "theirs.ckpt", "ours.h5", "--tokenizer", words)
    return words


@pytest.mark.parametrize("name", ["dit", "ar", "dimamba", "classes"])
def test_lightning_there_and_back(convert: Run, tmp_path: Path, name: str) -> None:
    changes = {"parameterization": "ar"} if name == "ar" else {"time_conditioning": True}
    changes |= {"backbone": "dit"} if name == "classes" else {}
    words = trained(convert, tmp_path, name, **changes)
    convert("export", "ours.h5", "back.ckpt")
    convert("import", "back.ckpt", "again.h5", "--tokenizer", words)
    assert bits(tmp_path / "again.h5") == bits(tmp_path / "ours.h5")
    assert mdlm_h5.checkpoint(tmp_path / "again.h5").step == 77
    decks = [(tmp_path / f"{n}.cfg").read_text().split("\n")[1:] for n in ("ours", "again")]
    assert decks[0] == decks[1] and ("classes = 3;" in decks[0][0]) == (name == "classes")
    with zipfile.ZipFile(tmp_path / "back.ckpt") as z:
        operations = list(pickletools.genops(z.read("back/data.pkl")))
        assert z.read("back/version") == b"3\n" and z.read("back/byteorder") == b"little"
        assert {i.compress_type for i in z.infolist()} == {zipfile.ZIP_STORED}  # PyTorch maps the file
    assert {argument for op, argument, _ in operations if op.name in ("GLOBAL", "STACK_GLOBAL")} == PUBLIC


def test_pytorch_loads_it(convert: Run, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    trained(convert, tmp_path, "dit")
    convert("export", "ours.h5", "back.ckpt")
    state = torch.load(tmp_path / "back.ckpt", weights_only=True)
    same({k: v.numpy() for k, v in state["state_dict"].items()}, hub("dit"))
    order = [k for k in state["state_dict"] if "rotary" not in k]
    ours = mdlm_h5.checkpoint(tmp_path / "ours.h5")
    for key, value in zip(order, state["ema"]["shadow_params"], strict=True):
        assert np.array_equal(value.numpy(), ours.parameter(key.removeprefix("backbone.")))


def test_settings_survive(convert: Run, tmp_path: Path) -> None:
    changes = {"parameterization": "d3pm", "T": 50, "subs_masking": True, "time_conditioning": True}
    words = trained(convert, tmp_path, "dit", **changes)
    for target in ("folder", "back.ckpt"):
        convert("export", "ours.h5", target, "--weights", "live")
        convert("import", target, "again.h5", "--tokenizer", words)
        decks = [(tmp_path / f"{n}.cfg").read_text().split("\n")[1:] for n in ("ours", "again")]
        assert decks[0] == decks[1], target


def test_importance_sampling_survives(convert: Run, tmp_path: Path) -> None:
    folder(tmp_path / "hub", hub("dit"), HUB | {"importance_sampling": True})
    words = tokenizer(tmp_path, 13, 4)
    convert("import", "hub", "ours.h5", "--tokenizer", words)
    for target in ("folder", "back.ckpt"):
        convert("export", "ours.h5", target)
        convert("import", target, "again.h5", "--tokenizer", words)
        assert mdlm_h5.checkpoint(tmp_path / "again.h5").deck["diffusion"]["time"] == "importance", target


def test_hub_config(convert: Run, tmp_path: Path) -> None:
    folder(tmp_path / "hub", hub("dit"), HUB)
    convert("import", "hub", "ours.h5", "--tokenizer", tokenizer(tmp_path, 13, 4))
    convert("export", "ours.h5", "back")
    same(read(tmp_path / "back/model.safetensors"), hub("dit") | rotary(8, 4))
    made = json.loads((tmp_path / "back/config.json").read_text())
    assert {k: made[k] for k in HUB} == HUB
    assert made["auto_map"]["AutoModelForMaskedLM"] == "kuleshov-group/mdlm-owt--modeling_mdlm.MDLM"
    assert "mlp_ratio is 2, which public code does not have" in convert("export", "ours.h5", "back")
    (tmp_path / "back/config.json").write_text("{}")
    assert "config.json: exists" in convert("export", "ours.h5", "back", fails=True)
    (tmp_path / "plain").write_text("")
    assert "name OUT.safetensors, OUT.ckpt or a folder" in convert("export", "ours.h5", "plain", fails=True)
    assert "no folder" in convert("export", "ours.h5", "no/such", fails=True)


def rotary(width: int, heads: int) -> dict[str, np.ndarray]:
    K = width // heads
    return {"backbone.rotary_emb.inv_freq": (10000.0 ** (-np.arange(0, K, 2) / K)).astype("f4")}


def test_gpt2_folder_there_and_back(convert: Run, tmp_path: Path) -> None:
    """The public weights have no mask: import adds its row, and the folder that export makes has none."""
    weights, _ = golden_gpt2()
    sizes = {"n_head": 2, "n_embd": 16, "n_layer": 2, "vocab_size": 13, "n_positions": 8}
    folder(tmp_path / "hub", weights, {"model_type": "gpt2"} | sizes)
    words = tokenizer(tmp_path, 13, None)
    convert("import", "hub", "ours.h5", "--tokenizer", words)
    convert("export", "ours.h5", "back")
    same(read(tmp_path / "back/model.safetensors"), {k: v for k, v in weights.items() if not k.endswith(".attn.bias")})
    made = json.loads((tmp_path / "back/config.json").read_text())
    assert {k: made[k] for k in sizes} == sizes and made["architectures"] == ["GPT2LMHeadModel"]
    convert("import", "back", "again.h5", "--tokenizer", words)
    assert bits(tmp_path / "again.h5") == bits(tmp_path / "ours.h5")
    assert "gpt2 is no network of the reference" in convert("export", "ours.h5", "x.ckpt", fails=True)
