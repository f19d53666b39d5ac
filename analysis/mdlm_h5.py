"""mdlm_h5: the HDF5 files of mdlm as NumPy arrays. One file, which needs NumPy and h5py only; copy it where you like.

    import mdlm_h5
    run = mdlm_h5.metrics("runs/a")                 # also while the run writes; or a checkpoint
    print(run.train["loss"].steps[-1], run.train["loss"].values[-1], run.train["loss"].unit)
    ckpt = mdlm_h5.checkpoint("runs/a/best.h5")
    print(ckpt.step, ckpt.deck["model"]["width"], ckpt.parameter("vocab_embed.embedding").shape)
    one, two = mdlm_h5.evaluation("a/eval.h5"), mdlm_h5.evaluation("b/eval.h5")
    print(one.ppl, one.interval, (one.losses - two.losses).sum() / one.tokens.sum())

A function per format, which the attribute `format` names: data, checkpoint, metrics, samples, evaluation, score, sweep.
Each reads the file and closes it, except for parameters of checkpoints and rows of data, which are read on demand. All
have `attributes`, the file's own by name. A file that is damaged, of another format or of a newer version is a
FormatError of one line. Checksums are not compared; `mdlm info FILE` does that.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

VERSION = 1  # of the formats that this file reads
Values = dict[str, Any]


class FormatError(Exception):
    """The file cannot be read as what it was taken for; one line that names it."""


@dataclass(frozen=True)
class Vocabulary:
    tokens: list[bytes]  # the bytes of every token, in the order of ids
    attributes: Values  # tokenizer, kind, hash, size, mask, bos, eos, pad


@dataclass(frozen=True)
class Series:
    steps: np.ndarray
    values: np.ndarray
    unit: str
    description: str


@dataclass(frozen=True)
class Metrics:
    train: dict[str, Series]
    valid: dict[str, Series]
    groups: tuple[str, ...]  # those of the file, also without a row
    attributes: Values


@dataclass(frozen=True)
class Data:
    path: Path
    shape: tuple[int, int]  # rows, length
    lengths: np.ndarray  # [N]: positions that are scored
    vocabulary: Vocabulary
    attributes: Values

    def tokens(self, first: int = 0, last: int | None = None) -> np.ndarray:
        """The token ids of rows first to last - 1, [n,L]."""
        with _opened(self.path, "mdlm-data") as f:
            return f["tokens"][first:last]


@dataclass(frozen=True)
class Checkpoint:
    path: Path
    step: int
    length: int
    deck: dict[str, Values]  # section → key → value
    shapes: dict[str, tuple[int, ...]]  # of the parameters, by name
    vocabulary: Vocabulary
    attributes: Values

    def parameter(self, name: str, group: str = "ema") -> np.ndarray:
        """A parameter as float32; group: ema, params (the live weights), adam_m or adam_v."""
        with _opened(self.path, "mdlm-checkpoint") as f:
            if name not in f.get(group, {}):
                raise FormatError(f"{self.path}: holds no {group}/{name}")
            return f[group][name][()]


@dataclass(frozen=True)
class Samples:
    tokens: np.ndarray  # [n,L]
    text: list[str]
    entropy: np.ndarray  # nat
    attributes: Values


@dataclass(frozen=True)
class Evaluation:
    """Of mdlm eval, and of mdlm score: sums over each sequence."""

    losses: np.ndarray  # nat
    tokens: np.ndarray  # scored
    square: np.ndarray | None  # of draws: sum of squared distances from their mean, nat²
    entropy: np.ndarray | None  # score: of the tokens of each row, nat
    attributes: Values

    @property
    def nll(self) -> float:
        """nat per token"""
        return float(self.attributes["nll"])

    @property
    def ppl(self) -> float:
        return float(np.exp(self.nll))

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of ppl."""
        return float(np.exp(self.attributes["nll_low"])), float(np.exp(self.attributes["nll_high"]))


@dataclass(frozen=True)
class Sweep:
    columns: dict[str, np.ndarray]  # one value a cell; text as str
    values: dict[str, Evaluation]  # by the name of a cell that is done
    attributes: Values


def data(path: str | Path) -> Data:
    with _opened(path, "mdlm-data") as f:
        return Data(Path(path), f["tokens"].shape, f["lengths"][()], _vocabulary(f), _attributes(f))


def checkpoint(path: str | Path) -> Checkpoint:
    with _opened(path, "mdlm-checkpoint") as f:
        a = _attributes(f)
        shapes = {name: tuple(d.shape) for name, d in f["params"].items()}
        return Checkpoint(Path(path), a["step"], a["length"], deck(a["deck"]), shapes, _vocabulary(f), a)


def metrics(path: str | Path, attempts: int = 20, wait: float = 0.1) -> Metrics:
    """Of a run's folder, a metrics.h5 or a checkpoint; read again while the run is just writing it."""
    file = Path(path) / "metrics.h5" if Path(path).is_dir() else Path(path)
    for attempt in range(attempts):
        try:
            with _opened(file, "mdlm-metrics", "mdlm-checkpoint") as f:
                root = f.get("metrics", f)
                groups = tuple(g for g in ("train", "valid") if g in root)
                found = {g: _series(root[g]) if g in groups and "step" in root[g] else {} for g in ("train", "valid")}
                return Metrics(found["train"], found["valid"], groups, _attributes(f))
        except FormatError as e:
            if attempt + 1 == attempts or not file.is_file() or not isinstance(e.__cause__, Exception):
                raise
            time.sleep(wait)
    raise AssertionError("attempts must be positive")


def samples(path: str | Path) -> Samples:
    with _opened(path, "mdlm-samples") as f:
        return Samples(f["tokens"][()], list(f["text"].asstr()[()]), f["entropy"][()], _attributes(f))


def evaluation(path: str | Path) -> Evaluation:
    with _opened(path, "mdlm-eval") as f:
        return _evaluation(f, _attributes(f))


def score(path: str | Path) -> Evaluation:
    with _opened(path, "mdlm-score") as f:
        return _evaluation(f, _attributes(f))


def sweep(path: str | Path) -> Sweep:
    """Of a sweep.h5 or its folder."""
    file = Path(path) / "sweep.h5" if Path(path).is_dir() else Path(path)
    with _opened(file, "mdlm-sweep") as f:
        columns = {name: d.asstr()[()] if d.dtype.kind == "O" else d[()] for name, d in f["cells"].items()}
        nll = dict(zip(columns["name"], columns["nll"]))
        done = {k: _evaluation(g, {"nll": nll.get(k, np.nan)} | _attributes(g)) for k, g in f.get("values", {}).items()}
        return Sweep(columns, done, _attributes(f))


# ---- parts of files


def deck(text: str) -> dict[str, Values]:
    """The sections of a deck as mdlm stores it: resolved, without includes."""
    word = re.compile(r'"((?:[^"\\]|\\.)*)"|#[^\n]*|//[^\n]*|([\w.+-]+)|([{}=:;])')
    found: dict[str, Values] = {}
    section, key = "", ""
    for quoted, bare, mark in (m.groups() for m in word.finditer(text)):
        if mark == "{":
            section, key = key, ""
            found.setdefault(section, {})
        elif mark == "}":
            section = ""
        elif mark in ("=", ":", ";"):
            key = "" if mark == ";" else key
        elif bare and not key:
            key = bare
        elif key and section and (bare or quoted is not None):
            found[section][key] = _value(bare) if bare else re.sub(r"\\(.)", r"\1", quoted)
    return found


def _value(word: str) -> Any:
    if word in ("true", "false"):
        return word == "true"
    try:
        return int(word.rstrip("L"))
    except ValueError:
        return float(word)


def _vocabulary(f: h5py.File) -> Vocabulary:
    raw, ends = f["vocab/bytes"][()].tobytes(), f["vocab/offsets"][()].tolist()
    return Vocabulary([raw[i:j] for i, j in zip(ends[:-1], ends[1:])], _attributes(f["vocab"]))


def _series(group: h5py.Group) -> dict[str, Series]:
    """Every series of a group with a finite value, as long as `step` is at this moment."""
    steps = group["step"][()]
    found = {}
    for name, at in group.items():
        values = at[()].astype(float) if isinstance(at, h5py.Dataset) and at.ndim == 1 else np.empty(0)
        n = min(len(steps), len(values))
        if name == "step" or np.isfinite(values[:n]).any():
            a = _attributes(at)
            found[name] = Series(steps[:n], values[:n], str(a.get("unit", "")), str(a.get("description", "")))
    return found


def _evaluation(f: h5py.Group, attributes: Values) -> Evaluation:
    square, entropy = (f[name][()] if name in f else None for name in ("square", "entropy"))
    return Evaluation(f["loss"][()], f["tokens"][()], square, entropy, attributes)


def _attributes(at: h5py.Group | h5py.Dataset) -> Values:
    """Attributes as str, int and float."""
    return {name: value.item() if isinstance(value, np.generic) else value for name, value in at.attrs.items()}


@contextmanager
def _opened(path: str | Path, *formats: str) -> Iterator[h5py.File]:
    """Without a lock, so that a running job never waits for a reader."""
    if not Path(path).is_file():
        raise FormatError(f"{path}: no such file")
    try:
        with h5py.File(path, "r", locking=False) as f:
            format, version = f.attrs.get("format"), int(f.attrs.get("format_version", VERSION))
            if format not in (None, *formats):
                raise FormatError(f"{path}: has the format {format}, not {' or '.join(formats)}")
            if version > VERSION:
                raise FormatError(f"{path}: has version {version} of its format; get a newer mdlm_h5")
            yield f
    except (OSError, RuntimeError, KeyError, ValueError) as e:  # what h5py raises for a damaged or half-written file
        raise FormatError(f"{path}: cannot be read as {formats[0]}: {e}") from e
