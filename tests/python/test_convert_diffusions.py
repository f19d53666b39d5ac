"""mdlm-convert: block diffusion (BD3-LM) and uniform noise (Duo, UDLM), in folders and checkpoints made here in the
public layout, against an independent network in NumPy."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from conftest import Run, run_command
from forward import block_logits, uniform_logits
from weights import Tensors, average, bits, folder, lightning, mdlm, read, tokenizer

import mdlm_h5
from mdlm_analysis.pytorch_file import pytorch_open
from mdlm_analysis.shapes import Sizes, transformer_shapes

V, L, HEADS, MASK = 13, 8, 2, 4
SIZES = Sizes(V, 16, 2, 64, 6, L)
SAMPLE = {"model_length": L, "hidden_dim": 16, "cond_dim": 6, "n_blocks": 2, "n_heads": HEADS, "dropout": 0.1}
BD3LM = SAMPLE | {"model_type": "bd3lm", "vocab_size": V, "block_size": 4, "cross_attn": True, "adaln": True}
BD3LM |= {"attn_backend": "flex", "causal": False, "time_conditioning": False, "var_min": True}
BD3LM |= {"sampling_eps_min": 1e-3, "sampling_eps_max": 0.999, "return_dict": False}
DUO = SAMPLE | {"model_type": "duo", "vocab_size": V, "causal": False, "var_min": True, "return_dict": False}
UDLM = SAMPLE | {"model_type": "udlm", "vocab_size": V, "time_conditioning": True, "cfg": False, "cfg_num_classes": -1}
MODEL = {"hidden_size": 16, "cond_dim": 6, "length": L, "n_blocks": 2, "n_heads": HEADS, "dropout": 0.1}
MODEL |= {"tie_word_embeddings": True, "attn_backend": "flex"}
TRAINING = {"ema": 0.9999, "sampling_eps": 1e-3, "sampling_eps_min": 1e-3, "sampling_eps_max": 1.0}
ALGO = {"backbone": "dit", "time_conditioning": False, "T": 0, "causal_attention": False, "ignore_bos": False}


def random_network(timed: bool = True, vocab: int = V) -> Tensors:
    """Weights by the public names without prefix, large enough that every part of the network counts."""
    r = np.random.default_rng(7)
    shapes = transformer_shapes(
        Sizes(vocab, *[getattr(SIZES, k) for k in ("width", "blocks", "mlp", "cond", "length")]), timed
    )
    made = {k: (r.normal(size=s) * (0.4 if len(s) > 1 else 0.3)).astype("f4") for k, s in shapes.items()}
    return {k: v + np.float32("norm" in k) for k, v in made.items()}


def public(w: Tensors, low: float | None = None, high: float = 1.0) -> Tensors:
    """As a state_dict: a prefix, the buffers of rotary embedding and of the clip."""
    made = {"backbone." + k: v for k, v in w.items()}
    K = SIZES.width // HEADS
    made["backbone.rotary_emb.inv_freq"] = (10000.0 ** (-np.arange(0, K, 2) / K)).astype("f4")
    ends = {} if low is None else {"sampling_eps_min": np.array(low, "f4"), "sampling_eps_max": np.array(high, "f4")}
    return made | ends


def noisy(blocks: bool) -> dict[str, np.ndarray]:
    r = np.random.default_rng(3)
    x = r.integers(5, V, (3, L)).astype("i4")
    t = np.array([0.0, 0.35, 1.0])
    if blocks:
        return {"x": x, "z": np.where(r.random((3, L)) < 0.5, MASK, x).astype("i4"), "t": t}
    return {"z": np.where(r.random((3, L)) < 0.5, r.integers(0, V, (3, L)), x).astype("i4"), "t": t}


def our_logits(at: Path, name: str, given: dict[str, np.ndarray], *keys: str) -> np.ndarray:
    with h5py.File(at / "in.h5", "w") as f:
        for k, v in given.items():
            f[k] = v
    files = {"checkpoint": f"{name}.h5", "input": "in.h5", "output": f"{name}_logits.h5"}
    mdlm("logits", at / f"{name}.cfg", *(f"logits.{k}={at / v}" for k, v in files.items()), *keys)
    with h5py.File(at / files["output"]) as f:
        return f["logits"][()]


def near(got: np.ndarray, want: np.ndarray) -> None:
    assert want.std() > 0.3 and np.abs(got - want).max() < 1e-5 * max(1, np.abs(want).max())


def deck_of(at: Path, name: str = "ours") -> dict:
    return mdlm_h5.deck((at / f"{name}.cfg").read_text())


def evaluated_and_sampled(at: Path, prepare: Run, words: str, name: str = "ours") -> None:
    """With the deck that import wrote alone."""
    (at / "text").write_text("w0 w1 w2 w3 w4 w5 w6 w7\n" * 9)
    prepare("text", "--tokenizer", words, "--length", L, "--out", "data.h5")
    files = {"checkpoint": f"{name}.h5", "data": "data.h5", "output": "eval.h5"}
    mdlm("eval", at / f"{name}.cfg", *(f"eval.{k}={at / v}" for k, v in files.items()))
    assert 0.1 < mdlm_h5.evaluation(at / "eval.h5").nll < 100
    made = (f"sample.checkpoint={at / name}.h5", f"sample.output={at / 'samples.h5'}", "sample.count=2")
    mdlm("sample", at / f"{name}.cfg", *made, "sample.steps=16")
    with h5py.File(at / "samples.h5") as f:
        assert f["tokens"].shape == (2, L) and (f["tokens"][()] != MASK).all()


def refused(convert: Run, at: Path, weights: Tensors, config: dict, *more: object) -> str:
    folder(at / "bad", weights, config)
    words = tokenizer(at, V, MASK)
    return convert("import", "bad", "no.h5", "--tokenizer", words, *more, fails=True)


# ---- networks


@pytest.mark.parametrize("size", [1, 2, 4, 8])
@pytest.mark.parametrize("timed", [True, False])
def test_blocks_have_the_logits_of_two_halves(convert: Run, tmp_path: Path, size: int, timed: bool) -> None:
    """With and without conditioning on time; one block that is the row is MDLM, which sees no clean half."""
    w = random_network(timed)
    folder(tmp_path / "hub", public(w, 0.45, 0.95), BD3LM | {"block_size": size, "adaln": timed})
    convert("import", "hub", "ours.h5", "--tokenizer", tokenizer(tmp_path, V, MASK))
    deck = deck_of(tmp_path)
    assert deck["model"]["name"] == ("dit" if timed else "ar")
    assert deck["diffusion"].get("block", 0) == (0 if timed and size == L else size)
    given = noisy(blocks=True)
    near(our_logits(tmp_path, "ours", given), block_logits(w, HEADS, given["z"], given["x"], size))


@pytest.mark.parametrize("config", [DUO, UDLM, DUO | {"model_type": "DUO"}], ids=["duo", "udlm", "variant"])
def test_uniform_noise_has_the_logits_of_the_noise_level(convert: Run, tmp_path: Path, config: dict) -> None:
    w = random_network()
    folder(tmp_path / "hub", public(w), config)
    printed = convert("import", "hub", "ours.h5", "--tokenizer", tokenizer(tmp_path, V, MASK))
    assert "their noise draws from all 13 tokens, mdlm's not from the mask, token 4" in printed
    given = noisy(blocks=False)
    near(our_logits(tmp_path, "ours", given), uniform_logits(w, HEADS, given["z"], 1 - (1 - 1e-3) * given["t"]))


def test_a_network_with_classes(convert: Run, tmp_path: Path) -> None:
    """mdlm logits gives it no class: the last row of the table."""
    w = random_network()
    table = np.random.default_rng(9).normal(size=(4, SIZES.cond)).astype("f4")
    labelled = w | {"cond_map.embedding_table.weight": table}
    folder(tmp_path / "hub", public(labelled), UDLM | {"cfg": True, "cfg_num_classes": 3})
    printed = convert("import", "hub", "ours.h5", "--tokenizer", tokenizer(tmp_path, V, MASK))
    assert "classes = 3;" in printed
    given = noisy(blocks=False)
    near(our_logits(tmp_path, "ours", given), uniform_logits(labelled, HEADS, given["z"], 1 - (1 - 1e-3) * given["t"]))


def test_uniform_noise_without_a_mask(convert: Run, prepare: Run, tmp_path: Path) -> None:
    """Where their vocabulary has no mask, import appends it: the noise is theirs, and export leaves it out again."""
    w = random_network()
    folder(tmp_path / "hub", public(w), DUO)
    words = tokenizer(tmp_path, V, None)
    assert "noise" not in convert("import", "hub", "ours.h5", "--tokenizer", words)
    given = noisy(blocks=False)
    got = our_logits(tmp_path, "ours", given)
    assert got.shape[2] == V + 1
    near(got[:, :, :V], uniform_logits(w, HEADS, given["z"], 1 - (1 - 1e-3) * given["t"]))
    convert("export", "ours.h5", "back")
    same_tensors(read(tmp_path / "back/model.safetensors"), public(w))
    assert json.loads((tmp_path / "back/config.json").read_text())["vocab_size"] == V
    evaluated_and_sampled(tmp_path, prepare, words)


def same_tensors(a: Tensors, b: Tensors) -> None:
    assert a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a)


def test_hubs_of_other_objectives(convert: Run, prepare: Run, tmp_path: Path) -> None:
    """BD3-LM's mdlm, sedd and ar, and Duo's ar: their config.json has no word for the objective."""
    words = tokenizer(tmp_path, V, MASK)
    plain, causal = BD3LM | {"cross_attn": False, "var_min": False}, {"causal": True, "adaln": False}
    cases = {
        "subs": (plain, True, ()),
        "sedd": (plain | TIMED, True, ("--objective", "sedd")),
        "ar": (plain | causal, False, ()),
        "ar of Duo": (DUO | {"causal": True}, False, ()),
    }
    for name, (config, timed, options) in cases.items():
        folder(tmp_path / name, public(random_network(timed)), config)
        convert("import", name, "ours.h5", "--tokenizer", words, *options)
        diffusion = deck_of(tmp_path)["diffusion"]
        assert diffusion["objective"] == name.split()[0] and "block" not in diffusion
        evaluated_and_sampled(tmp_path, prepare, words)


# ---- there and back


HUBS = {
    "blocks": (BD3LM, {"low": 0.45, "high": 0.95}, True),
    "plain cross entropy": (BD3LM | {"block_size": 2}, {"low": 0.55, "high": 1.0}, True),
    "blocks without clip": (BD3LM, {"low": 1e-3}, True),
    "blocks without conditioning": (BD3LM | {"adaln": False}, {"low": 0.3, "high": 0.8}, False),
    "uniform": (DUO, {}, True),
}


@pytest.mark.parametrize("name", HUBS)
def test_hub_there_and_back(convert: Run, prepare: Run, tmp_path: Path, name: str) -> None:
    config, clip, timed = HUBS[name]
    theirs = public(random_network(timed), **clip)
    folder(tmp_path / "hub", theirs, config)
    words = tokenizer(tmp_path, V, MASK)
    convert("import", "hub", "ours.h5", "--tokenizer", words)
    evaluated_and_sampled(tmp_path, prepare, words)
    assert "which public code does not have" not in convert("export", "ours.h5", "back")
    same_tensors(read(tmp_path / "back/model.safetensors"), theirs)
    made = json.loads((tmp_path / "back/config.json").read_text())
    unused = ("attn_backend", "var_min", "sampling_eps_min", "sampling_eps_max") + (() if timed else ("cond_dim",))
    told = [k for k in config if k not in unused]
    assert {k: made[k] for k in told} == {k: config[k] for k in told}
    if name != "uniform":
        assert made["auto_map"]["AutoModelForMaskedLM"].endswith("--modeling_bd3lm.BD3LM") and made["var_min"]
        assert [made["sampling_eps_min"], made["sampling_eps_max"]] == [clip["low"], clip.get("high", 1.0)]
    convert("import", "back", "again.h5", "--tokenizer", words)
    assert bits(tmp_path / "again.h5") == bits(tmp_path / "ours.h5")
    assert deck_of(tmp_path, "again") == deck_of(tmp_path)


@pytest.mark.parametrize("name", ["blocks", "plain cross entropy", "uniform"])
def test_lightning_there_and_back(convert: Run, tmp_path: Path, name: str) -> None:
    """A hub's folder to a .ckpt and back: every key of the deck and every bit of both sets of weights."""
    config, clip, timed = HUBS[name]
    folder(tmp_path / "hub", public(random_network(timed), **clip), config)
    words = tokenizer(tmp_path, V, MASK)
    convert("import", "hub", "ours.h5", "--tokenizer", words)
    convert("export", "ours.h5", "back.ckpt")
    convert("import", "back.ckpt", "again.h5", "--tokenizer", words)
    assert bits(tmp_path / "again.h5") == bits(tmp_path / "ours.h5")
    assert deck_of(tmp_path, "again") == deck_of(tmp_path)


def test_a_ckpt_has_the_buffers_of_the_clip(convert: Run, tmp_path: Path) -> None:
    folder(tmp_path / "hub", public(random_network(), 0.45, 0.95), BD3LM)
    convert("import", "hub", "ours.h5", "--tokenizer", tokenizer(tmp_path, V, MASK))
    convert("export", "ours.h5", "back.ckpt")
    state = pytorch_open(tmp_path / "back.ckpt")
    for place in (state, state["state_dict"]):
        low, high = (place[f"sampling_eps_{end}"] for end in ("min", "max"))
        assert low.shape == high.shape == () and (low.read(), high.read()) == (np.float32(0.45), np.float32(0.95))


def test_own_runs_are_exported(convert: Run, runs: Path, tmp_path: Path) -> None:
    """Trained here: blocks as BD3-LM, one block as MDLM, uniform noise as Duo, where the mask becomes improbable."""
    kinds = {"blocks": "bd3lm", "one block": "mdlm", "uniform": "duo"}
    words = tokenizer(tmp_path, V, MASK)
    for name, kind in kinds.items():
        printed = convert("export", runs / name / "last.h5", f"{kind} hub")
        assert ("schedule_eps is 0.001, which public code does not have" in printed) == (kind == "bd3lm")
        made = json.loads((tmp_path / f"{kind} hub/config.json").read_text())
        assert made["model_type"] == kind and made.get("block_size", 4) == 4
        convert("import", f"{kind} hub", f"{kind}.h5", "--tokenizer", words)
        convert("export", runs / name / "last.h5", f"{kind}.ckpt")
        convert("import", f"{kind}.ckpt", f"{kind} too.h5", "--tokenizer", words)
    theirs = read(tmp_path / "duo hub/model.safetensors")
    ours = mdlm_h5.checkpoint(runs / "uniform/last.h5")
    bias = theirs["backbone.output_layer.linear.bias"]
    assert bias[MASK] == -1e4 and np.array_equal(
        np.delete(bias, MASK), np.delete(ours.parameter("output_layer.linear.bias"), MASK)
    )


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of two steps."""
    at = tmp_path_factory.mktemp("runs")
    (at / "text").write_text("w0 w1 w2 w3 w4 w5 w6 w7\n" * 9)
    options = ("--tokenizer", tokenizer(at, V, MASK), "--length", L, "--out", at / "data.h5")
    run_command("mdlm_data.prepare", at / "text", *options).check_returncode()
    (at / "deck.cfg").write_text(
        f'data: {{ train = "{at}/data.h5"; valid = "{at}/data.h5"; }};\n'
        'model: { name = "dit"; width = 8; blocks = 1; heads = 2; cond_dim = 4; };\n'
        "train: { steps = 2; warmup = 0; global_batch = 2; micro_batch = 2; valid_every = 0; sample_every = 0; };\n"
    )
    changes = {"blocks": ("diffusion.block=4",), "one block": ("diffusion.block=8",)}
    changes["uniform"] = ("diffusion.objective=uniform", "model.time_conditioning=true")
    for name, keys in changes.items():
        mdlm("train", at / "deck.cfg", f"run.dir={at / name}", *keys)
    return at


# ---- hyper-parameters


def bd3lm_run(name: str = "bd3lm", word: str = "subs", **algo: object) -> dict:
    usual = {"name": name, "parameterization": word, "cross_attn": name == "bd3lm", "var_min": name == "bd3lm"}
    algo = ALGO | usual | {"mdlm_loss_scale": False} | algo
    return {"block_size": 4, "algo": algo, "model": MODEL, "noise": {"type": "loglinear"}, "training": TRAINING}


def duo_run(name: str, word: str, **algo: object) -> dict:
    algo = ALGO | {"name": name, "parameterization": word, "subs_masking": False, "loss_type": "elbo"} | algo
    noise = {"type": "log-linear", "eps": 2e-3}
    return {"algo": algo, "model": MODEL, "noise": noise, "prior": {"type": "none"}, "training": TRAINING}


def udlm_run(**changes: object) -> dict:
    run = {"diffusion": "uniform", "backbone": "dit", "parameterization": "d3pm", "time_conditioning": True, "T": 0}
    run |= {"subs_masking": False, "zero_recon_loss": True, "model": MODEL, "noise": {"type": "loglinear"}}
    return run | {"training": TRAINING} | changes


TIMED = {"time_conditioning": True}
CAUSAL = {"causal_attention": True}
RUNS = {
    "bd3lm": (bd3lm_run(), {"objective": "subs", "block": 4, "schedule_eps": 1e-9}),
    "one block": (bd3lm_run() | {"block_size": "${model.length}"}, {"objective": "subs", "schedule_eps": 1e-9}),
    "bd3lms mdlm": (bd3lm_run("mdlm"), {"objective": "subs", "schedule_eps": 1e-9}),
    "bd3lms old mdlm": (bd3lm_run("mdlm", mdlm_loss_scale=True), {"objective": "subs"}),
    "bd3lms sedd": (bd3lm_run("sedd", "sedd", **TIMED), {"objective": "sedd"}),
    "bd3lms ar": (bd3lm_run("ar", "ar", **CAUSAL), {"objective": "ar"}),
    "duo": (duo_run("duo", "mean", **TIMED), {"objective": "uniform", "schedule_eps": 2e-3}),
    "duo base": (duo_run("duo_base", "mean", **TIMED), {"objective": "uniform", "schedule_eps": 2e-3}),
    "distilled": (duo_run("distillation", "mean", T=64, **TIMED), {"objective": "uniform", "schedule_eps": 2e-3}),
    "duo mdlm": (
        duo_run("mdlm", "subs", loss_type="low_var"),
        {"objective": "subs", "weight": "one", "schedule_eps": 2e-3},
    ),
    "duo sedd": (duo_run("sedd", "score", **TIMED), {"objective": "sedd", "schedule_eps": 2e-3}),
    "duo d3pm": (duo_run("d3pm", "mean", T=50, **TIMED), {"objective": "d3pm", "T": 50, "schedule_eps": 2e-3}),
    "duo ar": (duo_run("ar", "ar", **CAUSAL), {"objective": "ar"}),
    "udlm": (udlm_run(), {"objective": "uniform"}),
}
KEYS = ("objective", "block", "T", "schedule_eps", "weight", "time", "clip_low", "clip_high")


@pytest.mark.parametrize("name", RUNS)
def test_every_run_is_evaluated_and_sampled(convert: Run, prepare: Run, tmp_path: Path, name: str) -> None:
    config, want = RUNS[name]
    w = random_network(want["objective"] != "ar")
    theirs = public(w, *((0.3, 0.8) if config.get("algo", {}).get("var_min") else ()))
    theirs |= {"teacher.vocab_embed.embedding": theirs["backbone.vocab_embed.embedding"]} if name == "distilled" else {}
    kept = {k: v for k, v in theirs.items() if k.startswith("backbone.")}
    lightning(tmp_path / "x.ckpt", theirs, average(kept), config)
    words = tokenizer(tmp_path, V, MASK)
    convert("import", "x.ckpt", "ours.h5", "--tokenizer", words)
    want = want | ({"time": "clip", "clip_low": 0.3, "clip_high": 0.8} if "sampling_eps_min" in theirs else {})
    diffusion = deck_of(tmp_path)["diffusion"]
    assert {k: diffusion[k] for k in KEYS if diffusion.get(k)} == want
    assert deck_of(tmp_path)["model"]["time_conditioning"] == (want["objective"] in ("uniform", "sedd", "d3pm"))
    evaluated_and_sampled(tmp_path, prepare, words)


def test_what_is_not_kept_is_told(convert: Run, tmp_path: Path) -> None:
    words = tokenizer(tmp_path, V, MASK)

    def printed(config: dict, *clip: float) -> str:
        theirs = public(random_network(), *clip)
        lightning(tmp_path / "x.ckpt", theirs, average({k: v for k, v in theirs.items() if "." in k}), config)
        return convert("import", "x.ckpt", "ours.h5", "--tokenizer", words)

    run = bd3lm_run(ignore_bos=True) | {"training": TRAINING | {"resample": True}}
    told = printed(run, 1e-3)
    assert "the first token of a row is given and not scored there" in told
    assert "training.resample is not kept" in told
    assert "trained at the time 1 alone" in printed(bd3lm_run(), 1.0, 1.0)
    assert "time" not in deck_of(tmp_path)["diffusion"]
    assert "masked with probability t there" in printed(bd3lm_run("sedd", "sedd", **TIMED))
    assert "its cosine masks" in printed(bd3lm_run() | {"noise": {"type": "cosine"}}, 1e-3)
    assert "algo.curriculum is not kept" in printed(duo_run("duo", "mean", **TIMED))
    told = printed(udlm_run(zero_recon_loss=False, T=100))
    assert "reconstruction term" in told and "in steps (T) becomes that of continuous time" in told


# ---- what does not fit


def test_hubs_that_are_refused(convert: Run, tmp_path: Path) -> None:
    whole = public(random_network(), 1e-3)
    lacking = {k: v for k, v in BD3LM.items() if k != "block_size"}
    assert "give --block" in refused(convert, tmp_path, whole, lacking)
    folder(tmp_path / "asked", whole, lacking)
    convert("import", "asked", "asked.h5", "--tokenizer", tokenizer(tmp_path, V, MASK), "--block", 2)
    assert deck_of(tmp_path, "asked")["diffusion"]["block"] == 2
    cases = {
        "blocks of 3 tokens do not divide a row of 8": {"block_size": 3},
        "block_size is 'x', not a whole number": {"block_size": "x"},
        "causal and adaln are true": {"causal": True},
        "causal, cross_attn and adaln are false": {"adaln": False, "cross_attn": False},
        "no block diffusion with time conditioning": {"time_conditioning": True},
        "give --objective": {"time_conditioning": True, "cross_attn": False},
    }
    for message, change in cases.items():
        assert message in refused(convert, tmp_path, whole, BD3LM | change), message
    for name in ("backbone.sigma_map.mlp.0.weight", "backbone.blocks.1.attn_out.weight"):
        assert "1 missing; " in refused(convert, tmp_path, {k: v for k, v in whole.items() if k != name}, BD3LM)
    classes = {"cfg": True, "cfg_num_classes": 3}
    assert "classes is 0, but bad/config.json says 3" in refused(convert, tmp_path, whole, UDLM | classes)
    assert "uniform noise with time conditioning only" in refused(
        convert, tmp_path, whole, UDLM | {"time_conditioning": False}
    )
    assert "bound of uniform noise in continuous time only" in refused(convert, tmp_path, whole, DUO, "--T", 5)
    assert "is for --objective subs, not uniform" in refused(convert, tmp_path, whole, DUO, "--block", 2)
    assert not list(tmp_path.glob("no.*"))


def test_runs_that_are_refused(convert: Run, tmp_path: Path) -> None:
    words = tokenizer(tmp_path, V, MASK)
    cases = {
        "blocks of 3 tokens do not divide a row of 8": bd3lm_run() | {"block_size": 3},
        "algo.name is esolm; mdlm-convert knows duo, ": duo_run("esolm", "subs"),
        "algo.name is other; mdlm-convert knows bd3lm, ": bd3lm_run("other"),
        "algo.name is mdlm, but causal_attention is true": duo_run("mdlm", "subs", **CAUSAL),
        "alpha = 1 - sin": duo_run("duo_base", "mean", **TIMED) | {"noise": {"type": "cosine"}},
        "noise schedule square; mdlm has": bd3lm_run() | {"noise": {"type": "square"}},
        "diffusion is uniform_data_marginals": udlm_run(diffusion="uniform_data_marginals"),
        "give --block": bd3lm_run() | {"block_size": "${resolved:elsewhere}"},
    }
    theirs = public(random_network())
    for message, config in cases.items():
        lightning(tmp_path / "x.ckpt", theirs, average(theirs), config)
        assert message in convert("import", "x.ckpt", "no.h5", "--tokenizer", words, fails=True), message


def test_networks_that_public_code_lacks(convert: Run, tmp_path: Path) -> None:
    folder(tmp_path / "hub", public(random_network(False), 1e-3), BD3LM | {"adaln": False})
    convert("import", "hub", "ours.h5", "--tokenizer", tokenizer(tmp_path, V, MASK))
    assert "without conditioning on time BD3-LM has blocks in its hub model only" in convert(
        "export", "ours.h5", "x.ckpt", fails=True
    )
    assert not (tmp_path / "x.ckpt").exists()
