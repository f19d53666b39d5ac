"""mdlm-plot: the data read, the panels drawn, runs that are still being written, bad input."""

from __future__ import annotations

import subprocess
import threading
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from conftest import command

from mdlm_analysis import figure
from mdlm_analysis.runs import read_run

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


@pytest.fixture
def drawn(monkeypatch, tmp_path: Path):
    """plot() with the figure left open; returns its visible panels by title."""
    monkeypatch.setattr(figure.pyplot, "close", lambda _: None)

    def draw(*folders: Path, **options: float) -> dict:
        out = tmp_path / "out.png"
        figure.plot([read_run(f) for f in folders], out, **options)
        assert out.read_bytes().startswith(b"\x89PNG") and out.stat().st_size > 10_000
        return {ax.get_title(loc="left"): ax for ax in figure.pyplot.gcf().axes if ax.get_visible()}

    yield draw
    monkeypatch.undo()
    figure.pyplot.close("all")


def test_all_panels(drawn, tmp_path: Path) -> None:
    panels = drawn(make_run(tmp_path / "a"), unigram=486.0)
    titles = {"Loss", "Perplexity", "Gradient norm", "Learning rate", "Speed", "Model FLOP utilisation"}
    assert panels.keys() == titles
    assert panels["Loss"].get_ylabel() == "loss [nat/token]" and panels["Loss"].get_xlabel() == "step"
    train, valid = panels["Loss"].lines
    assert train.get_ydata()[0] == 4 and len(train.get_xdata()) == 40
    assert valid.get_xdata().tolist() == [10, 20, 30, 40] and valid.get_ydata()[0] == 20.1
    assert [list(line.get_ydata()) for line in panels["Perplexity"].lines][-1] == [486, 486]
    legend = [t.get_text() for t in panels["Perplexity"].get_legend().get_texts()]
    assert legend == ["training", "validation", "unigram model, 486"]
    assert panels["Perplexity"].get_yscale() == "log" and len(panels["Perplexity"].collections) == 1  # the interval


def test_two_runs_are_told_apart(drawn, tmp_path: Path) -> None:
    panels = drawn(make_run(tmp_path / "a"), make_run(tmp_path / "b"), smooth=5)
    legend = [t.get_text() for t in panels["Loss"].get_legend().get_texts()]
    assert legend == ["a, training", "a, validation", "b, training", "b, validation"]
    assert len(panels["Learning rate"].lines) == 2  # never smoothed
    assert len(panels["Gradient norm"].lines) == 4  # per run: the points and their mean


def test_missing_and_unknown_series_are_left_out(drawn, tmp_path: Path) -> None:
    folder = make_run(tmp_path / "a", train=("loss", "weather"), valid=())
    with h5py.File(folder / "metrics.h5", "a") as f:
        put(f, "train/grad_norm", np.full(40, np.nan))  # recorded, but always NaN
    assert drawn(folder).keys() == {"Loss"}


def test_unequal_lengths_are_cut_to_the_shorter(drawn, tmp_path: Path) -> None:
    folder = make_run(tmp_path / "a", train=("loss", "lr"))
    with h5py.File(folder / "metrics.h5", "a") as f:
        f["train/loss"].resize((43,))  # the writer extends series one by one
        f["train/lr"].resize((38,))
    panels = drawn(folder)
    assert [len(panels[p].lines[0].get_xdata()) for p in ("Loss", "Learning rate")] == [40, 38]


def test_checkpoint_holds_the_same_series(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "a")
    with h5py.File(folder / "metrics.h5") as f, h5py.File(folder / "last.h5", "w") as g:
        f.copy(f["train"], g.create_group("metrics"))
    assert read_run(folder / "last.h5").train.keys() == read_run(folder).train.keys()


def test_smoothing_is_a_centred_mean_of_finite_values() -> None:
    assert figure.smoothed(np.array([1.0, 2, 6, 1]), 3).tolist() == [1.5, 3, 3, 3.5]
    assert figure.smoothed(np.array([1.0, np.nan, 3]), 3).tolist() == [1, 2, 3]
    assert figure.smoothed(np.array([5.0, 7]), 1).tolist() == [5, 7]


def test_half_written_file_is_read_again(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "a")
    whole = (folder / "metrics.h5").read_bytes()
    (folder / "metrics.h5").write_bytes(whole[: len(whole) // 3])

    def finish() -> None:
        time.sleep(0.3)
        (folder / "metrics.h5").write_bytes(whole)

    thread = threading.Thread(target=finish)
    thread.start()
    assert len(read_run(folder).train["loss"].values) == 40
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
