"""mdlm_h5: the HDF5 files of mdlm as NumPy arrays. One file, which needs NumPy and h5py only; copy it where you like.

    import mdlm_h5
    run = mdlm_h5.metrics("runs/a")  # also while the run writes; or a checkpoint
    print(run.train["loss"].steps[-1], run.train["loss"].values[-1], run.train["loss"].unit)
    ckpt = mdlm_h5.checkpoint("runs/a/best.h5")
    print(ckpt.step, ckpt.deck["model"]["width"], ckpt.parameter("vocab_embed.embedding").shape)
    one, two = mdlm_h5.evaluation("a/eval.h5"), mdlm_h5.evaluation("b/eval.h5")
    print(one.ppl, one.interval, (one.losses - two.losses).sum() / one.tokens.sum())

A function per format: data, checkpoint, metrics, samples, evaluation, score, likelihood, profile,
sweep. Parameters of checkpoints and
rows of data are read on demand, all else at once. All have `attributes`, the file's own by name. A file that is damaged, of
another format or of a newer version is a FormatError of one line. Checksums are not compared; `mdlm info FILE` does that.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import h5py
import numpy as np

VERSION = 1  # of the formats that this file reads
GROUPS = ("params", "ema", "adam_m", "adam_v")
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
class Norms:
    """2-norms of one parameter, of its gradient before clipping, and of its change in a step (train.layers_every)."""

    weight: Series
    gradient: Series
    update: Series


@dataclass(frozen=True)
class Drawn:
    """What the moving average of a step makes of the noise and prompts of train.sample_every, always the same ones."""

    step: int
    tokens: np.ndarray  # [n,L]
    text: list[str]  # without bos, eos and pads; WordPiece words with one blank between them


@dataclass(frozen=True)
class Metrics:
    train: dict[str, Series]
    valid: dict[str, Series]
    attributes: Values
    layers: dict[str, Norms] = field(default_factory=dict)  # by parameter
    samples: list[Drawn] = field(default_factory=list)


@dataclass(frozen=True)
class Data:
    path: Path
    shape: tuple[int, int]  # rows, length
    lengths: np.ndarray  # [N]: positions that are scored
    vocabulary: Vocabulary
    attributes: Values
    labels: np.ndarray | None = None  # [N]: the class of each row, -1: unknown
    class_names: list[str] = field(default_factory=list)  # in the order of their numbers; empty: they have none

    def tokens(self, first: int = 0, last: int | None = None) -> np.ndarray:
        """The token ids of rows first to last - 1, [n,L]."""
        with _opened(self.path, "mdlm-data") as f:
            return f["tokens"][first:last]


@dataclass(frozen=True)
class Parent:
    """A checkpoint that mdlm mix made this one of."""

    file: str
    digest: str  # of its weights
    weights: str  # the group that was taken: ema, params, trace_1 or trace_2
    step: int
    weight: float


@dataclass(frozen=True)
class Checkpoint:
    path: Path
    step: int
    length: int
    deck: dict[str, Values]  # section → key → value
    shapes: dict[str, tuple[int, ...]]  # of the parameters, by name
    vocabulary: Vocabulary
    attributes: Values
    parents: list[Parent] = field(default_factory=list)  # of mdlm mix

    def parameter(self, name: str, group: str = "ema") -> np.ndarray:
        """A parameter as float32; group: ema, params (the live weights), adam_m, adam_v, trace_1 or trace_2."""
        with _opened(self.path, "mdlm-checkpoint") as f:
            if name not in f.get(group, {}):
                raise FormatError(f"{self.path}: holds no {group}/{name}")
            return f[group][name][()]

    def groups(self) -> dict[str, dict[str, tuple[int, ...]]]:
        """The groups of parameters in the file, with the shapes of what they hold."""
        with _opened(self.path, "mdlm-checkpoint") as f:
            return {g: {n: tuple(d.shape) for n, d in f[g].items()} for g in GROUPS if g in f}

    def blocks(self, name: str, group: str = "ema", size: int = 1 << 24) -> Iterator[np.ndarray]:
        """A parameter in the order of its values, in flat pieces of at most `size` bytes."""
        with _opened(self.path, "mdlm-checkpoint") as f:
            if name not in f.get(group, {}):
                raise FormatError(f"{self.path}: holds no {group}/{name}")
            if f[group][name].dtype.kind != "f":
                raise FormatError(f"{self.path}: {group}/{name} holds no real numbers")
            yield from _pieces(f[group][name], (), size)


@dataclass(frozen=True)
class Samples:
    tokens: np.ndarray  # [n,L]
    text: list[str]
    entropy: np.ndarray  # nat
    lengths: np.ndarray | None  # tokens up to the end of the text, of samples that may end early
    attributes: Values


@dataclass(frozen=True)
class Likelihood:
    """Of each request."""

    ll: np.ndarray  # nat
    stderr: np.ndarray  # nat, over draws
    is_greedy: np.ndarray  # 1, 0; -1: not asked
    draws: np.ndarray
    tokens: np.ndarray  # of the target
    cut: np.ndarray  # tokens left out at the beginning of the context
    attributes: Values


@dataclass(frozen=True)
class Losses:
    """Sums over each sequence."""

    losses: np.ndarray  # nat; mean over the draws
    tokens: np.ndarray  # scored
    square: np.ndarray | None  # of several draws: sum of squared distances from their mean, nat²

    @property
    def nll(self) -> float:
        """nat per token"""
        return float(self.losses.sum() / self.tokens.sum())

    @property
    def ppl(self) -> float:
        return exp(self.nll)


@dataclass(frozen=True)
class Evaluation(Losses):
    """Of mdlm eval, and of mdlm score."""

    entropy: np.ndarray | None  # score: of the tokens of each row, nat
    attributes: Values

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of ppl."""
        return exp(self.attributes["nll_low"]), exp(self.attributes["nll_high"])


@dataclass(frozen=True)
class Bins:
    """One value a bin; of an empty bin NaN, but 0 of tokens and loss."""

    low: np.ndarray | None  # edges of the bins: mask shares, distances, occurrences of a token; None: positions 0, 1, …
    high: np.ndarray | None
    tokens: np.ndarray  # predicted in all draws
    loss: np.ndarray  # what the bin adds to nll, nat per token
    nll: np.ndarray  # mean of -log p, without the weights of the bound, nat
    std: np.ndarray  # of -log p
    entropy: np.ndarray  # mean of the predictions, nat
    accuracy: np.ndarray
    confidence: np.ndarray  # mean probability of the likeliest token


@dataclass(frozen=True)
class Calibration:
    """[shares,10]: shares of masked tokens as in Profile.share (without masks one), tenths of the largest probability."""

    low: np.ndarray  # [10]
    high: np.ndarray
    tokens: np.ndarray
    accuracy: np.ndarray
    confidence: np.ndarray
    ece: np.ndarray  # [shares]: expected calibration error


@dataclass(frozen=True)
class Profile(Losses):
    """Of mdlm profile; attributes: ece, accuracy, confidence, prediction_entropy, variance_rows, variance_draws …"""

    share: Bins | None  # of masked tokens; None, as distance, where the next token is predicted
    position: Bins
    frequency: Bins  # the most frequent tenth first
    distance: Bins | None  # to the nearest visible token; the last bin: none is visible
    calibration: Calibration
    residual: np.ndarray  # root mean square of the residual stream after 0, 1, … branches, two a transformer's block
    attributes: Values


@dataclass(frozen=True)
class Sweep:
    columns: dict[str, np.ndarray]  # one value a cell; text as str
    values: dict[str, Losses]  # by the name of a cell that is done
    pairs: dict[str, np.ndarray]  # differences of cells a and b (their numbers): difference, low, high, se, p
    attributes: Values


def exp(nll: float) -> float:
    """The perplexity of nll nat a token; of a diverged run infinite."""
    with np.errstate(over="ignore"):
        return float(np.exp(nll))


def format_of(path: str | Path) -> str:
    """What a file is: mdlm-samples, mdlm-eval …; "" where it does not say."""
    with _opened(path) as f:
        return str(f.attrs.get("format", ""))


def data(path: str | Path) -> Data:
    with _opened(path, "mdlm-data") as f:
        labels, names = (f["label"][()], str(f["label"].attrs.get("names", ""))) if "label" in f else (None, "")
        shape, lengths = f["tokens"].shape, f["lengths"][()]
        return Data(
            Path(path), shape, lengths, _vocabulary(f), _attributes(f), labels, names.split("\n") if names else []
        )


def checkpoint(path: str | Path) -> Checkpoint:
    with _opened(path, "mdlm-checkpoint") as f:
        a = _attributes(f)
        shapes = {name: tuple(d.shape) for name, d in f["params"].items()}
        return Checkpoint(Path(path), a["step"], a["length"], deck(a["deck"]), shapes, _vocabulary(f), a, _parents(f))


def metrics(path: str | Path, patience: float = 2) -> Metrics:
    """Of a run's folder, a metrics.h5 or a checkpoint; read again, so many seconds long, while the run is just writing."""
    file, end = Path(path, "metrics.h5") if Path(path).is_dir() else Path(path), time.monotonic() + patience
    while True:
        try:
            with _opened(file, "mdlm-metrics", "mdlm-checkpoint") as f:
                root = f.get("metrics", f)
                if "train" not in root and "valid" not in root:
                    raise FormatError(f"{file}: holds no metrics (no group /train or /valid)")
                train, valid = (_series(root[g]) if "step" in root.get(g, {}) else {} for g in ("train", "valid"))
                return Metrics(train, valid, _attributes(f), _layers(root), _drawn(f, root))
        except FormatError as e:
            if time.monotonic() > end or not file.is_file() or e.__cause__ is None:  # no cause: whole, but another file
                raise
        time.sleep(0.1)


def samples(path: str | Path) -> Samples:
    with _opened(path, "mdlm-samples") as f:
        lengths = f["lengths"][()] if "lengths" in f else None
        return Samples(f["tokens"][()], list(f["text"].asstr()[()]), f["entropy"][()], lengths, _attributes(f))


def evaluation(path: str | Path) -> Evaluation:
    """Of mdlm eval or mdlm score."""
    with _opened(path, "mdlm-eval", "mdlm-score") as f:
        return Evaluation(*_losses(f), f["entropy"][()] if "entropy" in f else None, _attributes(f))


score = evaluation


def likelihood(path: str | Path) -> Likelihood:
    """Of mdlm likelihood."""
    with _opened(path, "mdlm-likelihood") as f:
        names = ("ll", "stderr", "is_greedy", "draws", "tokens", "cut")
        return Likelihood(*(f["results"][name][()] for name in names), _attributes(f))


def profile(path: str | Path) -> Profile:
    """Of a profile.h5."""
    with _opened(path, "mdlm-profile") as f:
        share, distance = (_bins(f[name]) if name in f else None for name in ("share", "distance"))
        calibration = Calibration(**{field.name: f["calibration"][field.name][()] for field in fields(Calibration)})
        parts = (share, _bins(f["position"]), _bins(f["frequency"]), distance, calibration)
        return Profile(*_losses(f), *parts, f["residual/rms"][()], _attributes(f))


def sweep(path: str | Path) -> Sweep:
    """Of a sweep.h5 or its folder."""
    with _opened(Path(path, "sweep.h5") if Path(path).is_dir() else path, "mdlm-sweep") as f:
        columns = {name: d.asstr()[()] if d.dtype.kind == "O" else d[()] for name, d in f["cells"].items()}
        values = {name: Losses(*_losses(g)) for name, g in f.get("values", {}).items()}
        return Sweep(columns, values, {name: d[()] for name, d in f.get("pairs", {}).items()}, _attributes(f))


# ---- parts of files


QUOTED = r'"(?:[^"\\]|\\.)*"'
SECTION = re.compile(rf'(\w+)\s*[:=]\s*\{{((?:{QUOTED}|[^"}}])*)\}}')
KEY = re.compile(rf"(\w+)\s*[:=]\s*({QUOTED}|[^;\s]+)")


def deck(text: str) -> dict[str, Values]:
    """The sections of a deck as mdlm stores it: resolved, without includes and comments."""
    return {name: {key: _value(word) for key, word in KEY.findall(body)} for name, body in SECTION.findall(text)}


def _value(word: str) -> Any:
    if word[0] == '"':
        return re.sub(r"\\(.)", r"\1", word[1:-1])
    if word in ("true", "false"):
        return word == "true"
    return int(word.rstrip("L")) if re.fullmatch(r"[+-]?\d+L*", word) else float(word)


def _vocabulary(f: h5py.File) -> Vocabulary:
    raw, ends = f["vocab/bytes"][()].tobytes(), f["vocab/offsets"][()].tolist()
    return Vocabulary([raw[i:j] for i, j in zip(ends[:-1], ends[1:])], _attributes(f["vocab"]))


def _losses(g: h5py.Group) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    return g["loss"][()], g["tokens"][()], g["square"][()] if "square" in g else None


def _bins(g: h5py.Group) -> Bins:
    edges = [g[name][()] if name in g else None for name in ("low", "high")]
    return Bins(*edges, *(g[field.name][()] for field in fields(Bins)[2:]))


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


def _pieces(at: h5py.Dataset, index: tuple[int, ...], size: int) -> Iterator[np.ndarray]:
    """What lies at an index, cut along the first axis that is left, and where one step is too large, along the next."""
    rest = at.shape[len(index) :]
    step = at.dtype.itemsize * int(np.prod(rest[1:], dtype=np.int64))
    if not rest:
        yield np.ravel(at[index])
    elif step > size and len(rest) > 1:
        for i in range(rest[0]):
            yield from _pieces(at, (*index, i), size)
    else:
        rows = max(1, size // max(step, 1))
        for first in range(0, rest[0], rows):
            yield np.ravel(at[(*index, slice(first, first + rows))])


def _parents(f: h5py.File) -> list[Parent]:
    if "parents" not in f:
        return []
    texts = (f["parents"][name].asstr()[()].tolist() for name in ("file", "digest", "weights"))
    numbers = (f["parents"][name][()].tolist() for name in ("step", "weight"))
    return [Parent(*values) for values in zip(*texts, *numbers)]


def _layers(root: h5py.Group) -> dict[str, Norms]:
    if "weight_norm" not in root:
        return {}
    weight, gradient, update = (_series(root[g]) for g in ("weight_norm", "gradient_norm", "update_norm"))
    return {
        n: Norms(weight[n], gradient[n], update[n]) for n in weight if n != "step" and n in gradient and n in update
    }


def _drawn(f: h5py.File, root: h5py.Group) -> list[Drawn]:
    """Those of which every token is there."""
    if "samples" not in root or not len(root["samples/token"]):
        return []
    columns = [root["samples"][name][()].astype(int) for name in ("step", "sample", "position", "token")]
    steps, sample, position, token = (c[: min(map(len, columns))] for c in columns)
    vocabulary, found = _vocabulary(f), []
    for step in np.unique(steps):
        at = steps == step
        n, length = sample[at].max() + 1, position[at].max() + 1
        if at.sum() == n * length:
            tokens = token[at].reshape(n, length)
            found.append(Drawn(int(step), tokens, [_text(vocabulary, row) for row in tokens]))
    return found


def _text(v: Vocabulary, ids: np.ndarray) -> str:
    hidden = {v.attributes[name] for name in ("bos", "eos", "pad")}
    pieces = [v.tokens[i] for i in ids if i not in hidden]
    words = v.attributes["kind"] == "wordpiece"
    if words:
        pieces = [p[2:] if p.startswith(b"##") else b" " + p for p in pieces]
    return b"".join(pieces).decode("utf-8", "replace").replace("\0", "\ufffd").strip(" " if words else "")


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
            if formats and format not in (None, *formats):
                raise FormatError(f"{path}: has the format {format}, not {' or '.join(formats)}")
            if version > VERSION:
                raise FormatError(f"{path}: has version {version} of its format; get a newer mdlm_h5")
            yield f
    except (
        OSError,
        RuntimeError,
        KeyError,
        ValueError,
        TypeError,
        AttributeError,
    ) as e:  # what h5py raises for a damaged or half-written file
        raise FormatError(f"{path}: cannot be read as {formats[0] if formats else 'HDF5'}: {e}") from e
