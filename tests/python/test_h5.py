"""mdlm_h5: every file that mdlm writes, read; the three examples of its head; files that are refused."""

from __future__ import annotations

import re
from pathlib import Path

import h5py
import numpy as np
import pytest
from conftest import ROOT, Run, run_command
from weights import mdlm

import mdlm_h5

DECK = """
run: { dir = "a"; };
data: { train = "train.h5"; valid = "valid.h5"; };
model: { width = 16; blocks = 1; heads = 2; cond_dim = 8; };
train: {
  steps = 4; global_batch = 4; micro_batch = 2; warmup = 2; log_every = 1; valid_every = 2;
  layers_every = 2; sample_every = 2; sample_count = 2; ema_traces = "0.05,0.10";
};
sample: { count = 3; batch = 3; steps = 4; };
device: { threads = 1; };
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two runs, a and b, and an output of every command for a."""
    at = tmp_path_factory.mktemp("runs")
    text = "".join(f"the words of line {i} follow {i % 7} others\n" for i in range(120))
    (at / "text").write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(at)
        names = ("--out-train", "train.h5", "--out-valid", "valid.h5")
        made = ("text", "--tokenizer", "bpe:280", "--length", 16, "--valid-documents", 20, "--quiet", *names)
        run_command("mdlm_data.prepare", *made).check_returncode()
        (at / "deck.cfg").write_text(DECK)
        mdlm("train", "deck.cfg")
        mdlm("train", "deck.cfg", "run.dir=b", "model.name=ar", "diffusion.objective=ar", "train.sample_every=0")
        for name in "ab":
            more = ("model.name=ar", "diffusion.objective=ar") if name == "b" else ()
            for what in ("eval", "profile"):
                mdlm(what, "deck.cfg", f"run.dir={name}", f"eval.checkpoint={name}/last.h5", *more)
        mdlm("mix", "mixed.h5", "a/best.h5=0.25", "a/last.h5=0.75")
        mdlm("sample", "deck.cfg", "sample.checkpoint=a/last.h5")
        mdlm("sample", "deck.cfg", "sample.checkpoint=a/last.h5", "sample.count=2", "sample.output=a/two.h5")
        mdlm("score", "deck.cfg", "score.checkpoint=b/last.h5")
        mdlm("sweep", "deck.cfg", "sweep.checkpoints=a/last.h5", "sweep.seeds=1, 2")
    return at


def test_data_and_vocabulary(runs: Path) -> None:
    data = mdlm_h5.data(runs / "valid.h5")
    with h5py.File(runs / "valid.h5", locking=False) as f:
        assert np.array_equal(data.tokens(1, 3), f["tokens"][1:3]) and data.shape == f["tokens"].shape
        assert np.array_equal(data.lengths, f["lengths"]) and data.attributes["digest"] == f.attrs["digest"]
    v = data.vocabulary
    assert len(v.tokens) == v.attributes["size"] == 280 and v.tokens[v.attributes["mask"]] == b"[MASK]"
    ids = [t for t in data.tokens()[0] if t != v.attributes["bos"]]
    assert b"".join(v.tokens[t] for t in ids).decode() in (runs / "text").read_text().replace("\n", "")
    assert data.attributes["unigram_ppl_train"] > 1


def test_checkpoint(runs: Path) -> None:
    c = mdlm_h5.checkpoint(runs / "a/last.h5")
    assert (c.step, c.length, c.attributes["seed"]) == (4, 16, 1)
    assert {k: c.deck["run"][k] for k in ("dir", "seed", "resume")} == {"dir": "a", "seed": 1, "resume": "auto"}
    assert c.deck["train"]["lr"] == 3e-4 and c.deck["model"]["time_conditioning"] is False
    with h5py.File(runs / "a/last.h5", locking=False) as f:
        for group in ("params", "ema", "adam_m", "adam_v", "trace_1", "trace_2"):
            for name, shape in c.shapes.items():
                value = c.parameter(name, group)
                assert value.dtype == np.float32 and value.shape == shape and np.array_equal(value, f[group][name])
    with pytest.raises(mdlm_h5.FormatError, match="holds no ema/none"):
        c.parameter("none")


def test_mixed_checkpoint(runs: Path) -> None:
    mixed, best, last = (mdlm_h5.checkpoint(runs / name) for name in ("mixed.h5", "a/best.h5", "a/last.h5"))
    found = [(p.file, p.weights, p.step, p.weight) for p in mixed.parents]
    assert found == [("a/best.h5", "ema", best.step, 0.25), ("a/last.h5", "ema", 4, 0.75)] and last.parents == []
    assert all(re.fullmatch("[0-9a-f]{32}", p.digest) for p in mixed.parents)
    for name in mixed.shapes:
        one, two = (c.parameter(name).astype(float) for c in (best, last))
        assert np.array_equal(mixed.parameter(name), (0.25 * one + 0.75 * two).astype(np.float32))


def test_metrics_of_run_and_checkpoint(runs: Path) -> None:
    run, kept = mdlm_h5.metrics(runs / "a"), mdlm_h5.metrics(runs / "a/last.h5")
    assert run.train["loss"].steps.tolist() == [1, 2, 3, 4] and run.valid["nll"].steps.tolist() == [2, 4]
    assert run.train["loss"].unit == "nat/token" and run.train["loss"].description
    assert run.train.keys() == kept.train.keys() and run.valid.keys() == kept.valid.keys()
    for name, series in run.valid.items():
        assert np.array_equal(series.values, kept.valid[name].values, equal_nan=True)


def test_norms_and_samples_of_a_run(runs: Path) -> None:
    c = mdlm_h5.checkpoint(runs / "a/last.h5")
    for run in mdlm_h5.metrics(runs / "a"), mdlm_h5.metrics(runs / "a/last.h5"):
        assert run.layers.keys() == c.shapes.keys()
        for name, norms in run.layers.items():
            assert norms.weight.steps.tolist() == norms.update.steps.tolist() == [2, 4]
            assert norms.weight.values[-1] == pytest.approx(np.linalg.norm(c.parameter(name, "params").astype(float)))
            assert norms.gradient.description and (norms.gradient.values >= 0).all()
        gradient = np.sqrt(sum(n.gradient.values**2 for n in run.layers.values()))
        assert gradient == pytest.approx(run.train["grad_norm"].values[1::2])
        assert [d.step for d in run.samples] == [2, 4]
        for drawn in run.samples:
            assert drawn.tokens.shape == (2, 16) and drawn.tokens.min() >= 0 and drawn.tokens.max() < 280
    two = mdlm_h5.samples(runs / "a/two.h5")  # the same noise, and the same text
    assert np.array_equal(two.tokens, run.samples[-1].tokens) and two.text == run.samples[-1].text
    other = mdlm_h5.metrics(runs / "b")
    assert other.layers and other.samples == []


def test_outputs(runs: Path) -> None:
    e, s, q = (
        mdlm_h5.evaluation(runs / "a/eval.h5"),
        mdlm_h5.samples(runs / "a/samples.h5"),
        mdlm_h5.score(runs / "a/score.h5"),
    )
    for found in (e, q):
        assert found.nll == pytest.approx(found.attributes["nll"], rel=1e-12) and found.ppl == np.exp(found.nll)
        assert found.interval[0] < found.ppl < found.interval[1]
    assert len(e.losses) == mdlm_h5.data(runs / "valid.h5").shape[0] and e.entropy is None
    assert s.tokens.shape == (3, 16) and len(s.text) == 3 and all(isinstance(t, str) for t in s.text)
    assert len(s.entropy) == 3 and len(q.losses) == 3 and q.square is None
    assert np.array_equal(q.entropy, s.entropy)
    w = mdlm_h5.sweep(runs / "a/sweep")
    assert w.columns["seed"].tolist() == [1, 2] and set(w.columns["status"]) == {"done"}
    assert [w.values[n].nll for n in w.columns["name"]] == pytest.approx(w.columns["nll"].tolist(), rel=1e-12)


def test_profile(runs: Path) -> None:
    p, e = (mdlm_h5.profile(runs / "a/profile.h5"), mdlm_h5.evaluation(runs / "a/eval.h5"))
    assert np.array_equal(p.losses, e.losses) and p.nll == e.nll
    for bins in (p.share, p.position, p.frequency, p.distance):
        assert bins.loss.sum() == pytest.approx(p.nll, rel=1e-12) and bins.tokens.sum() == p.share.tokens.sum() > 0
        assert len(bins.loss) == len(bins.std) == len(bins.entropy) and (bins.low is None) == (bins is p.position)
    assert p.share.high.tolist() == pytest.approx([k / 10 for k in range(1, 11)]) and len(p.position.nll) == 16
    c = p.calibration
    assert c.tokens.shape == (10, 10) and np.array_equal(c.tokens.sum(1), p.share.tokens) and c.ece.shape == (10,)
    hits = np.nansum(c.tokens * c.accuracy) / c.tokens.sum()
    assert hits == pytest.approx(p.attributes["accuracy"]) and 0 <= p.attributes["ece"] <= 1
    assert p.residual.shape == (3,) and (p.residual > 0).all()
    q = mdlm_h5.profile(runs / "b/profile.h5")
    assert q.share is None and q.distance is None and q.calibration.tokens.shape == (1, 10)
    assert q.position.tokens[0] == 0 and np.isnan(q.position.nll[0]) and q.position.tokens.sum() == q.tokens.sum()


def test_the_examples_run(runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    """Those of the module's head, which analysis/README.md repeats."""
    code = "\n".join(line.strip() for line in mdlm_h5.__doc__.splitlines() if line.startswith("    "))
    (runs / "runs").mkdir()
    (runs / "runs/a").symlink_to(runs / "a")
    monkeypatch.chdir(runs)
    exec(code, {})
    loss, width, difference = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"4\.0 \d\.\d+ nat/token", loss) and width == "4 16 (280, 16)" and len(difference.split()) == 4
    readme = (ROOT / "analysis/README.md").read_text()
    assert all(line in readme for line in code.splitlines())


def test_strings_of_a_deck() -> None:
    text = 'a: { x = "; } \\"{"; y = -3; };\nb:\n{\n  z = 1e-06;\n  on = true;\n}\n'
    assert mdlm_h5.deck(text) == {"a": {"x": '; } "{', "y": -3}, "b": {"z": 1e-6, "on": True}}


def test_refusals(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"

    def refused(read: Run, **attributes: object) -> str:
        if attributes:
            with h5py.File(path, "w") as f:
                f.attrs.update(attributes)
        with pytest.raises(mdlm_h5.FormatError) as caught:
            read(path)
        assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)
        return str(caught.value)

    assert "no such file" in refused(mdlm_h5.checkpoint)
    path.write_bytes(b"nonsense")
    assert "cannot be read as mdlm-eval" in refused(mdlm_h5.evaluation)
    assert "has the format mdlm-data, not mdlm-samples" in refused(mdlm_h5.samples, format="mdlm-data")
    newer = {"format": "mdlm-data", "format_version": 2}
    assert "has version 2 of its format; get a newer mdlm_h5" in refused(mdlm_h5.data, **newer)
    assert "cannot be read as mdlm-sweep" in refused(mdlm_h5.sweep, format="mdlm-sweep")
    assert "holds no metrics" in refused(mdlm_h5.metrics, format="mdlm-metrics")
