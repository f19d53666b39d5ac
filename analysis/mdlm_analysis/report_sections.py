"""The sections of a report: what each shows of the runs. A section of which the files hold nothing is left out."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

import numpy as np

import mdlm_h5
from mdlm_analysis import metrics
from mdlm_analysis.report_data import Contents, data_files
from mdlm_analysis.report_page import (
    Block,
    Card,
    PageFigure,
    PageTable,
    Section,
    duration,
    page_figure,
    page_table,
    plain,
    runs_table,
    visible,
)
from mdlm_analysis.report_profile import profile
from mdlm_analysis.report_samples import samples
from mdlm_analysis.svg import inline
from mdlm_analysis.table import Column, Table

MAIN_KEYS = (
    "model.name model.width model.blocks model.heads model.dropout diffusion.objective diffusion.schedule diffusion.T "
    "train.steps train.global_batch train.micro_batch train.lr train.lr_schedule train.warmup train.ema train.weight_decay "
    "run.seed run.init"
).split()
CURVES, SPEED = ("loss", "ppl", "grad_norm", "lr"), ("speed", "mfu")


def sections(runs: list[Contents], smooth: float, unigram: float | None) -> list[Section]:
    found = [
        ("Runs", _runs(runs) if len(runs) > 1 else []),
        ("Curves", _panels(runs, CURVES, smooth, unigram)),
        ("Validation", _validation(runs)),
        ("Profile", profile(runs)),
        ("Samples", samples(runs)),
        ("Configuration", _configuration(runs)),
        ("Data", _data(runs)),
        ("Speed", _speed(runs, smooth)),
        ("Checkpoints", _checkpoints(runs)),
        ("Environment", _environment(runs)),
    ]
    return [Section(title, blocks) for title, blocks in found if blocks]


# ---- overview


def progress(run: Contents) -> tuple[int, int]:
    """Steps taken, and of how many."""
    series = [*run.series.train.values(), *run.series.valid.values()]
    done = max((int(s.steps[-1]) for s in series if len(s.steps)), default=0)
    return done, int(run.keys.get("train.steps", 0))


def _evaluation(run: Contents) -> Any:
    """Of eval.h5, else of the only other file."""
    named = {file.name: e for file, e in run.evaluations.items()}
    return named.get("eval.h5", next(iter(named.values())) if len(named) == 1 else None)


def _seconds(run: Contents) -> float:
    return metrics.last(metrics.elapsed(metrics.values(run.series.train, "seconds")))


def _median_speed(run: Contents) -> float:
    found = metrics.finite(metrics.values(run.series.train, "tokens_per_s"))
    return float(np.median(found)) if len(found) else math.nan


def cards(run: Contents) -> list[Card]:
    """The results of a single run."""
    done, of = progress(run)
    best, at = metrics.lowest(run.series.valid.get("ppl"))
    tokens, speed, e = metrics.last(metrics.values(run.series.train, "tokens")), _median_speed(run), _evaluation(run)
    found = [Card("Steps", plain(done), "complete" if done == of else f"of {plain(of)}" if of else "")]
    if e:
        found.append(Card("Perplexity", f"{e.ppl:.4g}", f"95 % interval {_interval(*e.interval)}"))
    if math.isfinite(best):
        found.append(Card("Lowest validation", f"{best:.4g}", f"step {plain(int(at))}; optimistic"))
    if math.isfinite(tokens):
        found.append(Card("Tokens seen", f"{tokens:.4g}" if tokens >= 1e9 else plain(int(tokens))))
    if math.isfinite(speed):
        found.append(Card("Tokens per second", f"{speed:,.0f}", "median"))
    if math.isfinite(_seconds(run)):
        found.append(Card("Training time", duration(_seconds(run))))
    return found


def _interval(low: float, high: float) -> str:
    return f"{low:.4g} to {high:.4g}" if math.isfinite(low) else "unknown"


def _runs(runs: list[Contents]) -> list[Block]:
    columns = [Column("run"), Column("step", "", ","), Column("of", "", ","), Column("tokens", "", ",.0f")]
    columns += [Column("perplexity", "", ".4g"), Column("ci95 low", "", ".4g"), Column("ci95 high", "", ".4g")]
    columns += [Column("lowest validation", "", ".4g"), Column("at step", "", ",.0f")]
    table = Table([*columns, Column("speed", "token/s", ",.0f"), Column("time", "s", ",.0f")])
    for run in runs:
        e, tokens = _evaluation(run), metrics.last(metrics.values(run.series.train, "tokens"))
        measured = (e.ppl, *e.interval) if e else (math.nan,) * 3
        lowest = metrics.lowest(run.series.valid.get("ppl"))
        table.add(run.name, *progress(run), tokens, *measured, *lowest, _median_speed(run), _seconds(run))
    lines = ["The perplexity is that of eval.h5. Run mdlm compare to see whether two runs differ by more than chance."]
    return [Block(lines=lines, table=page_table(table, "Runs"))]


# ---- figures


def _panels(runs: list[Contents], names: tuple[str, ...], smooth: float, unigram: float | None) -> list[Block]:
    series = [run.series for run in runs]
    options = argparse.Namespace(x="steps", smooth=smooth, unigram=unigram)
    shown = []
    for name in names:
        panel = metrics.PANELS[name]
        found = metrics.sources(panel, series)
        if found and not metrics.constant(found):
            drawing = metrics.draw(series, [name], options, "column")
            about = "; ".join(dict.fromkeys(s.description for s in found if s.description))
            shown.append(
                PageFigure(inline(drawing, panel.title, name), f"{panel.title}: {about}" if about else panel.title)
            )
    return [Block(figures=shown)] if shown else []


# ---- validation


def _validation(runs: list[Contents]) -> list[Block]:
    blocks = [_evaluations(runs), _validations(runs), _scores(runs)]
    return [b for b in blocks if b]


def _evaluations(runs: list[Contents]) -> Block | None:
    columns = [Column("run"), Column("file"), Column("data"), Column("step", "", ",")]
    columns += [Column("perplexity", "", ".5g"), Column("ci95 low", "", ".5g"), Column("ci95 high", "", ".5g")]
    columns += [
        Column("nll", "nat/token", ".5f"),
        Column("bits", "bit/token", ".5f"),
        Column("bits per byte", "", ".4f"),
    ]
    columns += [
        Column("error of the masks", "nat/token", ".2g"),
        Column("sequences", "", ","),
        Column("tokens", "", ","),
    ]
    table = Table([*columns, Column("draws", "", ","), Column("estimator"), Column("weights")])
    for run in runs:
        for file, e in run.evaluations.items():
            a, bits = e.attributes, e.nll / math.log(2)
            by_byte = bits / a["bytes_per_token"] if a.get("bytes_per_token") else None
            sizes = len(e.tokens), int(e.tokens.sum())
            protocol = a.get("draws"), a.get("estimator"), a.get("weights")
            measured = (e.ppl, *e.interval, e.nll, bits, by_byte, mask_error(e))
            table.add(run.name, file.name, _source(a), a.get("step"), *measured, *sizes, *protocol)
    if not table.rows:
        return None
    lines = [
        "The 95 % interval says how well the perplexity of the text is known from which the rows were drawn. The error of "
        "the masks is the standard error of the value of these very rows; it needs two draws or more."
    ]
    shown = [_intervals(runs)] if sum(len(run.evaluations) for run in runs) > 1 else []
    return Block("Evaluations", lines=lines, table=runs_table(runs, table, "Evaluations"), figures=shown)


def _intervals(runs: list[Contents]) -> PageFigure:
    """Perplexities beside each other, an interval each."""
    rows = [(run.name, i, file.stem, e) for i, run in enumerate(runs) for file, e in run.evaluations.items()]

    def draw(ax: Any) -> None:
        from mdlm_analysis import figure

        for y, (_, i, _, e) in enumerate(rows):
            ax.plot(e.interval, [y, y], color=figure.colour(i), linewidth=2)
            ax.plot([e.ppl], [y], color=figure.colour(i), marker=figure.marker(i), markersize=4)
        files = len({file for _, _, file, _ in rows}) > 1
        ax.set_yticks(range(len(rows)), [f"{name}, {file}" if files else name for name, _, file, _ in rows])
        figure.verbatim(ax.get_yticklabels())
        ax.set_ylim(len(rows) - 0.5, -0.5)
        ax.set_xlabel("perplexity, 95 % interval")

    return page_figure("Evaluations", "Perplexities with their 95 % intervals", draw, 0.7 + 0.22 * len(rows))


def mask_error(e: Any) -> float:
    """Standard error of nll for these rows, whose masks are random (src/measure/interval.h)."""
    draws = int(e.attributes.get("draws", 1))
    if e.square is None or draws < 2:
        return math.nan
    return float(np.sqrt(e.square.sum() / (draws * (draws - 1))) / e.tokens.sum())


def _source(a: dict) -> str:
    return " ".join(str(a[k]) for k in ("source", "split") if a.get(k)) or str(a.get("data", ""))


def _validations(runs: list[Contents]) -> Block | None:
    names = {"ppl": "perplexity", "ppl_low": "ci95 low", "ppl_high": "ci95 high", "nll": "nll", "seconds": "time"}
    found = {name for run in runs for name in run.series.valid}
    extra = sorted(found - names.keys() - {"step"})
    columns = [Column("run"), Column("step", "", ",")] + [
        Column(title, {"nll": "nat/token", "seconds": "s"}.get(name, ""), ".5g")
        for name, title in [*names.items(), *((name, name) for name in extra)]
    ]
    table = Table(columns)
    for run in runs:
        valid = run.series.valid
        for k, step in enumerate(valid["step"].steps if "step" in valid else []):
            table.add(run.name, int(step), *(_at(valid, name, k) for name in [*names, *extra]))
    if not table.rows:
        return None
    title = "Validations during training"
    return Block(title, folded=len(table.rows) > 12, table=runs_table(runs, table, title))


def _at(part: dict, name: str, k: int) -> float:
    return float(part[name].values[k]) if name in part and k < len(part[name].values) else math.nan


def _scores(runs: list[Contents]) -> Block | None:
    columns = [Column("run"), Column("file"), Column("perplexity", "", ".5g"), Column("ci95 low", "", ".5g")]
    columns += [Column("ci95 high", "", ".5g"), Column("nll", "nat/token", ".5f")]
    table = Table([*columns, Column("sequences", "", ","), Column("tokens", "", ","), Column("under")])
    for run in runs:
        for file, s in run.scores.items():
            under = str(s.attributes.get("checkpoint", ""))
            table.add(run.name, file.name, s.ppl, *s.interval, s.nll, len(s.tokens), int(s.tokens.sum()), under)
    return (
        Block("Generative perplexity", table=runs_table(runs, table, "Generative perplexity")) if table.rows else None
    )


# ---- configuration and data


def _across(title: str, runs: list[str], rows: dict[str, list[Any]], caption: str, mark: bool) -> PageTable:
    """A row for each fact, a column for each run."""
    table = Table([Column(title), *(Column(name) for name in runs)])
    for name, cells in rows.items():
        table.add(name, *(_word(x) for x in cells))
    return page_table(table, caption, {n for n, cells in enumerate(rows.values()) if differ(cells)} if mark else ())


def differ(cells: list[Any]) -> bool:
    return any(x != cells[0] for x in cells)


def _word(x: Any) -> str:
    if isinstance(x, bool):
        return "yes" if x else "no"
    return "" if x is None else f"{x:.10g}" if isinstance(x, float) else str(x)


def _configuration(runs: list[Contents]) -> list[Block]:
    names = [run.name for run in runs]
    keys = list(dict.fromkeys(key for run in runs for key in run.keys))
    rows = {key: [run.keys.get(key) for run in runs] for key in keys}
    if not rows:
        return []
    if len(runs) > 1:
        some = {key: cells for key, cells in rows.items() if differ(cells) and key != "run.dir"}
        first = Block("What differs", table=_across("key", names, some, "What differs", mark=False))
        first = first if some else Block(lines=["The runs have the same configuration."])
    else:
        some = {key: rows[key] for key in MAIN_KEYS if rows.get(key, [""]) != [""]}
        first = Block(table=_across("key", names, some, "Main keys", mark=False))
    return [first, Block("All keys", folded=True, table=_across("key", names, rows, "All keys", mark=len(runs) > 1))]


def _data(runs: list[Contents]) -> list[Block]:
    """A column for each data set that differs from the others in what is known of it."""
    columns: dict[str, dict] = {}
    for run in runs:
        for role, facts in data_files(run).items():
            same = next(
                (name for name, other in columns.items() if other == facts and role == name.split(":")[0]), None
            )
            if same is None:
                name = role if role not in columns else f"{role}: {run.name}"
                columns[name] = facts
    facts = list(dict.fromkeys(fact for column in columns.values() for fact in column))
    if not facts:
        return []
    rows = {fact.replace("_", " "): [column.get(fact) for column in columns.values()] for fact in facts}
    rows = {fact: cells for fact, cells in rows.items() if any(x not in (None, "") for x in cells)}
    return [Block(table=_across("fact", list(columns), rows, "Data", mark=False))]


# ---- speed


def _speed(runs: list[Contents], smooth: float) -> list[Block]:
    blocks = _panels(runs, SPEED, smooth, None)
    timed = [run for run in runs if {"step_median", "step_slowest"} <= run.series.train.keys()]
    if not timed:
        return blocks
    caption = "Time of a step on the median rank and on the slowest one, waiting for other ranks left out"
    shown = page_figure("Time of a step", caption, lambda ax: _draw_steps(ax, timed))
    blocks = blocks or [Block()]
    blocks[0].figures.append(shown)
    stragglers = _stragglers(timed)
    return [*blocks, stragglers] if stragglers else blocks


def _draw_steps(ax: Any, runs: list[Contents]) -> None:
    from mdlm_analysis import figure

    for i, run in enumerate(runs):
        prefix = f"{run.name}, " if len(runs) > 1 else ""
        for name, dash in (("step_median", "-"), ("step_slowest", ":")):
            s = run.series.train[name]
            ax.plot(
                s.steps, s.values, color=figure.colour(i), linestyle=dash, label=prefix + name.removeprefix("step_")
            )
    ax.set_xlabel("step")
    ax.set_ylabel(figure.label("time of a step", runs[0].series.train["step_median"].unit))
    ax.set_ylim(bottom=0)


def _stragglers(runs: list[Contents]) -> Block | None:
    """How often which rank was the slowest, and by how much; nothing where only one rank ran."""
    columns = [Column("run"), Column("rank", "", ","), Column("slowest in", "%", ".1f")]
    table = Table([*columns, Column("behind the median rank", "%", ".1f"), Column("at most", "%", ".1f")])
    for run in runs:
        t = run.series.train
        if "slowest_rank" not in t:
            continue
        n = min(len(t[name].values) for name in ("slowest_rank", "step_median", "step_slowest"))
        rank, late = t["slowest_rank"].values[:n], t["step_slowest"].values[:n] / t["step_median"].values[:n] - 1
        good = np.isfinite(rank) & np.isfinite(late)
        if not (late[good] > 0).any():
            continue
        for r in np.unique(rank[good]):
            mine = late[good & (rank == r)]
            table.add(run.name, int(r), 100 * len(mine) / good.sum(), 100 * np.median(mine), 100 * mine.max())
    lines = ["Of the rows of metrics.h5: how often a rank was the slowest, and how much longer its steps then took."]
    return Block("Stragglers", lines=lines, table=runs_table(runs, table, "Stragglers")) if table.rows else None


# ---- checkpoints and environment


def _checkpoints(runs: list[Contents]) -> list[Block]:
    columns = [Column("run"), Column("file"), Column("step", "", ","), Column("tokens", "", ",")]
    columns += [Column("best validation so far", "ppl", ".5g"), Column("saved"), Column("size", "MB", ",.1f")]
    table = Table([*columns, Column("program")])
    for run in runs:
        for file, c in sorted(run.checkpoints.items(), key=lambda item: item[1].step):
            a = c.attributes
            best = mdlm_h5.exp(a["valid_nll"]) if math.isfinite(a.get("valid_nll", math.nan)) else None
            size = file.stat().st_size / 1e6
            table.add(run.name, file.name, c.step, a.get("tokens"), best, a.get("saved", ""), size, a.get("git", ""))
    return [Block(table=runs_table(runs, table, "Checkpoints"))] if table.rows else []


def _environment(runs: list[Contents]) -> list[Block]:
    rows: dict[str, list[Any]] = {}
    facts = [_facts(run) for run in runs]
    for name in dict.fromkeys(name for found in facts for name in found):
        rows[name] = [found.get(name) for found in facts]
    rows = {name: cells for name, cells in rows.items() if any(x not in (None, "") for x in cells)}
    names = [run.name for run in runs]
    blocks = [Block(table=_across("fact", names, rows, "Environment", mark=False))]
    unread = Table([Column("run"), Column("file"), Column("reason")])
    for run in runs:
        for name, reason in run.unread.items():
            unread.add(run.name, name, reason)
    if unread.rows:
        blocks.append(
            Block("Files that could not be read", table=runs_table(runs, unread, "Files that could not be read"))
        )
    return blocks


def _facts(run: Contents) -> dict[str, Any]:
    """What the files record of program and machine."""
    known = {name: value for name, value in run.attributes.items() if name in ("git", "version", "started")}
    programs = sorted({str(c.attributes["git"]) for c in run.checkpoints.values() if "git" in c.attributes})
    saved = max((str(c.attributes.get("saved", "")) for c in run.checkpoints.values()), default="")
    other = {k: v for k, v in run.attributes.items() if isinstance(v, str | int | float) and k in MACHINE}
    keys = {k: v for k, v in run.keys.items() if k.startswith(("device.", "dist.")) or k == "train.micro_batch"}
    return {
        "program": known.get("version"),
        "program's revision": known.get("git"),
        "revisions of the checkpoints": ", ".join(programs) if programs != [known.get("git")] else None,
        "last started": known.get("started"),
        "last saved": saved,
        "last job": _job(run.folder),
        **other,
        **keys,
    }


MACHINE = "ranks threads host hosts nodes machine device cpu gpu build mpi".split()


def _job(folder: Path) -> str:
    """What the lock file says: host and process of the job that last held the run."""
    try:
        return visible((folder / "lock").read_text(errors="replace")[:200].strip())
    except OSError:
        return ""
