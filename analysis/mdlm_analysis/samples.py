"""Samples: generative perplexity against entropy, diversity, duplicates.

Give the files of mdlm sample and, for generative perplexities, those of mdlm score, in any order: a score belongs to the
samples whose rows have its token entropies. distinct-n: different n-grams of words over all; self-BLEU: mean BLEU-4 of a sample
with the others as references; both depend on the number of samples and are of the first --count. Duplicates: rows of tokens
that repeat an earlier one. In the figure lines join files that differ in one option only: steps, temperature, nucleus, guidance
or the number of a rule."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import mdlm_h5
from mdlm_analysis import diversity
from mdlm_analysis.result import Result
from mdlm_analysis.runs import distinct
from mdlm_analysis.table import Column, Table
from mdlm_data.errors import InputError, require

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

HELP = "generative perplexity against entropy, distinct-n, self-BLEU, duplicates"
EXAMPLE = "samples runs/a/steps-*.h5 runs/a/score-*.h5 -o samples.pdf"
OPTIONS = (  # in files without a deck
    "checkpoint_digest",
    "sampler",
    "steps",
    "temperature",
    "nucleus",
    "remask",
    "remask_eta",
    "kappa",
    "kappa_from",
    "hold",
    "hold_time",
    "num_strides",
    "draw",
)
NOT_OPTIONS = ("checkpoint", "output", "count", "batch", "cache")  # of section sample: they change no sample
CHAINED = (
    "steps",
    "temperature",
    "nucleus",
    "guidance",
    "threshold",
    "factor",
    "entropy_bound",
    "kappa",
    "remask_eta",
    "hold",
)
GRAMS = (1, 2, 3)


@dataclass(frozen=True)
class Group:
    """A file of samples with its score."""

    name: str
    samples: mdlm_h5.Samples
    score: mdlm_h5.Evaluation | None
    distinct: list[float]
    bleu: float
    duplicates: int

    @cached_property
    def options(self) -> dict[str, object]:
        """What the samples are drawn by: of the deck, which has all, where the file has one."""
        a = self.samples.attributes
        keys = mdlm_h5.deck(a["deck"]).get("sample", {}) if a.get("deck") else {}
        return {name: a.get(name) for name in OPTIONS} | {k: v for k, v in keys.items() if k not in NOT_OPTIONS}

    def option(self, name: str) -> object:
        return self.options.get(name)

    def others(self, option: str) -> tuple:
        """Its other options, for comparison."""
        return tuple(sorted((k, str(v)) for k, v in self.options.items() if k != option))

    @property
    def entropy(self) -> tuple[float, float, float]:
        """The mean over samples, and its 95 % interval."""
        x = self.samples.entropy
        half = 1.96 * x.std(ddof=1) / np.sqrt(len(x)) if len(x) > 1 else np.nan
        return float(x.mean()), float(x.mean() - half), float(x.mean() + half)

    @property
    def ppl(self) -> tuple[float, float, float]:
        return (self.score.ppl, *self.score.interval) if self.score else (np.nan, np.nan, np.nan)


def add_arguments(p: argparse.ArgumentParser) -> None:
    p.add_argument("files", nargs="+", type=Path, metavar="FILE", help="samples.h5 or score.h5")
    p.add_argument(
        "--count",
        type=int,
        default=0,
        metavar="N",
        help="samples for distinct-n and self-BLEU (default: as in the smallest file)",
    )


def run(o: argparse.Namespace) -> Result:
    groups, notes = read_groups(o.files, o.count)
    return Result(table(groups), lambda width: draw(groups, width), notes=tuple(notes))


# ---- reading


def read_groups(files: list[Path], count: int) -> tuple[list[Group], list[str]]:
    require(count >= 0, "--count: must not be negative")
    formats = {file: mdlm_h5.format_of(file) for file in files}
    for file, found in formats.items():
        if found not in ("mdlm-samples", "mdlm-score"):
            raise InputError(f"{file}: has the format {found or 'of another program'}, not mdlm-samples or mdlm-score")
    paths = [file for file in formats if formats[file] == "mdlm-samples"]
    require(paths, f"{files[0]}: is a score; name the samples, too")
    samples = [mdlm_h5.samples(path) for path in paths]
    require(all(len(s.text) for s in samples), "a file has no samples")
    most = min(len(s.text) for s in samples)
    require(count <= most, f"--count {count}: a file has {most} samples only")
    scores, notes = match(samples, paths, [file for file in formats if formats[file] == "mdlm-score"])
    groups = []
    for name, s, score in zip(distinct(paths), samples, scores):
        texts = [text.split() for text in s.text[: count or most]]
        diverse = [diversity.distinct(texts, n) for n in GRAMS]
        groups.append(Group(name, s, score, diverse, diversity.self_bleu(texts), diversity.duplicates(s.tokens)))
    return groups, [f"distinct-n and self-BLEU of {count or most} samples", *notes]


def match(
    samples: list[mdlm_h5.Samples], paths: list[Path], files: list[Path]
) -> tuple[list[mdlm_h5.Evaluation | None], list[str]]:
    """The score of each file of samples: that with the same entropies, by the same name where several have them."""
    found: list[mdlm_h5.Evaluation | None] = [None] * len(samples)
    notes = []
    for file in files:
        score = mdlm_h5.score(file)
        same = [i for i, s in enumerate(samples) if np.array_equal(s.entropy, score.entropy) and found[i] is None]
        named = [i for i in same if Path(score.attributes["input"]).name == paths[i].name]
        if same:
            found[(named or same)[0]] = score
        else:
            notes.append(f"{file}: is a score of other samples ({score.attributes['input']})")
    return found, notes


def table(groups: list[Group]) -> Table:
    columns = [Column("samples"), Column("sampler"), Column("steps", "", "d"), Column("temperature", "", ".3g")]
    columns += [Column("nucleus", "", ".3g"), Column("number", "", "d"), Column("evaluations", "", "d")]
    columns += [Column("tokens an evaluation", "", ".3g")]
    columns += [Column(name, "", ".4g") for name in ("gen. ppl", "ppl low", "ppl high")]
    columns += [Column(name, "nat", ".3f") for name in ("entropy", "entropy low", "entropy high")]
    columns += [Column(f"distinct-{n}", "", ".3f") for n in GRAMS]
    found = Table([*columns, Column("self-BLEU", "%", ".1f"), Column("duplicates", "", "d")])
    for g in groups:
        options = [g.option(name) for name in ("sampler", "steps", "temperature", "nucleus")]
        counts = [len(g.samples.text), *map(g.samples.attributes.get, ("evaluations", "tokens_per_evaluation"))]
        found.add(g.name, *options, *counts, *g.ppl, *g.entropy, *g.distinct, g.bleu, g.duplicates)
    return found


# ---- drawing


def chains(groups: list[Group]) -> list[tuple[str, list[Group]]]:
    """Files that differ in one option only, by its values; files that belong to no other are chains of one."""
    found: list[tuple[str, list[Group]]] = []
    for option in CHAINED:
        rest: dict[tuple, list[Group]] = {}
        for g in groups:
            rest.setdefault(g.others(option), []).append(g)
        several = [g for g in rest.values() if len({x.option(option) for x in g}) > 1]
        found += [(option, sorted(g, key=lambda x: x.option(option))) for g in several]
    chained = {id(g) for _, members in found for g in members}
    return found + [("", [g]) for g in groups if id(g) not in chained]


def draw(groups: list[Group], width: str) -> Figure:
    """Generative perplexity over entropy, where scores are given; self-BLEU over the option of each chain."""
    from mdlm_analysis import figure

    found = chains(groups)
    options = list(dict.fromkeys(option for option, members in found if option))
    scored = any(g.score for g in groups)
    panels = (1 if scored else 0) + 2 * len(options) + (0 if options else 1)
    drawing, axes = figure.panels(panels, width)
    rest = list(axes)
    if scored:
        _frontier(rest.pop(0), found)
    for option in options:
        mine = [(k, members) for k, (name, members) in enumerate(found) if name == option]
        _over(rest.pop(0), mine, option, "self-BLEU [%]", lambda g: g.bleu)
        _over(rest.pop(0), mine, option, "entropy of tokens [nat]", lambda g: g.entropy)
    if not options:
        _rows(rest.pop(0), groups)
    figure.legend(drawing, axes)
    return drawing


def title(members: list[Group]) -> str:
    return members[0].name if len(members) == 1 else f"{members[0].name} … {members[-1].name}"


def _points(ax: Axes, k: int, members: list[Group], x: list, y: list) -> None:
    """The files of a chain; x and y: values or (value, low, high)."""
    from mdlm_analysis import figure

    spread = {}
    for name, points in (("xerr", x), ("yerr", y)):
        if isinstance(points[0], tuple) and np.isfinite(points).all():
            spread[name] = [[p[0] - p[1] for p in points], [p[2] - p[0] for p in points]]
    x, y = ([p[0] if isinstance(p, tuple) else p for p in points] for points in (x, y))
    style = dict(
        color=figure.colour(k), marker=figure.marker(k), linestyle="-" if len(members) > 1 else "", elinewidth=0.6
    )
    ax.errorbar(x, y, label=title(members), **spread, **style)


def _frontier(ax: Axes, found: list[tuple[str, list[Group]]]) -> None:
    from mdlm_analysis import figure

    for k, (option, members) in enumerate(found):
        members = [g for g in members if g.score]
        if not members:
            continue
        _points(ax, k, members, [g.entropy for g in members], [g.ppl for g in members])
        for g in members if option else ():
            at = (g.entropy[0], g.ppl[0])
            ax.annotate(
                f"{g.option(option):g}", at, (3, 3), textcoords="offset points", fontsize=6, color=figure.colour(k)
            )
    ax.set_xlabel("entropy of tokens [nat]")
    ax.set_ylabel("generative perplexity")
    figure.log_scale(ax)


def _over(ax: Axes, found: list[tuple[int, list[Group]]], option: str, label: str, value: Callable) -> None:
    """A quantity over the option of the chains."""
    from mdlm_analysis import figure

    for k, members in found:
        _points(ax, k, members, [float(g.option(option)) for g in members], [value(g) for g in members])
    ax.set_xlabel(option)
    ax.set_ylabel(label)
    if option == "steps":
        figure.log_scale(ax, "x")


def _rows(ax: Axes, groups: list[Group]) -> None:
    from mdlm_analysis import figure

    for k, g in enumerate(groups):
        _points(ax, k, [g], [g.entropy], [k])
    figure.rows(ax, [g.name for g in groups], "entropy of tokens [nat]")
