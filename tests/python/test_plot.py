"""mdlm-analysis metrics and mdlm-plot: the data read, the panels drawn, runs that are being written, bad input."""

from __future__ import annotations

import csv
import subprocess
import threading
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from conftest import Call, command
from h5_files import make_checkpoint
from matplotlib.axes import Axes

from mdlm_analysis import cli, metrics
from mdlm_analysis.runs import distinct, read_runs

TRAIN = ("loss", "ppl", "grad_norm", "lr", "tokens", "masked_tokens", "tokens_per_s", "mfu", "seconds")
VALID = ("nll", "ppl", "ppl_low", "ppl_high")


def put(file: h5py.File, name: str, values: np.ndarray, unit: str = "") -> None:
    data = file.create_dataset(name, data=np.asarray(values, float), maxshape=(None,), chunks=(64,))
    data.attrs["unit"], data.attrs["description"] = unit, f"the {name}"


def make_run(folder: Path, train: tuple[str, ...] = TRAIN, valid: tuple[str, ...] = VALID, n: int = 40) -> Path:
    folder.mkdir()
    with h5py.File(folder / "metrics.h5", "w") as f:
        steps = np.arange(1, n + 1)
        put(f, "train/step", steps)
        put(f, "valid/step", steps[9::10])
        for name in train:
            put(f, f"train/{name}", 3 + 1 / steps, "nat/token" if name == "loss" else "")
        for name in valid:
            put(f, f"valid/{name}", 20 + 1 / steps[9::10])
    return folder


def run(*arguments: object, fails: bool = False) -> subprocess.CompletedProcess:
    done = subprocess.run(command("mdlm_analysis.plot", *arguments), capture_output=True, text=True, timeout=300)
    assert done.returncode == (2 if fails else 0), done.stderr
    return done


def drawn(*arguments: object, width: str = "page") -> dict[str, Axes]:
    """The panels of mdlm-analysis metrics, by the label of their vertical axis."""
    line = ["metrics", *map(str, arguments)]
    o = cli.parser(cli.load(line)).parse_args(line)
    return {ax.get_ylabel(): ax for ax in metrics.run(o).draw(width).axes}


def names(ax: Axes) -> list[str]:
    return [t.get_text() for legend in ax.figure.legends for t in legend.get_texts()]


def test_all_panels(tmp_path: Path) -> None:
    panels = drawn(make_run(tmp_path / "a"), "--unigram", 486)
    titles = {"loss [nat/token]", "perplexity", "gradient norm", "learning rate", "speed", "model FLOP utilisation"}
    assert panels.keys() == titles
    loss, ppl = panels["loss [nat/token]"], panels["perplexity"]
    assert loss.get_xlabel() == "step"
    train, valid = loss.lines
    assert train.get_ydata()[0] == 4 and len(train.get_xdata()) == 40
    assert valid.get_xdata().tolist() == [10, 20, 30, 40] and valid.get_ydata()[0] == 20.1
    assert [list(line.get_ydata()) for line in ppl.lines][-1] == [486, 486]
    assert names(loss) == ["training", "validation", "unigram model, 486"]
    assert ppl.get_yscale() == "log"


def test_intervals_of_loss_and_perplexity(tmp_path: Path) -> None:
    panels = drawn(make_run(tmp_path / "a"))
    for label, scale in (("perplexity", np.asarray), ("loss [nat/token]", np.log)):
        (band,) = panels[label].collections
        ends = band.get_paths()[0].vertices[:, 1]
        assert (ends.min(), ends.max()) == (scale(20 + 1 / 40), scale(20.1))


def test_two_runs_are_told_apart(tmp_path: Path) -> None:
    panels = drawn(make_run(tmp_path / "a"), make_run(tmp_path / "b"), "--smooth", 5)
    loss = panels["loss [nat/token]"]
    assert names(loss) == ["a, training", "a, validation", "b, training", "b, validation"]
    assert len(panels["learning rate"].lines) == 2  # never smoothed
    assert len(panels["gradient norm"].lines) == 4  # per run: the points and their mean
    assert len({line.get_color() for line in loss.lines}) == 2


def test_names_are_the_shortest_that_differ() -> None:
    def of(*files: str) -> list[str]:
        return distinct([Path("/r", f) for f in files])

    assert of("a/metrics.h5", "b/metrics.h5") == ["a", "b"]
    assert of("x/a/metrics.h5", "y/a/metrics.h5", "y/b/metrics.h5") == ["x/a", "y/a", "b"]
    assert of("a/metrics.h5", "a/last.h5", "b/last.h5") == ["a", "a/last", "b/last"]
    assert of("x/s/t/a/metrics.h5", "y/s/t/a/metrics.h5") == ["x/…/a", "y/…/a"]
    assert len(set(of(*(f"{x}/s/{y}/a/b/metrics.h5" for x in "pq" for y in "uv")))) == 4


def test_any_name_can_be_drawn(tmp_path: Path, analysis: Call) -> None:
    files = [make_run(tmp_path / name) for name in ("a$b$\\frac", "_c", "d$")]
    assert names(drawn(*files)["loss [nat/token]"])[::2] == ["a$b$\\frac, training", "./_c, training", "d$, training"]
    analysis("metrics", *files, "-o", tmp_path / "x.svg", "--panels", "loss")


def test_missing_and_unknown_series_are_left_out(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "a", train=("loss", "weather"), valid=())
    with h5py.File(folder / "metrics.h5", "a") as f:
        put(f, "train/grad_norm", np.full(40, np.nan))  # recorded, but always NaN
    assert drawn(folder).keys() == {"loss [nat/token]"}


def test_a_constant_has_no_panel(tmp_path: Path, analysis: Call) -> None:
    folder = make_run(tmp_path / "a", train=("loss", "ppl"))
    with h5py.File(folder / "metrics.h5", "a") as f:
        put(f, "train/lr", np.full(40, 3e-4))
    assert drawn(folder).keys() == {"loss [nat/token]", "perplexity"}
    assert "no panel for learning rate, which is constant" in analysis("metrics", folder)
    assert "nothing that changes has been recorded" in analysis("metrics", folder, "--panels", "lr", fails=True)
    assert drawn(folder, "--panels", "ppl").keys() == {"perplexity"}
    assert "no panel losses; there are loss,ppl" in analysis("metrics", folder, "--panels", "losses", fails=True)


def test_horizontal_axes(tmp_path: Path, analysis: Call) -> None:
    folder = make_run(tmp_path / "a", train=("loss",))
    with h5py.File(folder / "metrics.h5", "a") as f:
        put(f, "train/tokens", 100.0 * np.arange(1, 41))
        put(f, "train/seconds", [*range(1, 21), *range(1, 21)])  # resumed after step 20
    ax = drawn(folder, "--x", "tokens")["loss [nat/token]"]
    assert ax.get_xlabel() == "tokens" and ax.lines[1].get_xdata().tolist() == [1000, 2000, 3000, 4000]
    ax = drawn(folder, "--x", "seconds")["loss [nat/token]"]
    assert ax.get_xlabel() == "training time [s]" and ax.lines[0].get_xdata().tolist() == list(range(1, 41))
    assert "no checkpoint beside it" in analysis(
        "metrics", folder, "--x", "flops", "-o", tmp_path / "x.png", fails=True
    )
    make_checkpoint(folder / "last.h5")  # 16·8 + 8 parameters and an embedding
    ax = drawn(folder, "--x", "flops")["loss [nat/token]"]
    assert ax.get_xlabel() == "compute 6·N·D [FLOP]"
    assert list(ax.lines[1].get_xdata()) == pytest.approx([6 * 136 * n for n in (1000, 2000, 3000, 4000)])
    bare = make_run(tmp_path / "b", train=("loss",))
    message = analysis("metrics", bare, "--x", "seconds", "-o", tmp_path / "x.png", fails=True)
    assert "records no seconds; use --x steps" in message


def test_unequal_lengths_are_cut_to_the_shorter(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "a", train=("loss", "lr"))
    with h5py.File(folder / "metrics.h5", "a") as f:
        f["train/loss"].resize((43,))  # the writer extends series one by one
        f["train/lr"].resize((38,))
    panels = drawn(folder)
    assert [len(panels[p].lines[0].get_xdata()) for p in ("loss [nat/token]", "learning rate")] == [40, 38]


def test_checkpoint_holds_the_same_series(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "a")
    with h5py.File(folder / "metrics.h5") as f, h5py.File(folder / "last.h5", "w") as g:
        f.copy(f["train"], g.create_group("metrics"))
    run, kept = read_runs([folder, folder / "last.h5"])
    assert kept.train.keys() == run.train.keys()


def test_smoothing_is_a_centred_mean_of_finite_values() -> None:
    assert metrics.smoothed(np.array([1.0, 2, 6, 1]), 3).tolist() == [1.5, 3, 3, 3.5]
    assert metrics.smoothed(np.array([1.0, np.nan, 3]), 3).tolist() == [1, 2, 3]
    assert metrics.smoothed(np.array([5.0, 7]), 1).tolist() == [5, 7]


def test_half_written_file_is_read_again(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "a")
    whole = (folder / "metrics.h5").read_bytes()
    (folder / "metrics.h5").write_bytes(whole[: len(whole) // 3])

    def finish() -> None:
        time.sleep(0.3)
        (folder / "metrics.h5").write_bytes(whole)

    thread = threading.Thread(target=finish)
    thread.start()
    assert len(read_runs([folder])[0].train["loss"].values) == 40
    thread.join()


def test_locked_file_is_read_and_not_locked(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "a")
    with h5py.File(folder / "metrics.h5", "a") as writer:  # holds the lock
        writer.flush()
        assert run(folder).stdout == f"{folder / 'metrics.png'}\n"


def test_command_line(tmp_path: Path) -> None:
    a, b, out = make_run(tmp_path / "a"), make_run(tmp_path / "b"), tmp_path / "both.png"
    done = run(a, b / "metrics.h5", "-o", out, "--smooth", 5, "--unigram", 486)
    assert done.stdout == f"{out}\n" and out.stat().st_size > 10_000 and done.stderr == ""


@pytest.mark.parametrize("kind, magic", [("png", b"\x89PNG"), ("pdf", b"%PDF"), ("svg", b"<?xml")])
def test_figure_and_numbers(tmp_path: Path, analysis: Call, kind: str, magic: bytes) -> None:
    folder, out = make_run(tmp_path / "a"), tmp_path / f"x.{kind}"
    analysis("metrics", folder, "-o", out, "--width", "column", "--panels", "loss")
    first = out.read_bytes()
    assert first.startswith(magic)
    rows = list(csv.DictReader(out.with_suffix(".csv").open()))
    with h5py.File(folder / "metrics.h5") as f:
        for part, name in (("train", "loss"), ("valid", "nll"), ("valid", "ppl_low")):
            mine = [r for r in rows if (r["part"], r["series"]) == (part, name)]
            assert [float(r["value"]) for r in mine] == f[part][name][()].tolist()
            assert [int(r["step"]) for r in mine] == f[part]["step"][()].tolist()
    analysis("metrics", folder, "-o", out, "--width", "column", "--panels", "loss")
    assert out.read_bytes() == first


def test_summary(tmp_path: Path, analysis: Call) -> None:
    rows = list(csv.DictReader(analysis("metrics", make_run(tmp_path / "a"), "--format", "csv").splitlines()))
    assert len(rows) == 1 and rows[0]["run"] == "a" and float(rows[0]["step"]) == 40
    assert float(rows[0]["training loss [nat/token]"]) == 3 + 1 / 40
    assert float(rows[0]["lowest ppl"]) == 20 + 1 / 40 and float(rows[0]["at step"]) == 40


@pytest.mark.parametrize("what", ["nowhere", "garbage", "other", "empty", "unwritable"])
def test_bad_input(tmp_path: Path, what: str) -> None:
    path, out = tmp_path / what, tmp_path / "out.png"
    if what == "garbage":
        path.write_bytes(b"not HDF5" * 100)
    elif what == "unwritable":
        path, out = make_run(path), tmp_path / "nowhere" / "out.png"
    elif what != "nowhere":
        with h5py.File(path, "w") as f:
            f.create_group("train" if what == "empty" else "params")
    error = run(path, "-o", out, fails=True).stderr
    assert error.startswith("mdlm-plot: error: ") and error.count("\n") == 1
    assert not out.exists()
